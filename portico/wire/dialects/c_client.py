"""The C-Client dialect: flat objects with a `type`. Bytes in, messages out, and back; no decisions.

Source: protocol reference, "C-Client dialect".
"""

from functools import lru_cache
from typing import Annotated, Final, NamedTuple, get_args

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ..codes import ErrorCode
from ..faults import PeerFault
from ..frame import Frame
from ..messages import NULL, Event, Identity, Name, Resume, encode, flat
from ..outline import LARGE, Outline, Outlined, Use, Uses, outline_of, outlined, uses_of
from ..strict_json import check_keys, check_numbers, check_text, decode, explain, fields_of, is_true

SUBPROTOCOL: Final = "portico.c-client.v1"
REGISTER: Final = "c_client_register"


class _Claimed(Struct):
    """The identity fields as they came, of whatever type, to be named in a rejection."""

    client_id: Raw = NULL
    user_id: Raw = NULL
    username: Raw = NULL
    node_id: Raw = NULL


class _Head(_Claimed):
    """Just enough of a message to know what it is, and of whom it may be. Any object is one."""

    type: Raw | UnsetType = UNSET


class _Typed(Struct):
    type: str


class Heartbeat(Struct, tag_field="type", tag="heartbeat"):
    """`heartbeat`, in a spelling of its own."""


class BadRegister(PeerFault):
    """A `c_client_register` that cannot be accepted: answered by a `registration_rejected`. `claimed`: whose it is."""

    def __init__(self, fault: PeerFault, claimed: "_Claimed | Identity") -> None:
        super().__init__(fault.code, fault.message, field=fault.field)
        self.claimed = claimed


class Register(Identity, frozen=True, tag_field="type", tag=REGISTER):
    """`c_client_register`: who the client is, or now is."""

    token: str | None = None
    resume: Resume | None = None


FeedbackText = Annotated[str, Meta(max_length=4096)]


class SessionFeedback(Struct, tag_field="type", tag="session_feedback"):
    """`session_feedback`: how the client's automatic login went."""

    success: bool
    session_id: Name | None = None
    message: FeedbackText | None = None


class TokenRefresh(Struct, tag_field="type", tag="token_refresh"):
    """`token_refresh`: a newer token of the same user's."""

    token: str


Message = Register | SessionFeedback | Heartbeat | TokenRefresh
TYPES: Final = frozenset(str(form.__struct_config__.tag) for form in get_args(Message))

_head = msgspec.json.Decoder(_Head)
_typed = msgspec.json.Decoder(_Typed)
_text = msgspec.json.Decoder(str)
_message: Final = msgspec.json.Decoder(Message)
# Of two forms, since a decoder of one takes an object without its tag: a request that only has that text in it.
_register: Final = msgspec.json.Decoder(Register | TokenRefresh)
QUOTED_REGISTER: Final = f'"{REGISTER}"'.encode()
REGISTER_FIELDS: Final = tuple(uses_of(Register))
"""All fields that are looked at in a registration."""
_KEYS: Final = tuple(
    f'"{key}"'.encode() for key in ("type", *Register.__struct_fields__, *SessionFeedback.__struct_fields__)
)

_MESSAGE_USES: Final[Uses] = {**uses_of(Register), **uses_of(SessionFeedback), **uses_of(TokenRefresh)}
_HEAD_USES: Final[Uses] = {**uses_of(_Head), "type": Use.SCALAR}

HEARTBEAT_MESSAGES: Final = frozenset({b'{"type":"heartbeat"}', b'{"type": "heartbeat"}'})
"""The two spellings that nearly all clients send; equal bytes need no decoding."""

HEARTBEAT: Final = Frame(b'{"type":"heartbeat"}')


def read(payload: bytes) -> bytes:
    """A message, and if it is large its outline, for the functions here that take a message: it is read once."""
    return outlined(payload, FIELDS)


def decode_message(payload: bytes) -> Message | str:
    """Decode one message. Of a type that is not this module's, the type itself is returned. Raises PeerFault; for a
    registration, BadRegister."""
    try:
        outline = outline_of(payload, FIELDS) if len(payload) > LARGE else None
        if outline is None:
            check_text(payload)
        message: Message = _message.decode(payload if outline is None else outline.text(_MESSAGE_USES))
    except (msgspec.MsgspecError, RecursionError) as error:
        if type(error) is not msgspec.ValidationError:
            explain(error)
        return _explained(payload, outline, error)
    _check(payload, outline)
    if isinstance(message, Register):
        _check_identity(message)
    return message


def first_register(payload: bytes) -> Register | None:
    """The registration that a connection begins with; None for any other message, and for one that cannot be
    accepted, or has been read already: `dialect_of` and `decode_message` say what those are."""
    if isinstance(payload, Outlined) or QUOTED_REGISTER not in payload:
        return None
    try:
        check_text(payload)
        register = _register.decode(payload)
        if not isinstance(register, Register):
            return None
        _check(payload, None)
        register.check()
    except (msgspec.MsgspecError, RecursionError, PeerFault):
        return None
    return register


