"""Which dialect a connection speaks, when neither path nor port nor subprotocol says so: its first message.

Source: protocol reference, "Who gets in, and in which dialect".
"""

from enum import Enum
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ..codes import CloseCode, ErrorCode
from ..faults import PeerFault
from ..outline import LARGE, Outline, Use, outline_of, outlined, uses_of
from ..strict_json import TOO_MANY_KEYS, decode, explain
from . import c_client, envelope, requester


class Dialect(Enum):
    """The dialects, by the name that logs and metrics use."""

    C_CLIENT = "c_client"
    ENVELOPE = "envelope"
    REQUESTER = "requester"
    USER = "user"


BY_SUBPROTOCOL = {
    c_client.SUBPROTOCOL: Dialect.C_CLIENT,
    envelope.SUBPROTOCOL: Dialect.ENVELOPE,
    requester.SUBPROTOCOL: Dialect.REQUESTER,
}


class _First(Struct):
    type: Raw | UnsetType = UNSET
    command: Raw | UnsetType = UNSET
    request_id: Raw | UnsetType = UNSET


_first = msgspec.json.Decoder(_First)
_text = msgspec.json.Decoder(str)
_USES: Final = {**uses_of(_First), "type": Use.SCALAR}


def read_first(payload: bytes) -> bytes:
    """A connection's first message, and if it is large its outline, so that it is not read again to be handled. Of
    those with too many keys only a registration is read."""
    return outlined(payload, c_client.REGISTER_FIELDS if c_client.QUOTED_REGISTER in payload else None)


def dialect_of(payload: bytes) -> Dialect:
    """The dialect that a first message is of. Raises PeerFault `unknown_dialect`, which closes with 1003.

    A wrong message that only a requester would send counts as a requester's: its program waits for `success`, so it is
    told what is wrong in that form, for example that the command is missing.
    """
    try:
        outline = None if len(payload) <= LARGE else _outline_of(payload)
        first = decode(_first, payload if outline is None else outline.text(_USES))
    except PeerFault as fault:
        if b'"type"' not in payload and (b'"command"' in payload or b'"request_id"' in payload):
            return Dialect.REQUESTER
        crowded = fault.message == TOO_MANY_KEYS
        raise _unknown(TOO_MANY_KEYS if crowded else "The first message is not a JSON object.") from None
    kind = None
    if first.type is not UNSET and bytes(first.type)[:1] == b'"':
        kind = _text.decode(first.type)
    if kind == c_client.REGISTER:
        return Dialect.C_CLIENT
    if outline is not None and outline.is_partial:
        raise _unknown(TOO_MANY_KEYS)
    if first.command is not UNSET:
        return Dialect.REQUESTER
    if kind in envelope.TYPES:
        return Dialect.ENVELOPE
    if first.request_id is not UNSET and first.type is UNSET:
        return Dialect.REQUESTER
    raise _unknown("The first message is of no known dialect.")


def _outline_of(payload: bytes) -> Outline:
    try:
        return outline_of(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error)


def _unknown(problem: str) -> PeerFault:
    return PeerFault(
        ErrorCode.UNKNOWN_DIALECT,
        f'{problem} Begin with an object that has "type": "{c_client.REGISTER}", with a "command", '
        'or with a type of the envelope dialect such as "connect".',
        close=CloseCode.NOT_A_DIALECT,
    )
