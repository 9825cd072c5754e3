"""What a scenario says of JSON: values to send, with names to be filled in, and patterns that what arrives must fit.

Knows plain JSON values and a table of names; it never talks to anything. In what is sent, `"$user"` is the value of
that name, made up where it has none yet. In what is expected, `"$id"` is the value of the name, which is taken from
what arrived where it has none yet; `"<seconds>"` and its kind are rules; `{"==": …}` is exactly that value, `{"in":
[…]}` any of those, `{"all": […]}` each of them, `{"begins": …}` a text that begins so, and `{"!=": …}`, `{">": …}`,
`{">=": …}`, `{"<=": …}` are what they say. An object fits where all fields of the pattern do: further fields are
welcome, as the contract has it. A list fits as a whole.
"""

import ipaddress
import json
import re
from collections.abc import Callable
from typing import Any, Final

Json = dict[str, Any]

_NAME: Final = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_RULE: Final = re.compile(r"<([a-z0-9 |_-]+)>")
_CLOCK: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_LONG: Final = re.compile(r"<(.)\*(\d+)>")


class MisfitError(Exception):
    """What arrived doesn't fit; the text says which field, what it should be and what it is."""


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _address(value: object) -> bool:
    try:
        found = ipaddress.ip_address(str(value).strip("[]"))
    except ValueError:
        return False
    return not found.is_unspecified


# Times are between 2001 and 2286 in the unit that is meant: the other unit is a factor of 1,000 away.
RULES: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "any": ("there", lambda value: True),
    "text": ("a text", lambda value: isinstance(value, str)),
    "filled": ("a text that isn't empty", lambda value: isinstance(value, str) and value != ""),
    "object": ("an object", lambda value: isinstance(value, dict)),
    "list": ("a list", lambda value: isinstance(value, list)),
    "number": ("a number", _number),
    "whole": ("a whole number", _whole),
    "positive": ("a number above 0", lambda value: _number(value) and value > 0),
    "port": ("a port", lambda value: _whole(value) and 0 < value < 65536),
    "host": (
        "a host that can be connected to",
        lambda value: isinstance(value, str) and value not in ("", "0.0.0.0", "::", "[::]"),
    ),
    "address": ("an address that can be connected to", _address),
    "ws-url": ("a ws:// or wss:// address", lambda value: bool(re.match(r"wss?://[^/]+", str(value)))),
    "seconds": ("a time in seconds", lambda value: _number(value) and 1e9 <= value < 1e10),
    "milliseconds": ("a time in milliseconds", lambda value: _whole(value) and 1e12 <= value < 1e13),
    "clock": ("a local time as 2025-10-20 15:30:45", lambda value: bool(_CLOCK.fullmatch(str(value)))),
    "within": ("retry_within_ms=<number>", lambda value: bool(re.fullmatch(r"retry_within_ms=\d+", str(value)))),
    "metrics": ("text that Prometheus reads", lambda value: str(value).startswith(("text/plain", "application/openm"))),
    "null": ("null", lambda value: value is None),
    "absent": ("absent", lambda value: False),
}


