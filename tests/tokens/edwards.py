"""The curve of Ed25519 in plain Python, slowly, to make signatures and keys that no library makes.

Source: RFC 8032 section 5.1. For tests only: nothing here is safe with a secret.
"""

import hashlib
from typing import Final

P: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, P) % P

Point = tuple[int, int]
ZERO: Final[Point] = (0, 1)


def add(one: Point, other: Point) -> Point:
    """The sum of two points."""
    (x1, y1), (x2, y2) = one, other
    both = _D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + both, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - both, -1, P) % P


def times(number: int, point: Point) -> Point:
    """A point so many times."""
    found = ZERO
    while number:
        if number & 1:
            found = add(found, point)
        point = add(point, point)
        number >>= 1
    return found


def encoded(point: Point) -> bytes:
    """A point in the one way in which it should be encoded."""
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def _with(y: int) -> Point | None:
    square = (y * y - 1) * pow(_D * y * y + 1, -1, P) % P
    for x in (pow(square, (P + 3) // 8, P), pow(square, (P + 3) // 8, P) * pow(2, (P - 1) // 4, P) % P):
        if (x * x - square) % P == 0:
            return (x if x % 2 == 0 else P - x), y
    return None


def _torsion() -> Point:
    for y in range(2, 100):
        point = _with(y)
        if point is not None and times(4, found := times(ORDER, point)) != ZERO:
            return found
    raise AssertionError("one in two points is of full order")


_base = _with(4 * pow(5, -1, P) % P)
assert _base is not None
BASE: Final = _base
EIGHTH: Final = _torsion()
"""A point of order 8: its multiples are all the points of small order."""


def challenge(first: bytes, key: bytes, text: bytes) -> int:
    """What a signature of this text answers."""
    return int.from_bytes(hashlib.sha512(first + key + text).digest(), "little") % ORDER


def signed(secret: int, key: bytes, nonce: int, first: bytes, text: bytes) -> bytes:
    """A signature with a first half that the signer chooses, for a key that may be more than the secret's point."""
    return first + ((nonce + challenge(first, key, text) * secret) % ORDER).to_bytes(32, "little")
