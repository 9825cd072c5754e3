"""The C-Client dialect: flat objects with a `type`. Bytes in, messages out, and back; no decisions.

Source: protocol reference, "C-Client dialect".
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from ..codes import ErrorCode
from ..faults import PeerFault
from ..frame import Frame
from ..messages import Event, Identity, Name, encode, flat
from ..strict_json import check_keys, check_numbers, decode, peek

SUBPROTOCOL: Final = "portico.c-client.v1"
REGISTER: Final = "c_client_register"


class Head(Struct):
    """Just enough of a message to know what it is."""

    type: str


class Resume(Struct):
    """Where a client left off, per stream."""

    epoch: str
    offsets: dict[str, int] = {}


class Register(Identity, frozen=True):
    """`c_client_register`: who the client is, or now is."""

    token: str | None = None
    resume: Resume | None = None


Report = Annotated[str, Meta(max_length=4096)]


class SessionFeedback(Struct):
    """`session_feedback`: how the client's automatic login went."""

    success: bool
    session_id: Name | None = None
    message: Report | None = None


_head = msgspec.json.Decoder(Head)
_register = msgspec.json.Decoder(Register)
_feedback = msgspec.json.Decoder(SessionFeedback)
_KEYS: Final = tuple(
    f'"{key}"'.encode() for key in ("type", *Register.__struct_fields__, *SessionFeedback.__struct_fields__)
)

HEARTBEAT_MESSAGES: Final = frozenset({b'{"type":"heartbeat"}', b'{"type": "heartbeat"}'})
"""The two spellings that nearly all clients send; equal bytes need no decoding."""

HEARTBEAT: Final = Frame(b'{"type":"heartbeat"}')


def type_of(payload: bytes) -> str:
    """The message's `type`. Raises PeerFault for whatever is not an object with one."""
    kind = decode(_head, payload).type
    check_keys(payload, _KEYS, inside=False)
    check_numbers(payload)
    return kind


def register_of(payload: bytes) -> Register:
    """A `c_client_register`, of which `type_of` has been asked. Raises PeerFault."""
    register = decode(_register, payload)
    register.check()
    return register


def feedback_of(payload: bytes) -> SessionFeedback:
    """A `session_feedback`, of which `type_of` has been asked. Raises PeerFault."""
    return decode(_feedback, payload)


def registration_success(
    identity: Identity, connection_id: str, node: str, heartbeat_interval: float, resume: object
) -> Frame:
    """The answer to a registration that was accepted."""
    return Frame(
        encode(
            {
                "type": "registration_success",
                "client_id": identity.client_id,
                "user_id": identity.user_id,
                "connection_id": connection_id,
                "node": node,
                "heartbeat_interval": heartbeat_interval,
                "resume": resume,
            }
        )
    )


class _Claimed(Struct):
    """The identity fields as they came, of whatever type, to be named in a rejection."""

    client_id: Raw = Raw(b"null")
    user_id: Raw = Raw(b"null")
    username: Raw = Raw(b"null")
    node_id: Raw = Raw(b"null")


_claimed = msgspec.json.Decoder(_Claimed)


def registration_rejected(reason: str, message: str, payload: bytes) -> Frame:
    """The answer to a registration that was not; repeats the identity as `payload` claimed it, cut short."""
    claimed = peek(_claimed, payload) or _Claimed()
    fields: dict[str, object] = {"type": "registration_rejected", "reason": reason, "message": message}
    for name in _Claimed.__struct_fields__:
        raw: Raw = getattr(claimed, name)
        # A claim of another type or of any length is not worth sending back.
        fields[name] = raw if len(bytes(raw)) <= 1024 else None
    return Frame(encode(fields))


def push(event: Event) -> Frame:
    """A push in this dialect."""
    return Frame(flat(event))


def error(fault: PeerFault) -> Frame:
    """The answer to a message that cannot be accepted."""
    fields: dict[str, object] = {"type": "error", "code": fault.code, "message": fault.message}
    if fault.field is not None:
        fields["field"] = fault.field
    return Frame(encode(fields))


def draining(retry_within_ms: int) -> Frame:
    """The notice before a drain."""
    return Frame(encode({"type": "server_draining", "retry_within_ms": retry_within_ms}))


def unknown_type() -> PeerFault:
    """The fault for a `type` that this dialect doesn't have."""
    return PeerFault(
        ErrorCode.UNKNOWN_TYPE,
        f"This type is not known here; send {REGISTER}, heartbeat or session_feedback.",
        field="type",
    )
