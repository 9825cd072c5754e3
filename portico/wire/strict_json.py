"""Strict JSON: what a peer sends is either a message of the expected form or a PeerFault.

On top of msgspec (which refuses NaN, Infinity, lone surrogates, control characters and deep nesting) this
refuses what would be read differently by different programs: bytes that are not UTF-8, numbers that no
double holds (1e999, 400 digits), and a key that the gateway itself reads given twice. What the gateway only
passes on stays the bytes that came (`msgspec.Raw`), so there is no JSON round trip on the hot path.

A message that needs a closer look gets it within a bound that grows with its size, so its sender cannot choose how much
it costs to refuse.
"""

import re
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
_NULL = re.compile(r", got `null`(?: - at |$)")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_FIELD = re.compile(r"\$\.([A-Za-z_][A-Za-z0-9_.]*)")

# A translation in which two searches find every number that is too large: digits and plus become 0, e and E become e,
# what may end a number becomes a comma. Such a number then has an exponent of three digits or more, as in `0e000,`, or
# a run of 210 zeros (210 digits and the largest exponent of two digits make 309). Much faster than a regular expression
# over the message. A text may look the same, so what is found is then looked at exactly.
_SHAPE: Final = bytes(
    0x30 if b in b"0123456789+" else 0x65 if b in b"eE" else 0x2C if b in b",]} \t\r\n" else 0x20 for b in range(256)
)
_LARGE_EXPONENT = re.compile(rb"0e000+,")
_LARGE_EXPONENT_HEAD: Final = b"0e000"
_LONG: Final = b"0" * 210
_LONGEST_HEAD: Final = 2 * len(_LONG) + 4
"""Bytes of a number that can stand before its exponent, or its long run of digits, without being such a run."""
_OF_NUMBERS: Final = b"-+.0123456789eE"
_NUMBER = re.compile(rb"[-+.0-9eE]+")
_WHOLE = re.compile(rb"-?[0-9]+")
_LARGEST: Final = 1.7976931348623157e308
_SMALL: Final = 1024
"""Bytes up to which one expression finds keys in less time than a search for each; beyond, it takes more."""
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
    # Nearly no message has the head. From the end, since CPython looks so for it in half the time, and in a third where
    # the message is nothing but digits, or nothing but the letter e.
    found = _LARGE_EXPONENT.search(shape) if shape.rfind(_LARGE_EXPONENT_HEAD) >= 0 else None
    long = shape.find(_LONG) if len(shape) >= len(_LONG) else -1
    if found is not None or long >= 0:
        end = len(shape)
        _check_numbers_exactly(payload, shape, long if long >= 0 else end, end if found is None else found.start())


def _next_long(shape: bytes, at: int) -> int:
    """Where the next long run of digits begins; the end where there is none."""
    found = shape.find(_LONG, at)
    return found if found >= 0 else len(shape)


def _next_exponent(shape: bytes, at: int) -> int:
    found = _LARGE_EXPONENT.search(shape, at)
    return len(shape) if found is None else found.start()


def _check_numbers_exactly(payload: bytes, shape: bytes, long: int, exponent: int) -> None:
    """Look at each place that may be a number which is too large, and at nothing between them.

    `long`, `exponent`: the first of each kind. Not by parsing: that costs a Python object for every value of the
    message, a hundred times what it costs to pass it on. Each place costs the same, and there are at most `_places` of
    them, so no message costs more than three times what plain text of its size does.
    """
    text = payload
    if b'\\"' in text:
        # With escapes out of the way, every quote that is left begins or ends a string.
        text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    places = _places(payload)
    at = 0
    while (start := min(long, exponent)) < len(shape):
        places -= 1
        if places < 0:
            raise PeerFault(ErrorCode.BAD_JSON, "The message has too many numbers, or texts, like 1e100.")
        if text.count(b'"', at, start) % 2:
            at = text.index(b'"', start) + 1
            long, exponent = _later(long, exponent, shape, at)
            continue
        head = text[max(at, start - _LONGEST_HEAD) : start]
        number = _NUMBER.match(text, start - (len(head) - len(head.rstrip(_OF_NUMBERS))))
        if number is None:
            raise PeerFault(ErrorCode.BAD_JSON, "The message is not valid JSON.")
        if _is_too_large(number.group()):
            raise PeerFault(ErrorCode.BAD_JSON, "A number is too large; it must fit in a double (below 1.8e308).")
        at = number.end()
        long, exponent = _later(long, exponent, shape, at)


def _later(long: int, exponent: int, shape: bytes, at: int) -> tuple[int, int]:
    """The next of each kind from here on; what lies ahead already is not looked for again."""
    return long if long >= at else _next_long(shape, at), exponent if exponent >= at else _next_exponent(shape, at)


def _is_too_large(number: bytes) -> bool:
    # A double has at most 309 digits before the point; int() of more than 4,300 would raise by itself.
    if _WHOLE.fullmatch(number):
        return len(number) > 308 and (len(number) > 310 or abs(int(number)) > _LARGEST)
    return float(number) in (float("inf"), float("-inf"))


def _attempts(payload: bytes) -> int:
    """How many keys of a message may be looked at one by one: enough for any that means no harm."""
    return 500 + len(payload) // 1024


def _places(payload: bytes) -> int:
    """How many places that look like a number which is too large may be looked at: more than any that means no harm."""
    return 64 + len(payload) // 8192