def shown(value: object, limit: int = 200) -> str:
    """A value as it may stand in a report: JSON in ASCII, at most `limit` characters."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class Names:
    """The names of one scenario and their values; `fresh` makes a value that nobody else has."""

    def __init__(self, fresh: Callable[[str], str], given: Json | None = None) -> None:
        self._fresh = fresh
        self.values: Json = dict(given or {})

    def fill(self, value: Any) -> Any:
        """What is to be sent, with every name replaced; a name without a value is given a fresh one."""
        if isinstance(value, dict):
            return {self._text(name): self.fill(member) for name, member in value.items()}
        if isinstance(value, list):
            return [self.fill(member) for member in value]
        return self._text(value) if isinstance(value, str) else value

    def _value(self, name: str) -> Any:
        if name not in self.values:
            self.values[name] = self._fresh(name)
        return self.values[name]

    def _text(self, text: str) -> Any:
        if (long := _LONG.fullmatch(text)) is not None:
            return long[1] * int(long[2])
        if (whole := _NAME.fullmatch(text)) is not None:
            return self._value(whole[1] or whole[2])
        return _NAME.sub(lambda found: str(self._value(found[1] or found[2])), text)

    def fit(self, what: str, pattern: Any, got: Any) -> None:
        """Hold `got` against a pattern, and take the names from it that have no value yet.

        `what` is what a failure calls it. Raises MisfitError at the first thing that doesn't fit.
        """
        if isinstance(pattern, dict):
            self._fit_object(what, pattern, got)
        elif isinstance(pattern, list):
            if not isinstance(got, list) or len(got) != len(pattern):
                raise MisfitError(f"{what} should be {shown(pattern)}, is {shown(got)}")
            for index, (member, found) in enumerate(zip(pattern, got, strict=True)):
                self.fit(f"{what}[{index}]", member, found)
        elif isinstance(pattern, str):
            self._fit_text(what, pattern, got)
        else:
            self._same(what, pattern, got)

    def _fit_object(self, what: str, pattern: Json, got: Any) -> None:
        if "==" in pattern:
            self._same(what, self.fill(pattern["=="]), got)
        elif "!=" in pattern:
            unwanted = self.fill(pattern["!="])
            if got == unwanted:
                raise MisfitError(f"{what} should be another one than {shown(unwanted)}")
        elif "in" in pattern and len(pattern) == 1:
            self._fit_one_of(what, pattern["in"], got)
        elif "all" in pattern and len(pattern) == 1:
            for one in pattern["all"]:
                self.fit(what, one, got)
        elif "begins" in pattern:
            beginning = str(self.fill(pattern["begins"]))
            if not str(got).startswith(beginning):
                raise MisfitError(f"{what} should begin with {shown(beginning)}, is {shown(got)}")
        elif ">" in pattern:
            least = self.fill(pattern[">"])
            if not _number(got) or got <= least:
                raise MisfitError(f"{what} should be above {shown(least)}, is {shown(got)}")
        elif ">=" in pattern:
            least = self.fill(pattern[">="])
            if not _number(got) or got < least:
                raise MisfitError(f"{what} should be at least {shown(least)}, is {shown(got)}")
        elif "<=" in pattern:
            most = self.fill(pattern["<="])
            if not _number(got) or got > most:
                raise MisfitError(f"{what} should be at most {shown(most)}, is {shown(got)}")
        elif not isinstance(got, dict):
            raise MisfitError(f"{what} should be an object, is {shown(got)}")
        else:
            for name, member in pattern.items():
                field = str(self._text(name))
                if member == "<absent>":
                    if field in got:
                        raise MisfitError(f"{what}: `{field}` shouldn't be there, in {shown(got)}")
                elif field not in got and isinstance(member, dict) and "<absent>" in member.get("in", ()):
                    continue
                elif field not in got:
                    raise MisfitError(f"{what}: `{field}` is missing from {shown(got)}")
                else:
                    self.fit(f"{what}: `{field}`" if ": `" not in what else f"{what}.`{field}`", member, got[field])

    def _fit_one_of(self, what: str, patterns: list[Any], got: Any) -> None:
        for pattern in patterns:
            try:
                self.fit(what, pattern, got)
            except MisfitError:
                continue
            return
        raise MisfitError(f"{what} should be one of {shown(self.fill(patterns))}, is {shown(got)}")

    def _fit_text(self, what: str, pattern: str, got: Any) -> None:
        if _LONG.fullmatch(pattern) is not None:
            self._same(what, self._text(pattern), got)
            return
        rules = _RULE.fullmatch(pattern)
        if rules is not None:
            kinds = rules[1].split("|")
            words = [RULES[kind][0] if kind in RULES else shown(kind) for kind in kinds]
            if not any(RULES[kind][1](got) if kind in RULES else got == kind for kind in kinds):
                raise MisfitError(f"{what} should be {' or '.join(words)}, is {shown(got)}")
            return
        name = _NAME.fullmatch(pattern)
        if name is not None and (name[1] or name[2]) not in self.values:
            if got is None or got == "":
                raise MisfitError(f"{what} should be there, is {shown(got)}")
            self.values[name[1] or name[2]] = got
            return
        self._same(what, self._text(pattern), got)

    def _same(self, what: str, wanted: Any, got: Any) -> None:
        if not _equal(wanted, got):
            raise MisfitError(f"{what} should be {shown(wanted)}, is {shown(got)}")


def _equal(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are the same, 1 and true are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
