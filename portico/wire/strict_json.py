"""Strict JSON: what a peer sends is either a message of the expected form or a PeerFault.

On top of msgspec (which refuses NaN, Infinity, lone surrogates, control characters and deep nesting) this
refuses what would be read differently by different programs: bytes that are not UTF-8, numbers that no
double holds (1e999, 400 digits), and a key that the gateway itself reads given twice. What the gateway only
passes on stays the bytes that came (`msgspec.Raw`), so there is no JSON round trip on the hot path.

A message that needs a closer look gets it within bounds that grow with its size: on the keys and the numbers that are
looked at, and on how often all of it is passed over. What that comes to is measured in the discussion of security.
"""

import re
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Any, Final, NoReturn, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

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
_LARGE_EXPONENT_END: Final = b"000,"
_LONG: Final = b"0" * 210
_LONGEST_HEAD: Final = 2 * len(_LONG) + 4
"""Bytes of a number that can stand before its exponent, or its long run of digits, without being such a run."""
_OF_NUMBERS: Final = b"-+.0123456789eE"
_SPACES: Final = b" \t\r\n"
_LARGEST: Final = 1.7976931348623157e308
_SMALL: Final = 1024
"""Bytes up to which one expression finds keys in less time than a search for each; beyond, it takes more."""
_FEW: Final = 4
"""Keys up to which a search for each costs less than to look at keys one by one."""
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_value = msgspec.json.Decoder(Raw)


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
    end = len(shape)
    # Nearly no message has the head. From the end, since CPython looks so for it in half the time, and in a third where
    # the message is nothing but the letter e; a large one without that letter is passed over at once.
    if end < len(_LONG):
        long = end
        if shape.rfind(_LARGE_EXPONENT_HEAD) < 0:
            return
    else:
        long = _next_long(shape, 0)
        if b"e" not in shape or shape.rfind(_LARGE_EXPONENT_HEAD) < 0:
            if long < end:
                _check_numbers_exactly(payload, shape, long, end)
            return
    exponent = _next_exponent(shape, 0) if shape.rfind(_LARGE_EXPONENT_END) >= 0 else end
    if min(long, exponent) < end:
        _check_numbers_exactly(payload, shape, long, exponent)


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
    message, a hundred times what it costs to pass it on. There are at most `_places` of them, and what is done at each
    passes over its bytes once, in C.
    """
    text = payload
    if b"\\" in text and b'\\"' in text:
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
        # In the shape every byte that can end a number is a comma, and to find one costs next to nothing.
        at = shape.find(b",", start)
        if at < 0:
            at = len(shape)
        if _is_too_large(text[start - (len(head) - len(head.rstrip(_OF_NUMBERS))) : at]):
            raise PeerFault(ErrorCode.BAD_JSON, "A number is too large; it must fit in a double (below 1.8e308).")
        long, exponent = _later(long, exponent, shape, at)


def _later(long: int, exponent: int, shape: bytes, at: int) -> tuple[int, int]:
    """The next of each kind from here on; what lies ahead already is not looked for again."""
    return long if long >= at else _next_long(shape, at), exponent if exponent >= at else _next_exponent(shape, at)


def _is_too_large(number: bytes) -> bool:
    # A double has at most 309 digits before the point; int() of more than 4,300 would raise by itself.
    if number.removeprefix(b"-").isdigit():
        return len(number) > 308 and (len(number) > 310 or abs(int(number)) > _LARGEST)
    try:
        return float(number) in (float("inf"), float("-inf"))
    except ValueError:
        raise PeerFault(ErrorCode.BAD_JSON, "The message is not valid JSON.") from None


def most_keys(payload: bytes) -> int:
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

    `quoted` are those keys as `b'"key"'`. Looks exactly only where a key's text occurs twice anywhere, where an
    escape could hide one, or where to find out might cost more. The outermost object is judged, and the objects
    directly in it too unless `inside` is False: deeper ones are the peers' own affair. Raises PeerFault `bad_json`.
    """
    twice = suspect_keys(payload, quoted)
    if twice is None and not inside:
        quoted = _given(payload, quoted)
        if len(quoted) <= _FEW:
            twice = occurs_twice(payload, quoted)
    if twice is False:
        return
    keys = _Keys({key[1:-1].decode() for key in quoted}, most_keys(payload))
    try:
        keys.check(payload, inside)
    except _TooManyKeys:
        if twice or occurs_twice(payload, quoted):
            raise too_many_keys() from None


def suspect_keys(payload: bytes, quoted: tuple[bytes, ...]) -> bool | None:
    """Whether one of these keys may occur twice in a message, by its text alone: False if none does; None where that
    would take long to find out."""
    if b"\\" in payload and b"\\u00" in payload and _ESCAPED_LETTER.search(payload):
        return True
    if len(payload) > _SMALL:
        return _before_colons(payload, quoted)
    found = _any_of(quoted).findall(payload)
    return len(found) != len(set(found))


TOO_MANY_KEYS: Final = "The message has too many keys."


def too_many_keys(msg_id: str | None = None) -> PeerFault:
    """The fault of a message with more keys than are looked at."""
    return PeerFault(ErrorCode.BAD_JSON, TOO_MANY_KEYS, msg_id=msg_id)