def has_only(fields_read: int, payload: bytes, *passed_on: bytes | Raw) -> bool:
    """Whether a message has no key but those of the `fields_read` fields that were read from it.

    The fast path of `check_keys`: each key has a colon behind it, so if there are no more colons than fields were
    read, no key is repeated and none is unknown. Colons within what is passed on unread don't count. False means
    that keys must be looked at; it proves nothing (a string may have a colon in it).

    `quick_request` and `quick_response` count in the same way without calling this, since they are run for each
    request and each answer: the call, and the fields that it would count without need, are a tenth of what they take.
    """
    colons = payload.count(b":")
    for part in passed_on:
        colons -= bytes(part).count(b":")
    return colons == fields_read


def check_keys(payload: bytes, quoted: tuple[bytes, ...], *, inside: bool = True) -> None:
    """Refuse a message in which a key that the gateway reads occurs twice in one object.

    `quoted` are those keys as `b'"key"'`. Looks exactly only where a key's text occurs twice anywhere, or
    where an escape could hide one. The outermost object is judged, and the objects directly in it too unless
    `inside` is False: deeper ones are the peers' own affair. Raises PeerFault `bad_json`.
    """
    if (b"\\" in payload and _ESCAPED_LETTER.search(payload)) or _occurs_twice(payload, quoted):
        _Keys({key[1:-1].decode() for key in quoted}, _attempts(payload)).check(payload, inside)


def _occurs_twice(payload: bytes, quoted: tuple[bytes, ...]) -> bool:
    if len(payload) <= _SMALL:
        found = _any_of(quoted).findall(payload)
        return len(found) != len(set(found))
    # From the end, which CPython does in a quarter of the time where the text is of letters that the key has too.
    for key in quoted:
        last = payload.rfind(key)
        if last >= 0 and payload.rfind(key, 0, last + len(key) - 1) >= 0:
            return True
    return False


@cache
def _any_of(quoted: tuple[bytes, ...]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(map(re.escape, quoted)))


def fields_of(form: type[Struct]) -> tuple[bytes, ...]:
    """The names of a form's fields, quoted as `check_keys` wants them."""
    return tuple(b'"' + field.encode_name.encode() + b'"' for field in msgspec.structs.fields(form))


class _Key(str):
    """A key as it is read, so that a second occurrence of it is still to be seen."""

    __slots__ = ()


class _Keys:
    """Looks for keys that occur twice, in at most `attempts` keys. What they belong to is passed over unread."""

    def __init__(self, keys: set[str], attempts: int) -> None:
        self._keys = keys
        self._attempts = attempts
        self._seen: set[str] = set()
        self._decoder = msgspec.json.Decoder(dict[_Key, Raw], dec_hook=self._read)

    def check(self, payload: bytes, inside: bool) -> None:
        """Raises PeerFault."""
        self._seen = set()
        try:
            values = self._decoder.decode(payload)
        except (msgspec.DecodeError, RecursionError) as error:
            if isinstance(error, msgspec.ValidationError):
                return  # no object: there are no keys
            raise PeerFault(ErrorCode.BAD_JSON, "The message is not valid JSON.") from None
        if inside:
            for value in values.values():
                if (part := bytes(value)).lstrip(b" \t\r\n").startswith(b"{"):
                    self.check(part, inside=False)

    def _read(self, _: type, text: str) -> _Key:
        self._attempts -= 1
        if self._attempts < 0:
            raise PeerFault(ErrorCode.BAD_JSON, "The message has too many keys.")
        if text in self._keys:
            if text in self._seen:
                raise PeerFault(ErrorCode.BAD_JSON, f"The key {text!r} occurs twice in one object.", field=text)
            self._seen.add(text)
        return _Key(text)


def is_json(payload: bytes) -> bool:
    """True if these bytes are one JSON value in UTF-8; nested too deeply is JSON still."""
    try:
        check_text(payload)
        return len(_values.decode(b"[%b]" % payload)) == 1
    except RecursionError:
        return True
    except (PeerFault, msgspec.MsgspecError):
        return False


def decode(decoder: msgspec.json.Decoder[T], payload: bytes, *, null_is_absent: bool = False) -> T:
    """Decode one message. `null_is_absent`: a field that is needed and null is missing, and not of a wrong type.

    Raises PeerFault: `bad_json`, `not_an_object`, `missing_field` or `bad_field`.
    """
    check_text(payload)
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError) and not is_json(payload):
            # The decoder stops at the first wrong field; whether what follows is JSON at all matters more.
            error = msgspec.DecodeError()
        explain(error, form=decoder.type, null_is_absent=null_is_absent)


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


def explain(
    error: Exception, within: str | None = None, form: object = None, *, null_is_absent: bool = False
) -> NoReturn:
    """Raise the PeerFault that says what `error`, from msgspec, found wrong. `form` is what was to be decoded: a field
    that it doesn't have is answered with the name that was probably meant. For `null_is_absent` see `decode`.

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
    # Where null is refused, the field has to be there.
    absent = null_is_absent and found is not None and found.end() == len(path) and _NULL.search(text) is not None
    if missing or absent:
        name = field if missing is None else missing.group(1) if field is None else f"{field}.{missing.group(1)}"
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
    hint = f"probably {likely[0]!r} is meant" if likely else f"known are {', '.join(known) or 'none'}"
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
