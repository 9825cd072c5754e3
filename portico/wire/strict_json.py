"""Strict JSON at the edge: what a stranger sends is either a message of the expected form or a PeerFault.

On top of msgspec (which refuses NaN, Infinity, lone surrogates, control characters and deep nesting) this
refuses what would be read differently by different programs: bytes that are not UTF-8, numbers that no
double holds (1e999, 400 digits), and a key that the gateway itself reads given twice. What the gateway only
passes on stays the bytes that came (`msgspec.Raw`), so there is no JSON round trip on the hot path.
"""

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, NoReturn, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Raw, Struct

from .codes import ErrorCode
from .faults import PeerFault

T = TypeVar("T")

_WHERE = re.compile(r" - at `(.*)`$")
_MISSING = re.compile(r"missing required field `([^`]*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_FIELD = re.compile(r"\$\.([A-Za-z_][A-Za-z0-9_.]*)")

# Digits become 0, [eE] e, what may end a number a comma: a number that is too large has then an exponent of
# three digits with an end, or a run of 210 zeros (with the largest exponent of two digits that makes 309).
# Much faster than a regular expression over the message.
_SHAPE: Final = bytes(
    0x30 if b in b"0123456789" else 0x65 if b in b"eE" else 0x2C if b in b",]} \t\r\n" else b if b == 0x2B else 0x20
    for b in range(256)
)
_LARGE_EXPONENT = re.compile(rb"0e\+?000+,")
_LONG: Final = b"0" * 210
_LARGEST: Final = 1.7976931348623157e308
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_values = msgspec.json.Decoder(list[Raw])


def check_text(payload: bytes) -> None:
    """Refuse bytes that are not UTF-8. Raises PeerFault `bad_json`."""
    if payload.isascii():
        return
    try:
        str(payload, "utf-8")
    except UnicodeDecodeError:
        raise PeerFault(ErrorCode.BAD_JSON, "The message is not valid UTF-8.") from None


def check_numbers(payload: bytes) -> None:
    """Refuse numbers outside the range of a double, wherever in the message. Raises PeerFault `bad_json`.

    For numbers inside what the gateway passes on unread; needs valid JSON.
    """
    shape = payload.translate(_SHAPE)
    # The two searches before the expression are a fraction of its cost, and nearly always find nothing.
    if ((b"0e000" in shape or b"0e+000" in shape) and _LARGE_EXPONENT.search(shape)) or (
        len(payload) >= len(_LONG) and _LONG in shape
    ):
        _check_numbers_exactly(payload)


def _check_numbers_exactly(payload: bytes) -> None:
    def whole(text: str) -> int:
        # A double has at most 309 digits before the point; int() of more than 4,300 would raise by itself.
        if len(text) > 310 or abs(number := int(text)) > _LARGEST:
            raise OverflowError
        return number

    def fraction(text: str) -> float:
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise OverflowError
        return number

    try:
        json.loads(payload, parse_int=whole, parse_float=fraction)
    except OverflowError:
        raise PeerFault(ErrorCode.BAD_JSON, "A number is too large; it must fit in a double (below 1.8e308).") from None
    except (ValueError, RecursionError):
        raise PeerFault(ErrorCode.BAD_JSON, "The message is not valid JSON.") from None


def has_only(fields_read: int, payload: bytes, *passed_on: bytes | Raw) -> bool:
    """Whether a message has no key but those of the `fields_read` fields that were read from it.

    The fast path of `check_keys`: each key has a colon behind it, so if there are no more colons than fields were
    read, no key is repeated and none is unknown. Colons within what is passed on unread don't count. False means
    that keys must be looked at; it proves nothing (a string may have a colon in it).
    """
    colons = payload.count(b":")
    for part in passed_on:
        colons -= bytes(part).count(b":")
    return colons == fields_read


def check_keys(payload: bytes, quoted: Sequence[bytes], *, inside: bool = True) -> None:
    """Refuse a message in which a key that the gateway reads occurs twice in one object.

    `quoted` are those keys as `b'"key"'`. Looks exactly only where a key's text occurs twice anywhere, or
    where an escape could hide one. The outermost object is judged, and the objects directly in it too unless
    `inside` is False: deeper ones are the peers' own affair. Raises PeerFault `bad_json`.
    """
    found = _any_of(tuple(quoted)).findall(payload)
    if len(found) == len(set(found)) and (b"\\" not in payload or not _ESCAPED_LETTER.search(payload)):
        return
    _check_keys_exactly(payload, {key[1:-1].decode() for key in quoted}, inside)


def fields_of(form: type[Struct]) -> tuple[bytes, ...]:
    """The names of a form's fields, quoted as `check_keys` wants them."""
    return tuple(b'"' + field.encode_name.encode() + b'"' for field in msgspec.structs.fields(form))


@cache
def _any_of(quoted: tuple[bytes, ...]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(map(re.escape, quoted)))


class _Pairs(list[tuple[str, object]]):
    """An object as its pairs, so that a second occurrence of a key is still to be seen."""


def _check_keys_exactly(payload: bytes, keys: set[str], inside: bool) -> None:
    try:
        top: object = json.loads(payload, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        raise PeerFault(ErrorCode.BAD_JSON, "The message is not valid JSON.") from None
    if not isinstance(top, _Pairs):
        return
    within = [value for _, value in top if isinstance(value, _Pairs)] if inside else []
    for pairs in (top, *within):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in keys and key in seen:
                raise PeerFault(ErrorCode.BAD_JSON, f"The key {key!r} occurs twice in one object.", field=key)
            seen.add(key)


def is_json(payload: bytes) -> bool:
    """True if these bytes are one JSON value in UTF-8; nested too deeply is JSON still."""
    try:
        check_text(payload)
        return len(_values.decode(b"[%b]" % payload)) == 1
    except RecursionError:
        return True
    except (PeerFault, msgspec.MsgspecError):
        return False


def decode(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    """Decode one message. Raises PeerFault: `bad_json`, `not_an_object`, `missing_field` or `bad_field`."""
    check_text(payload)
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError) and not is_json(payload):
            # The decoder stops at the first wrong field; whether what follows is JSON at all matters more.
            error = msgspec.DecodeError()
        explain(error, form=decoder.type)


def peek(decoder: msgspec.json.Decoder[T], payload: bytes) -> T | None:
    """What can be read of a message that was refused; None where nothing can."""
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def convert(value: object, form: type[T], field: str | None = None) -> T:
    """As `decode`, from an already decoded value; `field` names it in the fault."""
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        explain(error, field)


def explain(error: Exception, within: str | None = None, form: object = None) -> NoReturn:
    """Raise the PeerFault that says what `error`, from msgspec, found wrong. `form` is what was to be decoded: a field
    that it doesn't have is answered with the name that was probably meant.

    msgspec's own sentence is passed on only in parts that hold nothing the peer sent.
    """
    text = str(error)
    if isinstance(error, RecursionError):
        raise PeerFault(ErrorCode.BAD_JSON, "The message is nested too deeply.") from None
    if not isinstance(error, msgspec.ValidationError) or text.startswith("Number out of range"):
        raise PeerFault(
            ErrorCode.BAD_JSON, "The message is not valid JSON (UTF-8, no NaN, no numbers beyond a double)."
        ) from None
    where = _WHERE.search(text)
    path = where.group(1) if where else "$"
    found = _FIELD.match(path)
    field = found.group(1) if found else within
    missing = _MISSING.search(text)
    if missing:
        name = missing.group(1) if field is None else f"{field}.{missing.group(1)}"
        raise PeerFault(ErrorCode.MISSING_FIELD, f"The field {name!r} is missing.", field=name) from None
    unknown = _UNKNOWN.fullmatch(text[: where.start()] if where else text)
    if unknown and form is not None:
        _explain_unknown(unknown.group(1), field, form)
    if field is None:
        raise PeerFault(ErrorCode.NOT_AN_OBJECT, "The message must be a JSON object.") from None
    sentence = "is not one of the allowed values" if text.startswith("Invalid enum value") else None
    if sentence is None:
        sentence = "is not as it should be: " + (text[: where.start()] if where else text)
    raise PeerFault(ErrorCode.BAD_FIELD, f"The field {field!r} {sentence}.", field=field) from None


_LONGEST_NAME: Final = 64


def _explain_unknown(name: str, within: str | None, form: object) -> NoReturn:
    known = _names_in(form, within)
    likely = get_close_matches(name, known, 1)
    shown = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    where = "" if within is None else f" in {within!r}"
    hint = f"probably {likely[0]!r} is meant" if likely else f"known are {', '.join(known)}"
    field = shown if within is None else f"{within}.{shown}"
    raise PeerFault(ErrorCode.BAD_FIELD, f"There is no field {shown!r}{where}; {hint}.", field=field)


def _names_in(form: object, within: str | None) -> list[str]:
    """The names of a form's fields, or of those of the form that its field `within` has."""
    forms: list[Any] = [form]
    for name in () if within is None else within.split("."):
        hints = [get_type_hints(part).get(name) for part in forms]
        forms = [part for hint in hints for part in (hint, *get_args(hint))]
        forms = [part for part in forms if isinstance(part, type) and issubclass(part, Struct)]
    return [field.encode_name for part in forms for field in msgspec.structs.fields(part)]
