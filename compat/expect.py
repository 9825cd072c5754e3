"""What a scenario may conclude, and how it states what it expects of a message.

Knows plain JSON values; it never talks to anything. Every failure is one sentence that names the field, what it should
have been and what it was, with what came over the network escaped and cut to a readable length.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]


class UnmetError(Exception):
    """The deployment did something else than it should; the text is the sentence for the report."""


class SkipError(Exception):
    """This scenario can't be judged here; the text says why."""


@dataclass(frozen=True)
class Rule:
    """A condition on one value, with the words that describe it."""

    words: str
    holds: Callable[[Any], bool]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


ANYTHING: Final = Rule("there", lambda value: True)
TEXT: Final = Rule("a text", lambda value: isinstance(value, str))
FILLED_TEXT: Final = Rule("a text that isn't empty", lambda value: isinstance(value, str) and value != "")
OBJECT: Final = Rule("an object", lambda value: isinstance(value, dict))
WHOLE: Final = Rule("a whole number", _is_whole)
POSITIVE: Final = Rule("a number above 0", lambda value: _is_number(value) and value > 0)
PORT: Final = Rule("a port", lambda value: _is_whole(value) and 0 < value < 65536)
HOST: Final = Rule(
    "a host that can be connected to",
    lambda value: isinstance(value, str) and value not in ("", "0.0.0.0", "::", "[::]"),
)
# Between 2001 and 2286 in the unit that is meant: the other unit is a factor of 1,000 away.
SECONDS: Final = Rule("a time in seconds", lambda value: _is_number(value) and 1e9 <= value < 1e10)
MILLISECONDS: Final = Rule("a time in milliseconds", lambda value: _is_number(value) and 1e12 <= value < 1e13)


def same(wanted: object) -> Rule:
    """A rule that only `wanted` meets; 1 and True differ."""
    return Rule(shown(wanted), lambda value: type(value) is type(wanted) and bool(value == wanted))


def one_of(*wanted: object) -> Rule:
    """A rule that any of `wanted` meets."""
    return Rule("one of " + ", ".join(shown(item) for item in wanted), lambda value: value in wanted)


def or_null(rule: Rule) -> Rule:
    """A rule that null meets too."""
    return Rule(f"{rule.words} or null", lambda value: value is None or rule.holds(value))


def shown(value: object) -> str:
    """A value as it may stand in a report: JSON in ASCII, at most 200 characters."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 200 else text[:197] + "..."


def expect(what: str, got: object, fields: Mapping[str, Rule]) -> Json:
    """Hold an object against rules for its fields; further fields are welcome.

    Returns the object. Raises UnmetError at the first field that is missing or wrong.
    """
    if not isinstance(got, dict):
        raise UnmetError(f"{what}: should be an object, is {shown(got)}")
    for name, rule in fields.items():
        if name not in got:
            raise UnmetError(f"{what}: `{name}` is missing from {shown(got)}")
        if not rule.holds(got[name]):
            raise UnmetError(f"{what}: `{name}` should be {rule.words}, is {shown(got[name])}")
    return got
