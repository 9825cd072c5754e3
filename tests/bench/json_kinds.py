"""JSON that is dear to read, of any size: each kind is one value, and they take about as many bytes each.

`TEXT` is what they are compared with: one long text of plain letters, the cheapest JSON there is.
"""

from collections.abc import Callable
from typing import Final

TEXT: Final = "text"


def _list_of(item: bytes) -> Callable[[int], bytes]:
    """A list of as many of the same as there is room for."""
    return lambda size: b"[" + b",".join([item] * max(1, size // (len(item) + 1))) + b"]"


def _quoted(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: b'"' + unit * max(1, size // len(unit)) + b'"'


def _object_of(field: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """An object of as many fields as there is room for."""

    def make(size: int) -> bytes:
        length = len(field(0)) + 1
        return b"{" + b",".join(map(field, range(max(1, size // length)))) + b"}"

    return make


def _many_keys(size: int) -> bytes:
    """More keys than are looked at one by one, behind the most that can be put before them."""
    few = b",".join(b'"%05d":0' % number for number in range(500 + size // 1024))
    return b'{"x":%b,%b}' % (_list_of(b"[]")(max(0, size - len(few))), few)


KINDS: Final[dict[str, Callable[[int], bytes]]] = {
    TEXT: _quoted(b"hello world "),
    "letter e": _quoted(b"e"),
    "lists": _list_of(b"[]"),
    "nested lists": _list_of(b"[[],[[]]]"),
    "deep lists": _list_of(b"[" * 500 + b"]" * 500),
    "objects": _list_of(b"{}"),
    "deep objects": _list_of(b'{"":' * 400 + b"0" + b"}" * 400),
    "small objects": _list_of(b'{"a":0}'),
    "known names": _list_of(b'{"type":"request","client_id":0,"request_id":0,"data":{}}'),
    "one key": _object_of(lambda number: b'"":0'),
    "many keys": _object_of(lambda number: b'"k%07d":0' % number),
    "keys behind lists": _many_keys,
    "a key twice": lambda size: b'{"type":0,"x":%b,"type":1}' % _list_of(b"[]")(size),
    "digits": _list_of(b"1"),
    "one number": lambda size: b"0." + b"1" * size,
    "one whole number": lambda size: b"1" * size,
    "exponents": _list_of(b"0e0000"),
    "large exponents": _list_of(b"1e400"),
    "zeros": lambda size: _list_of(b"0." + b"0" * 220)(size),
    "truths": _list_of(b"true"),
    "nulls": _list_of(b"null"),
    "small texts": _list_of(b'""'),
    "escaped letters": _quoted(b"\\u0041"),
    "escaped quotes": _quoted(b'\\"'),
    "texts like keys": _quoted(b'\\"type\\":'),
    "letters of two bytes": _quoted("é".encode()),
    "surrogates": _quoted(b"\\ud83d\\ude00"),
    "spaces": lambda size: b"[" + b" " * size + b"]",
    "NaN": _list_of(b"NaN"),
    "NaN at the end": lambda size: _list_of(b"[]")(size)[:-1] + b",NaN]",
    "NaN in many texts": lambda size: _list_of(b'""')(size)[:-1] + b",NaN]",
    "no end": lambda size: _list_of(b"[]")(size)[:-1],
}
"""By name: what makes such a value of about so many bytes."""
