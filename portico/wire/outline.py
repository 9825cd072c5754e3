"""Outlines: a large message is read once, whatever is then asked of it.

An outline has the fields of a message's outermost object in their order, doubled ones too, each with its value as the
bytes that came. From it a short text is made of the fields that a reader knows: what the reader would pass on, and
lists or objects where a field takes none, are replaced by something short of the same sort. Decoders then read that
text, as often as they like, and find in it what they would find in the message: the same fields, and the same mistakes
in the same order. For example, `{"x": <a megabyte>, "type": "c_client_register", "user_id": 5}` has the text
`{"type":"c_client_register","user_id":5}`.

To read a message for its outline costs one pass over it, and a bounded number of Python calls, one for each key. One
with more keys than `most_keys` is refused; or, where names of fields are given, it is read a second time, and its
outline has each of these fields once, in no order.
"""

from collections.abc import Callable, Mapping
from copy import copy
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from .faults import PeerFault
from .messages import encode
from .strict_json import (
    check_keys,
    check_numbers,
    check_text,
    decode,
    explain,
    is_json,
    most_keys,
    occurs_twice,
    suspect_keys,
    too_many_keys,
)

S = TypeVar("S", bound=Struct)

LARGE: Final = 4096
"""Bytes up to which a message is short enough to be read several times."""
_KEPT: Final = 1024
"""Bytes up to which a value is always kept."""
_FILLING: Final = b" " * _KEPT
_STUBS: Final = {b"[": b"[%b]" % _FILLING, b"{": b"{%b}" % _FILLING, b'"': b'"%b"' % _FILLING}
"""What stands for a longer value, by its first byte: longer than _KEPT too."""
_QUOTE: Final = b'"'


class Use(Enum):
    """What a reader does with a field: takes a text, a number or a truth value; passes it on; or reads all of it."""

    SCALAR = "scalar"
    PASSED_ON = "passed on"
    WHOLE = "whole"


Uses = Mapping[str, Use]
Fields = list[tuple[str, Raw]]
_SCALAR: Final = Use.SCALAR
_PASSED_ON: Final = Use.PASSED_ON
_WHOLE: Final = Use.WHOLE


@cache
def uses_of(form: type[Struct]) -> Uses:
    """What a form does with each of its fields, and with the tag that it is told by."""
    hints = get_type_hints(form)
    uses = {field.encode_name: _use(hints[field.name]) for field in msgspec.structs.fields(form)}
    tag = form.__struct_config__.tag_field
    return uses if tag is None else {tag: _SCALAR, **uses}


def _use(hint: Any) -> Use:
    kinds = set(get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)) - {type(None), UnsetType}
    if Raw in kinds:
        return _PASSED_ON
    return _SCALAR if kinds <= {str, int, float, bool} else _WHOLE


class _Field(str):
    """A key as it is read. No two are equal, so that a dict keeps a second one of the same text."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class TooManyKeys(Exception):
    """A message has more keys than are looked at one by one."""


class Outline:
    """The outline of one message. `fields`: what was read of it; `whole`: all of it."""

    __slots__ = ("_checked", "_first", "fields", "whole")

    def __init__(self, whole: bytes, fields: Fields, first: list[str] | None = None) -> None:
        """`first`: the first keys of a message that has too many."""
        self.whole = whole
        self.fields = fields
        self._first = first
        self._checked = False

    @property
    def is_partial(self) -> bool:
        """Whether the message has too many keys, so that only known fields were read."""
        return self._first is not None

    def text(self, uses: Uses, *, others: bool = False) -> bytes:
        """The fields that are used, as a JSON object; with `others` those too that are not, as zeros."""
        parts = []
        for name, raw in self.fields:
            use = uses.get(name)
            if use is not None:
                parts.append(b'"%b":%b' % (name.encode(), _short(raw, use)))
            elif others:
                parts.append(b"%b:0" % encode(name))
        return b"{%b}" % b",".join(parts)

    def restore(self, message: Struct, uses: Uses) -> None:
        """Put what is passed on into a message that was decoded from the text for the same uses."""
        for name, raw in dict(self.fields).items():  # of a doubled field the last counts
            if uses.get(name) is _PASSED_ON and len(memoryview(raw)) > _KEPT:
                setattr(message, name, raw)

    def check_keys(self, quoted: tuple[bytes, ...]) -> None:
        """As `strict_json.check_keys` for the outermost object alone."""
        names = {key[1:-1].decode() for key in quoted}
        given = [name for name, _ in self.fields]
        read = given if self._first is None else self._first
        check_keys(b"{%b}" % b",".join([b'"%b":0' % name.encode() for name in read if name in names]), quoted)
        if self._first is not None:
            twice = suspect_keys(self.whole, quoted)
            if twice is not False and (
                twice or occurs_twice(self.whole, tuple(k for k in quoted if k[1:-1].decode() in given))
            ):
                raise too_many_keys()

    def check_numbers(self) -> None:
        """As `strict_json.check_numbers`, for all of the message; what was found right is not looked for again."""
        if not self._checked:
            check_numbers(self.whole)
            self._checked = True


def _short(raw: Raw, use: Use) -> Raw | bytes:
    if use is _WHOLE:
        return raw
    view = memoryview(raw)
    if len(view) <= _KEPT:
        return raw
    first = bytes(view[:1])
    return raw if first == _QUOTE and use is _SCALAR else _STUBS.get(first, raw)


class Outlined(bytes):
    """A message together with what came of reading it, for whoever is handed a message."""

    outline: "Outline | PeerFault | msgspec.DecodeError | RecursionError"


def outlined(payload: bytes, names: tuple[str, ...] | None = None) -> bytes:
    """The message, if it is large with its outline. `names` as for `outline_of`, which then doesn't read it again."""
    if len(payload) <= LARGE or type(payload) is Outlined:
        return payload
    message = Outlined(payload)
    try:
        # Not of the copy: message and outline would keep one another alive.
        message.outline = outline_of(payload, names)
    except (PeerFault, msgspec.DecodeError, RecursionError) as error:
        # A copy, without the traceback: that would hold on to the message.
        message.outline = copy(error)
    return message