def _before_colons(payload: bytes, quoted: tuple[bytes, ...]) -> bool | None:
    """Whether a key occurs twice, by what stands before colons; None where there are many of these.

    A search for each key takes as many passes over the message as there are keys, and slow ones where the message is
    of letters that the keys have.
    """
    most = 16 + len(payload) // 512
    pieces = payload.split(b":", most)
    if len(pieces) > most:
        return None
    ends = [end for piece in pieces[:-1] if (end := piece.rstrip(_SPACES)).endswith(quoted)]
    return len(ends) != len({end[end.rfind(b'"', 0, -1) :] for end in ends})


def _given(payload: bytes, quoted: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Those of the keys that the outermost object has. Raises PeerFault."""
    try:
        given = _which(quoted).decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError):
            return ()  # no object: there are no keys
        raise PeerFault(ErrorCode.BAD_JSON, "The message is not valid JSON.") from None
    return tuple(key for key, value in zip(quoted, msgspec.structs.astuple(given), strict=True) if value is not UNSET)


@cache
def _which(quoted: tuple[bytes, ...]) -> msgspec.json.Decoder[Struct]:
    fields = [(f"key_{number}", Raw | UnsetType, UNSET) for number in range(len(quoted))]
    names = {name: key[1:-1].decode() for (name, _, _), key in zip(fields, quoted, strict=True)}
    return msgspec.json.Decoder(msgspec.defstruct("Which", fields, rename=names))


def occurs_twice(payload: bytes, quoted: tuple[bytes, ...]) -> bool:
    """Whether the text of one of these keys is in a message twice, wherever that is."""
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


class _TooManyKeys(Exception):
    """A message has more keys than are looked at one by one."""


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
                if (part := bytes(value)).lstrip(_SPACES).startswith(b"{"):
                    self.check(part, inside=False)

    def _read(self, _: type, text: str) -> _Key:
        self._attempts -= 1
        if self._attempts < 0:
            raise _TooManyKeys
        if text in self._keys:
            if text in self._seen:
                raise PeerFault(ErrorCode.BAD_JSON, f"The key {text!r} occurs twice in one object.", field=text)
            self._seen.add(text)
        return _Key(text)


def is_true(value: Raw) -> bool:
    """Whether a JSON value counts as true: all do but null, false, zero, and texts, lists and objects with nothing in
    them. Looks at its first and last bytes and makes nothing of what it holds, which may be a megabyte."""
    text = bytes(value).strip(_SPACES)
    first = text[:1]
    if first == b'"':
        return len(text) > 2
    if first in (b"[", b"{"):
        return bool(text[1:-1].lstrip(_SPACES))
    return text not in (b"null", b"false") and (text == b"true" or _is_not_zero(text))


def _is_not_zero(number: bytes) -> bool:
    return bool(number.lower().partition(b"e")[0].strip(b"-0."))


def is_json(payload: bytes) -> bool:
    """True if these bytes are one JSON value in UTF-8; nested too deeply is JSON still."""
    try:
        check_text(payload)
        _value.decode(payload)
        return True
    except RecursionError:
        return True
    except (PeerFault, msgspec.MsgspecError):
        return False


def decode(
    decoder: msgspec.json.Decoder[T], payload: bytes, *, null_is_absent: bool = False, is_part: bool = False
) -> T:
    """Decode one message. `null_is_absent`: a field that is needed and null is missing, and not of a wrong type.
    `is_part`: it was part of a message that was decoded, so that it is JSON whatever else is wrong with it.

    Raises PeerFault: `bad_json`, `not_an_object`, `missing_field` or `bad_field`.
    """
    if not is_part:
        check_text(payload)
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        if isinstance(error, msgspec.ValidationError) and not is_part and not is_json(payload):
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
    # A longer name is like none of them, and to compare it would take a time that grows with its length.
    likely = _likely(name, known) if len(name) <= _LONGEST_NAME else None
    shown = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
    where = "" if within is None else f" in {within!r}"
    hint = f"probably {likely!r} is meant" if likely else f"known are {', '.join(known) or 'none'}"
    field = shown if within is None else f"{within}.{shown}"
    raise PeerFault(ErrorCode.BAD_FIELD, f"There is no field {shown!r}{where}; {hint}.", field=field)


# Each item of a batch may have the same mistake, and to find out anew takes as long as some fifty good items.
@lru_cache(maxsize=256)
def _likely(name: str, known: tuple[str, ...]) -> str | None:
    found = get_close_matches(name, known, 1)
    return found[0] if found else None


@lru_cache(maxsize=256)
def _names_in(form: object, within: str | None) -> tuple[str, ...]:
    """The names of a form's fields, or of those of the form that its field `within` has."""
    forms: list[Any] = [form]
    for name in () if within is None else within.split("."):
        hints = [get_type_hints(part).get(name) for part in forms]
        forms = [part for hint in hints for part in (hint, *get_args(hint))]
        forms = [part for part in forms if isinstance(part, type) and issubclass(part, Struct)]
    return tuple(field.encode_name for part in forms for field in msgspec.structs.fields(part))
