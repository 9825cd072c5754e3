"""Body: JSON from back ends, read as strictly as what comes over WebSockets. Every fault is a PeerFault."""

from typing import Final, TypeVar

import msgspec
from msgspec import Raw, UnsetType

from portico.wire import strict_json
from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import NULL

T = TypeVar("T")

MAX_BODY: Final = 16 << 20
"""Bytes that any body may have; single routes allow less."""


def decode(decoder: msgspec.json.Decoder[T], payload: bytes, keys: tuple[bytes, ...]) -> T:
    """Decode a whole body. `keys` are those that may not occur twice in one object, as `b'"key"'`.

    Raises PeerFault: `bad_json`, `not_an_object`, `missing_field` or `bad_field`.
    """
    decoded = strict_json.decode(decoder, payload)
    strict_json.check_keys(payload, keys)
    strict_json.check_numbers(payload)
    return decoded


def given(raw: Raw | UnsetType) -> Raw:
    """A value to pass on; JSON's null where there was none. Its own copy, so that it doesn't keep the body alive."""
    return raw.copy() if isinstance(raw, Raw) else NULL


def too_large(limit: int) -> PeerFault:
    """The fault for a body of more than `limit` bytes."""
    return PeerFault(ErrorCode.TOO_LARGE, f"The body is too large; at most {limit} bytes are taken here.")