def _explained(payload: bytes, outline: Outline | None, error: Exception) -> str:
    """A message that is none of ours, or is wrong: what it is. Raises PeerFault for what is wrong with it: `error`, if
    it is one of ours."""
    text = payload if outline is None else outline.text(_HEAD_USES)
    head = decode(_head, text)
    if head.type is UNSET:
        raise PeerFault(ErrorCode.MISSING_FIELD, "The field 'type' is missing.", field="type")
    if bytes(head.type)[:1] != b'"':
        decode(_typed, text, is_part=True)  # raises
    kind = _text.decode(head.type)
    _check(payload, outline)
    if kind not in TYPES:
        return kind
    try:
        explain(error)
    except PeerFault as fault:
        if kind == REGISTER:
            raise BadRegister(fault, head) from None
        raise


def _check(payload: bytes, outline: Outline | None, keys: tuple[bytes, ...] = _KEYS) -> None:
    if outline is None:
        check_keys(payload, keys, inside=False)
        check_numbers(payload)
    else:
        outline.check_keys(keys)
        outline.check_numbers()


def _check_identity(register: Register) -> None:
    try:
        register.check()
    except PeerFault as fault:
        raise BadRegister(fault, register) from None


class _Other(Struct):
    """A message that is not this module's: what of it could be an answer."""

    type: Raw | UnsetType = UNSET
    request_id: Raw | UnsetType = UNSET
    success: Raw | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


_LONGEST_REQUEST_ID: Final = 256
"""Bytes, as JSON, of what may be the id of a request: ours are a few letters."""
_other = msgspec.json.Decoder(_Other)
_OTHER_KEYS: Final = fields_of(_Other)
_OTHER_USES: Final = uses_of(_Other)

FIELDS: Final = tuple({**_MESSAGE_USES, **_OTHER_USES})
"""All fields that are looked at in a message."""


class ClientAnswer(NamedTuple):
    """What a client answered to what it was asked."""

    request_id: str
    success: bool
    result: Raw
    error: str | None


def answer_of(payload: bytes) -> ClientAnswer | None:
    """What a message is as an answer; None where it names no request by a text. Its result is `data`, else `result`,
    else all of it. `success` is taken by truth; without one it has failed if there is an `error`.

    Raises PeerFault where the message is no strict JSON.
    """
    found = check_other(payload)
    named = b"" if found.request_id is UNSET else bytes(found.request_id)
    if named[:1] != b'"' or len(named) > _LONGEST_REQUEST_ID:
        return None
    failed = found.error is not UNSET and is_true(found.error)
    success = not failed if found.success is UNSET else is_true(found.success)
    result = found.data if found.data is not UNSET else found.result
    error = None
    if failed and not success and found.error is not UNSET:
        text = bytes(found.error)
        error = _text.decode(text) if text[:1] == b'"' else text.decode()
    return ClientAnswer(_text.decode(named), success, Raw(payload) if result is UNSET else result.copy(), error)


def check_other(payload: bytes) -> _Other:
    """Refuse a message that is not this module's where it is no strict JSON object. Raises PeerFault."""
    if len(payload) <= LARGE:
        found = decode(_other, payload)
        _check(payload, None, _OTHER_KEYS)
        return found
    try:
        outline = outline_of(payload, FIELDS)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error)
    found = decode(_other, outline.text(_OTHER_USES))
    outline.restore(found, _OTHER_USES)
    _check(payload, outline, _OTHER_KEYS)
    return found


def ask(action: str, request_id: str, params: Raw) -> Frame:
    """A question to a client."""
    return Frame(encode({"type": action, "request_id": request_id, "data": params}))


def registration_success(
    identity: Identity,
    connection_id: str,
    node: str,
    heartbeat_interval: float,
    resume: object,
    expires_at: float | None = None,
) -> Frame:
    """The answer to a registration that was accepted. `expires_at`: when its token ends."""
    fields: dict[str, object] = {
        "type": "registration_success",
        "client_id": identity.client_id,
        "user_id": identity.user_id,
        "connection_id": connection_id,
        "node": node,
        "heartbeat_interval": heartbeat_interval,
        "resume": resume,
    }
    if expires_at is not None:
        fields["expires_at"] = expires_at
    return Frame(encode(fields))


def token_refreshed(expires_at: float | None) -> Frame:
    """The answer to a `token_refresh`."""
    return Frame(encode({"type": "token_refresh", "expires_at": expires_at}))


def registration_rejected(reason: str, message: str, claimed: _Claimed | Identity) -> Frame:
    """The answer to a registration that was not; repeats the identity as the message claimed it, cut short."""
    fields: dict[str, object] = {"type": "registration_rejected", "reason": reason, "message": message}
    for name in _Claimed.__struct_fields__:
        value: Raw | str | None = getattr(claimed, name)
        # A claim of another type or of any length is not worth sending back.
        fields[name] = None if isinstance(value, Raw) and len(bytes(value)) > 1024 else value
    return Frame(encode(fields))


def push(event: Event) -> Frame:
    """A push in this dialect."""
    return Frame(flat(event))


def error(fault: PeerFault) -> Frame:
    """The answer to a message that cannot be accepted."""
    return _error(fault.code, fault.message, fault.field)


# A flood of bad messages gets one answer again and again; what is kept is at most a few hundred short sentences.
@lru_cache(maxsize=256)
def _error(code: ErrorCode, message: str, field: str | None) -> Frame:
    fields: dict[str, object] = {"type": "error", "code": code, "message": message}
    if field is not None:
        fields["field"] = field
    return Frame(encode(fields))


def draining(retry_within_ms: int) -> Frame:
    """The notice before a drain."""
    return Frame(encode({"type": "server_draining", "retry_within_ms": retry_within_ms}))
