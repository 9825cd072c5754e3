"""What nodes send one another through Redis: encoded, and read with the distrust that a shared channel deserves.

Knows no Redis. The first byte says what follows, and is the version too: what a node doesn't know, it drops. Reading
never raises; what cannot be read is None.
"""

import struct
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from portico.wire import strict_json
from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import NULL, Event
from service.core.cluster.backplane import Published

LIVE: Final = 1
ACKS: Final = 3
TOLD: Final = 4
FENCE: Final = 5
NAMED: Final = 6
"""A live push that names its epoch."""
DURABLE: Final = 7
_PENDING: Final = 0
_RECEIPT: Final = 1

MAX_ORDINARY: Final = 8 << 20
"""Bytes that an event from another program may have: as many as any event."""
UNNAMED: Final = "notification"
"""The type of an event from another program that doesn't say one."""

_HEAD: Final = struct.Struct(">QQB")
_OFFSET: Final = struct.Struct(">Q")


class Push(msgspec.Struct, array_like=True, frozen=True):
    """An event on its way. `node` and `number` say whose ledger the acknowledgements go to; `id` is the publisher's
    own, if it has given one."""

    node: str
    number: int
    type: str
    data: bytes
    plain: bytes | None = None
    id: str | None = None


class Arrival(NamedTuple):
    """A push as it came; `offset` None for a live one, `previous` the offset of its stream before it; `epoch` is the
    one in which Redis accepted it (empty: it doesn't say)."""

    push: Push
    offset: int | None
    previous: int
    epoch: bytes


class Ack(msgspec.Struct, array_like=True, frozen=True):
    """What one node did with a push."""

    number: int
    matched: int
    queued: int


class ClusterMessage(msgspec.Struct, array_like=True, frozen=True):
    """A message of one node to others."""

    sender: str
    kind: str
    body: bytes


class _Receipt(msgspec.Struct, array_like=True, frozen=True):
    stream: str | None
    offset: int | None
    matched: int
    queued: int


_encode = msgspec.msgpack.Encoder().encode
_push = msgspec.msgpack.Decoder(Push)
_acks = msgspec.msgpack.Decoder(list[Ack])
_cluster_message = msgspec.msgpack.Decoder(ClusterMessage)
_receipt = msgspec.msgpack.Decoder(_Receipt)
_unreadable = (msgspec.MsgspecError, struct.error, UnicodeDecodeError, RecursionError)


def body_of(event: Event, node: str, number: int, publication_id: str | None = None) -> bytes:
    """An event as the scripts and the history have it."""
    return _encode(Push(node, number, event.type, bytes(event.data), event.plain, publication_id))


def live(body: bytes, epoch: bytes = b"") -> bytes:
    """The message of a live push without an id, and the epoch that its publisher knows. (Any other's is made by the
    script.)"""
    return b"\6%c%b%b" % (len(epoch), epoch, body) if 0 < len(epoch) < 256 else b"\1" + body


def event_of(push: Push, stream: str | None = None, offset: int | None = None) -> Event:
    """The event of a push."""
    return Event(push.type, Raw(push.data), stream, offset, push.plain)


def read_push(payload: bytes) -> Arrival | None:
    """What came on a target's channel."""
    try:
        kind = payload[0]
        if kind == LIVE:
            return Arrival(_push.decode(memoryview(payload)[1:]), None, 0, b"")
        if kind == DURABLE:
            offset, previous, length = _HEAD.unpack_from(payload, 1)
            body = 18 + length
            return Arrival(_push.decode(memoryview(payload)[body:]), offset, previous, payload[18:body])
        if kind == NAMED:
            body = 2 + payload[1]
            return Arrival(_push.decode(memoryview(payload)[body:]), None, 0, payload[2:body])
    except (*_unreadable, IndexError):
        pass
    return None


def read_kept(body: bytes) -> Push | None:
    """What the history holds of one event."""
    try:
        return _push.decode(body)
    except _unreadable:
        return None


def acks(some: list[Ack]) -> bytes:
    """The acknowledgements that one node has for another."""
    return b"\3" + _encode(some)


def cluster_message(message: ClusterMessage) -> bytes:
    """A message to other nodes."""
    return b"\4" + _encode(message)


def fence(number: int) -> bytes:
    """A mark that a node sends itself: what was published before it has come when it comes."""
    return b"\5" + _OFFSET.pack(number)


def read_inbox(payload: bytes) -> list[Ack] | ClusterMessage | int | None:
    """What came on a node's own channel, or that of all nodes: acknowledgements, a message, or a fence's number."""
    try:
        kind, rest = payload[0], memoryview(payload)[1:]
        if kind == ACKS:
            return _acks.decode(rest)
        if kind == TOLD:
            return _cluster_message.decode(rest)
        if kind == FENCE:
            [number] = _OFFSET.unpack(rest)
            return int(number)
    except (*_unreadable, IndexError):
        pass
    return None


def receipt(published: Published) -> bytes:
    """What is remembered of a push with an id."""
    return b"\1" + _encode(_Receipt(published.stream, published.offset, published.matched, published.queued))


def read_receipt(publication_id: str, value: bytes) -> Published | None:
    """What became of a push with an id; None while that isn't known."""
    try:
        if value[0] == _RECEIPT:
            known = _receipt.decode(memoryview(value)[1:])
            return Published(publication_id, known.stream, known.offset, known.matched, known.queued, True)
    except (*_unreadable, IndexError):
        pass
    return None


def pending_offset(value: bytes) -> int | None:
    """The offset of a push whose receipt isn't written yet; None if it is a live one."""
    try:
        [offset] = _OFFSET.unpack_from(value, 1)
        return int(offset) or None
    except struct.error:
        return None


class _Ordinary(msgspec.Struct):
    """An object of another program's; what it says besides is passed on unread."""

    type: Raw = NULL


_ordinary = msgspec.json.Decoder(_Ordinary)
_text = msgspec.json.Decoder(str)


def read_ordinary(payload: bytes) -> Event:
    """An event that another program published. Raises PeerFault for what is no JSON object, or too large."""
    if len(payload) > MAX_ORDINARY:
        raise PeerFault(ErrorCode.TOO_LARGE, f"The event is larger than {MAX_ORDINARY >> 20} MiB.")
    named = strict_json.decode(_ordinary, payload).type
    strict_json.check_numbers(payload)
    return Event(_text.decode(named) if bytes(named)[:1] == b'"' else UNNAMED, Raw(payload), plain=payload)