def outline_of(payload: bytes, names: tuple[str, ...] | None = None) -> Outline:
    """The outline of a message. `names`: all fields that anybody may use of one with too many keys; without names it is
    refused.

    Raises PeerFault for what is not UTF-8, no object, or refused; msgspec.DecodeError or RecursionError for what is no
    JSON.
    """
    if isinstance(payload, Outlined):
        if isinstance(payload.outline, Outline):
            return payload.outline
        raise copy(payload.outline)
    keys: list[str] = []
    try:
        return Outline(payload, _fields(payload, keys))
    except TooManyKeys:
        if names is None:
            raise too_many_keys() from None
        values = msgspec.structs.astuple(_loose(names).decode(payload))
        return Outline(payload, [(k, v) for k, v in zip(names, values, strict=True) if v is not UNSET], keys)


def _fields(payload: bytes, keys: list[str]) -> Fields:
    """The fields of a message's outermost object; `keys` gets those that were read, whatever comes of it. Raises
    TooManyKeys, and what `outline_of` raises."""
    check_text(payload)
    try:
        found = msgspec.json.Decoder(dict[_Field, Raw], dec_hook=_reader(keys, payload)).decode(payload)
    except msgspec.ValidationError as error:
        if is_json(payload):
            explain(error)
        raise msgspec.DecodeError from None
    return list(zip(keys, found.values(), strict=True))


def _reader(keys: list[str], payload: bytes) -> Callable[[type, str], _Field]:
    most = most_keys(payload)

    def read(_: type, text: str) -> _Field:
        if len(keys) >= most:
            raise TooManyKeys
        keys.append(text)
        return _Field(text)

    return read


@cache
def _loose(names: tuple[str, ...]) -> msgspec.json.Decoder[Struct]:
    fields = [(f"field_{number}", Raw | UnsetType, UNSET) for number in range(len(names))]
    rename = {name: key for (name, _, _), key in zip(fields, names, strict=True)}
    return msgspec.json.Decoder(msgspec.defstruct("Loose", fields, rename=rename))


class _List(Struct, array_like=True):
    """Any list. Nothing is made of what is in it."""


_Value = dict[_Field, Raw] | _List | str | int | float | bool | None


def nested_outline_of(payload: bytes, names: tuple[str, ...], name: str) -> tuple[bytes, Outline] | None:
    """Two levels read in one pass: the text of the message's fields `names`, without what is in lists and objects, and
    the outline of its object `name`, empty if it is none. None for what has to be looked at otherwise.

    Raises TooManyKeys, where the outermost object and those directly in it have too many together; PeerFault for what
    is not UTF-8; msgspec.DecodeError or RecursionError for what is no JSON.
    """
    check_text(payload)
    decoder = msgspec.json.Decoder(dict[_Field, _Value], dec_hook=_reader([], payload))
    try:
        found = decoder.decode(payload)
    except msgspec.ValidationError:
        return None
    parts, inner = [], Outline(payload, [])
    for key, value in found.items():
        field = str(key)
        if field not in names:
            continue
        if isinstance(value, dict):
            if field == name:
                inner = Outline(payload, [(str(inside), raw) for inside, raw in value.items()])
            value = {}
        elif field == name and isinstance(value, str):
            value = ""
        parts.append(b'"%b":%b' % (field.encode(), b"[]" if isinstance(value, _List) else encode(value)))
    return b"{%b}" % b",".join(parts), inner


def decode_form(decoder: msgspec.json.Decoder[S], payload: bytes) -> S:
    """As `strict_json.decode` with `null_is_absent`, for a form that passes on what is large in it."""
    if len(payload) <= LARGE:
        return decode(decoder, payload, null_is_absent=True)
    form: type[S] = decoder.type
    uses = uses_of(form)
    try:
        outline = Outline(payload, _fields(payload, []))
    except TooManyKeys:
        return decode(decoder, payload, null_is_absent=True)
    except (msgspec.DecodeError, RecursionError) as error:
        explain(error, form=form)
    message = decode(
        decoder,
        outline.text(uses, others=form.__struct_config__.forbid_unknown_fields),
        null_is_absent=True,
        is_part=True,
    )
    outline.restore(message, uses)
    return message
