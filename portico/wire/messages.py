"""What the dialects decode to and encode from, as msgspec structs; no dialect's own form.

An Identity is who a client says it is: each field is an address for pushes. An Event is what is pushed.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .codes import ErrorCode
from .faults import PeerFault

Name = Annotated[str, Meta(max_length=256)]
ClientId = Annotated[str, Meta(min_length=1, max_length=128)]

EMPTY_OBJECT: Final = Raw(b"{}")
NULL: Final = Raw(b"null")

ADDRESS_FIELDS: Final = ("client_id", "user_id", "node_id", "domain_id", "cluster_id", "channel_id")
"""The identity fields that a push can be addressed to; `username` is shown, never an address."""

# Control characters, line separators and the marks that turn the direction of text: in a name they only
# serve to forge log lines and pages. Zero-width joiners are left alone, names in several scripts need them.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


def check_name(value: str | None, field: str) -> None:
    """Refuse a name with control characters or direction marks. Raises PeerFault `bad_field`."""
    if value is not None and not value.isprintable() and _FORBIDDEN.search(value):
        raise PeerFault(
            ErrorCode.BAD_FIELD,
            f"The field {field!r} has control characters or text direction marks; leave them out.",
            field=field,
        )


class Identity(Struct, frozen=True):
    """Who a client is. `client_id` 1–128 characters, the others at most 256; None where absent."""

    client_id: ClientId | None = None
    user_id: Name | None = None
    username: Name | None = None
    node_id: Name | None = None
    domain_id: Name | None = None
    cluster_id: Name | None = None
    channel_id: Name | None = None

    def check(self) -> None:
        """Raises PeerFault `bad_field` for a name that could not be shown safely."""
        for field in IDENTITY_FIELDS:
            check_name(getattr(self, field), field)


def identity_of(source: Identity) -> Identity:
    """Just the identity of a message that carries more (a `Register`, a `Connect`)."""
    return Identity(*(getattr(source, field) for field in IDENTITY_FIELDS))


def named(identity: Identity, client_id: str) -> Identity:
    """The identity under a name that the gateway gives, where the client has none."""
    return Identity(client_id, *(getattr(identity, field) for field in IDENTITY_FIELDS[1:]))


IDENTITY_FIELDS: Final = Identity.__struct_fields__


class Resume(Struct):
    """Where a client left off: the offset of the last event that it has had, per stream."""

    epoch: str
    offsets: dict[str, int] = {}


class Target(Struct, frozen=True):
    """Whom a push is for: one address of a kind in ADDRESS_FIELDS, or everybody (kind `all`, value empty)."""

    kind: str
    value: str = ""


EVERYBODY: Final = Target("all")


def stream_of(target: Target) -> str:
    """The name of the stream that keeps a target's durable events: `user:u1`, `channel:ch1`, `all`, …"""
    return "all" if target.kind == "all" else f"{target.kind[:-3]}:{target.value}"


def stream_gap(epoch: str, offsets: Mapping[str, int]) -> "Event":
    """The event that says that something of these streams may be lost, and from where the client goes on."""
    return Event("stream_gap", Raw(encode({"streams": sorted(offsets), "epoch": epoch, "offsets": offsets})))


def targets_of(identity: Identity) -> list[Target]:
    """All the targets that somebody of this identity belongs to."""
    targets = [EVERYBODY]
    for kind in ADDRESS_FIELDS:
        value: str | None = getattr(identity, kind)
        if value is not None:
            targets.append(Target(kind, value))
    return targets


class Event(Struct, frozen=True, weakref=True):
    """One push. `data` is a JSON object as it came; `stream` and `offset` are set for durable ones only.

    `plain` is for one that came from another program over Redis: what the user dialect passes on unchanged.
    """

    type: str
    data: Raw = EMPTY_OBJECT
    stream: str | None = None
    offset: int | None = None
    plain: bytes | None = None


def flat(event: Event) -> bytes:
    """The flat form: `{"type": …, …the data's keys…}`; the gateway's `type`, `stream`, `offset` win.

    Source: protocol reference, "C-Client dialect" and "User dialect".
    """
    if len(memoryview(event.data)) > _LARGE and (large := _flat_as_it_came(event)) is not None:
        return large
    fields: dict[str, object] = {"type": event.type}
    data = _decode_object(event.data)
    data.pop("type", None)
    data.pop("stream", None)
    data.pop("offset", None)
    fields.update(data)
    if event.stream is not None:
        fields["stream"] = event.stream
        fields["offset"] = event.offset
    return encode(fields)


class _Own(Struct):
    """The keys that are the gateway's in the flat form."""

    type: Raw | UnsetType = UNSET
    stream: Raw | UnsetType = UNSET
    offset: Raw | UnsetType = UNSET


_LARGE: Final = 4096
_own = msgspec.json.Decoder(_Own)


def _flat_as_it_came(event: Event) -> bytes | None:
    """The flat form of data that may have very many keys, of which nothing is made: they go on as they stand. None for
    all other data, and where it has a key of ours."""
    data = bytes(event.data).strip(b" \t\r\n")
    if data.count(b":") <= 500 + len(data) // 256:
        return None
    own = _own.decode(data)
    if not (own.type is own.stream is own.offset is UNSET):
        return None
    head = encode({"type": event.type})[:-1]
    if event.stream is None:
        return b"%b,%b" % (head, data[1:])
    return b'%b,%b,"stream":%b,"offset":%b}' % (head, data[1:-1], encode(event.stream), encode(event.offset))


_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
encode: Final = msgspec.json.Encoder().encode
"""Encode a message to compact JSON, UTF-8."""
