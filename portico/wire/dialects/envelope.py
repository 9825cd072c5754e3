"""The envelope dialect: `{"type", "msg_id", "timestamp", "data"}`, spoken by workers and by clients.

Bytes in, messages out, and back; no decisions. `params`, results and payloads stay the bytes that came.
Source: protocol reference, "Envelope dialect".
"""

import re
from itertools import accumulate, compress
from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from ..codes import ErrorCode
from ..faults import PeerFault
from ..frame import Frame
from ..messages import NULL, Event, Identity, Name, Resume, encode
from ..outline import LARGE, Outline, Outlined, TooManyKeys, nested_outline_of, outline_of, uses_of
from ..strict_json import (
    check_keys,
    check_numbers,
    check_text,
    decode,
    explain,
    has_only,
    is_true,
    peek,
    too_many_keys,
)

S = TypeVar("S", bound=Struct)

SUBPROTOCOL: Final = "portico.envelope.v1"
TYPES: Final = frozenset(
    {
        "connect",
        "disconnect",
        "heartbeat",
        "error",
        "handshake",
        "request",
        "response",
        "notification",
        "custom",
    }
)

_FIXED: Final = frozenset({"connect", "handshake", "request", "response"})
"""The types whose `data` has a form of its own: nobody has a reason to put very many keys there."""

LONGEST_ACTION: Final = 128
"""Characters that an action, or a command that a worker serves, may have."""
MAX_CAPACITY: Final = 1_000_000
MAX_WEIGHT: Final = 1_000_000
"""The largest that a worker may name."""

Action = Annotated[str, Meta(min_length=1, max_length=LONGEST_ACTION)]
Weight = Annotated[float, Meta(gt=0, le=MAX_WEIGHT)]
Capacity = Annotated[int, Meta(ge=0, le=MAX_CAPACITY)]


class Envelope(Struct):
    """One message as it came; `data` undecoded."""

    type: str
    msg_id: Name | None = None
    data: Raw = NULL
    timestamp: Raw = NULL


class _LargeEnvelope(Envelope, kw_only=True):
    """One whose `data` is an object that has been read too: `inside`. Its own `data` is empty."""

    inside: Outline


class _Given(Struct):
    """What is looked at in a message that can't be read. Any object is one."""

    msg_id: Raw = NULL


class Connect(Identity, frozen=True):
    """`connect` from a client: who it is, and for a worker what it takes."""

    role: str | None = None
    commands: list[Action] | None = None
    capacity: Capacity | None = None
    weight: Weight | None = None
    token: str | None = None
    resume: Resume | None = None


class Handshake(Struct):
    """`handshake`, the first message of older workers."""

    handshake_key: str | None = None


class ActionRequest(Struct):
    """`request`: an action and its parameters."""

    action: Action
    params: Raw = NULL
    timeout: Annotated[float, Meta(gt=0, le=86_400)] | None = None


class Answer(Struct, gc=False):
    """`response`: what came of a request."""

    request_id: str | None = None
    success: bool | None = None
    result: Raw = NULL
    error: Raw = NULL
    partial: bool | None = None


class _LooseAnswer(Struct):
    """A `response` whose `success` is not true, false or null."""

    request_id: str | None = None
    success: Raw = NULL
    result: Raw = NULL
    error: Raw = NULL
    partial: bool | None = None


class _Response(Struct, gc=False):
    """A whole `response`, read in one pass."""

    type: str
    data: Answer
    msg_id: Name | None = None
    timestamp: Raw = NULL


class Custom(Struct):
    """`custom`: an event, with whatever else belongs to it."""

    event: Name


class CapacityChange(Struct):
    """The data of the custom event `capacity`: what a worker takes from now on."""

    capacity: Capacity


class TokenRefresh(Struct):
    """The data of the custom event `token_refresh`: a newer token of the same user's."""

    token: str


_envelope = msgspec.json.Decoder(Envelope)
_connect = msgspec.json.Decoder(Connect)
_handshake = msgspec.json.Decoder(Handshake)
_call = msgspec.json.Decoder(ActionRequest)
_answer = msgspec.json.Decoder(Answer)
_loose_answer = msgspec.json.Decoder(_LooseAnswer)
_custom = msgspec.json.Decoder(Custom)
_capacity_change = msgspec.json.Decoder(CapacityChange)
_token_refresh = msgspec.json.Decoder(TokenRefresh)
_decode_response = msgspec.json.Decoder(_Response).decode
_text = msgspec.json.Decoder(str)

_given = msgspec.json.Decoder(_Given)
QUICK: Final = 1 << 15
"""Bytes up to which a message is read as if it were an answer that is right, and again if it isn't."""
_LONGEST_NAME: Final = 256
"""Characters that a `msg_id` may have."""


def _quoted(form: type[Struct]) -> tuple[bytes, ...]:
    return tuple(f'"{key}"'.encode() for key in form.__struct_fields__)


_ENVELOPE_KEYS: Final = _quoted(Envelope)
_USES: Final = uses_of(Envelope)
_CONNECT_KEYS: Final = _quoted(Connect)
_HANDSHAKE_KEYS: Final = _quoted(Handshake)
_CALL_KEYS: Final = _quoted(ActionRequest)
_ANSWER_KEYS: Final = _quoted(Answer)
_CUSTOM_KEYS: Final = (*_quoted(Custom), b'"request_id"', *_quoted(CapacityChange), *_quoted(TokenRefresh))


def decode_envelope(payload: bytes) -> Envelope:
    """Decode the outer object. Raises PeerFault, with `msg_id` set where it can be read. Of a large message `data` is
    read in the same pass, and is not there as it came: see `data_of`."""
    if len(payload) <= LARGE:
        return _decode_envelope(payload, None)
    try:
        if isinstance(payload, Outlined):
            outline_of(payload)  # raises what was found wrong already
        outline = nested_outline_of(payload, Envelope.__struct_fields__, "data")
    except TooManyKeys:
        return _decode_crowded(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error)
    if outline is None:
        return _decode_envelope(payload, None)
    text, inside = outline
    envelope = _decode_envelope(text, inside)
    return _LargeEnvelope(envelope.type, envelope.msg_id, envelope.data, envelope.timestamp, inside=inside)


def _decode_crowded(payload: bytes) -> Envelope:
    """Decode one with very many keys, if it may have them: in the data of some types, and not outside of it."""
    try:
        outline = outline_of(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error)
    envelope = _decode_envelope(outline.text(_USES), outline)
    if envelope.type in _FIXED:
        raise too_many_keys(envelope.msg_id)
    outline.restore(envelope, _USES)
    return envelope


def data_of(envelope: Envelope) -> Raw:
    """The data as it came. Reads a large message once more."""
    return _envelope.decode(envelope.inside.whole).data if isinstance(envelope, _LargeEnvelope) else envelope.data


def _decode_envelope(payload: bytes, outline: Outline | None) -> Envelope:
    given = None
    try:
        check_text(payload)
        try:
            envelope = _envelope.decode(payload)
        except msgspec.ValidationError as error:
            given = peek(_given, payload)
            if given is None:
                decode(_envelope, payload)  # no JSON, or no object: raises
            explain(error)
        fields_read = 1 + (envelope.msg_id is not None) + (envelope.data is not NULL) + (envelope.timestamp is not NULL)
        if not has_only(fields_read, payload, envelope.data):
            check_keys(payload, _ENVELOPE_KEYS, inside=False)
        if outline is None:
            check_numbers(payload)
        else:
            outline.check_numbers()
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error)
    except PeerFault as fault:
        if given is None:
            given = peek(_given, payload)
        fault.msg_id = None if given is None else _readable(given.msg_id)
        raise
    return envelope


def _readable(msg_id: Raw) -> str | None:
    if bytes(msg_id)[:1] != b'"':
        return None
    text = _text.decode(msg_id)
    return text if len(text) <= _LONGEST_NAME else None


def _data(envelope: Envelope) -> bytes:
    if envelope.data == NULL:
        return b"{}"
    data = bytes(envelope.data)
    if data[:1] != b"{":
        raise PeerFault(ErrorCode.BAD_FIELD, "The field 'data' must be an object.", field="data")
    return data


def _decode_data(decoder: msgspec.json.Decoder[S], envelope: Envelope, keys: tuple[bytes, ...]) -> S:
    message = _decode_form(decoder, envelope)
    if isinstance(envelope, _LargeEnvelope):
        envelope.inside.check_keys(keys)
    else:
        check_keys(_data(envelope), keys, inside=False)
    return message


def _decode_form(decoder: msgspec.json.Decoder[S], envelope: Envelope) -> S:
    data = _data(envelope)
    if isinstance(envelope, _LargeEnvelope):
        return _decode_inside(decoder, envelope.inside)
    return decode(decoder, data, is_part=True)


def _decode_inside(decoder: msgspec.json.Decoder[S], inside: Outline) -> S:
    uses = uses_of(decoder.type)
    message = decode(decoder, inside.text(uses), is_part=True)
    inside.restore(message, uses)
    return message


def connect_of(envelope: Envelope) -> Connect:
    """The data of a `connect`. Raises PeerFault."""
    connect = _decode_data(_connect, envelope, _CONNECT_KEYS)
    if connect.role not in (None, "worker", "client"):
        raise PeerFault(ErrorCode.BAD_FIELD, "The field 'role' must be 'worker' or 'client'.", field="role")
    connect.check()
    return connect


def handshake_of(envelope: Envelope) -> Handshake:
    """The data of a `handshake`. Raises PeerFault."""
    return _decode_data(_handshake, envelope, _HANDSHAKE_KEYS)


def call_of(envelope: Envelope) -> ActionRequest:
    """The data of a `request`. Raises PeerFault."""
    return _decode_data(_call, envelope, _CALL_KEYS)


def answer_of(envelope: Envelope) -> Answer:
    """The data of a `response`. Without `success` it is a success unless it has an error; a `success` that is neither
    true nor false counts by its truth, as in Python. Raises PeerFault."""
    data = _data(envelope)
    inside = envelope.inside if isinstance(envelope, _LargeEnvelope) else None
    try:
        answer = decode(_answer, data, is_part=True) if inside is None else _decode_inside(_answer, inside)
    except PeerFault as fault:
        if fault.field != "success":
            raise
        loose = decode(_loose_answer, data, is_part=True) if inside is None else _decode_inside(_loose_answer, inside)
        answer = Answer(loose.request_id, is_true(loose.success), loose.result, loose.error, loose.partial)
    fields_read = (
        (answer.request_id is not None)
        + (answer.success is not None)
        + (answer.result is not NULL)
        + (answer.error is not NULL)
        + (answer.partial is not None)
    )
    if inside is not None:
        inside.check_keys(_ANSWER_KEYS)
    elif not has_only(fields_read, data, answer.result, answer.error):
        check_keys(data, _ANSWER_KEYS, inside=False)
    if answer.success is None:
        answer.success = answer.error == NULL
    return answer


def quick_response(payload: bytes) -> tuple[str | None, Answer] | None:
    """The `msg_id` and the answer of a `response` that is as workers send them. Raises PeerFault only for a number in
    it that is too large.

    One pass, half the cost of `decode_envelope` and `answer_of`. None for all other messages, and for whatever has to
    be looked at closely: those two then say what it is, or what is wrong with it.
    """
    if payload.find(b'"response"') < 0 or len(payload) > QUICK:
        return None
    try:
        message = _decode_response(payload)
        if not payload.isascii():
            check_text(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, PeerFault):
        return None
    answer = message.data
    # As `has_only`, which is called last: most results have no colon, and next to no error is there.
    colons = payload.count(b":")
    fields_read = (
        2
        + (message.msg_id is not None)
        + (message.timestamp is not NULL)
        + (answer.request_id is not None)
        + (answer.success is not None)
        + (answer.result is not NULL)
        + (answer.error is not NULL)
        + (answer.partial is not None)
    )
    if message.type != "response" or (
        colons != fields_read
        and colons != fields_read + bytes(answer.result).count(b":")
        and not has_only(fields_read, payload, answer.result, answer.error)
    ):
        return None
    try:
        check_numbers(payload)
    except PeerFault as fault:
        fault.msg_id = message.msg_id
        raise
    if answer.success is None:
        answer.success = answer.error == NULL
    return message.msg_id, answer


_NO_NUMBERS: Final = ((b"-Infinity", b"\x03"), (b"Infinity", b"\x04"), (b"NaN", b"\x05"))
"""What is no number in JSON, and the mark that stands for it while a message is mended."""
_MARKS: Final = {mark: name for name, mark in _NO_NUMBERS}
_MARK: Final = b"\x05"
_ONE_MARK: Final = bytes.maketrans(b"\x03\x04", b"\x05\x05")
_NO_MARKS: Final = bytes(set(range(256)) - set(b"\x03\x04\x05"))
_NEITHER_QUOTE_NOR_MARK: Final = bytes(set(_NO_MARKS) - set(b'"'))
MOST_MENDED: Final = 100_000
"""NaNs and infinities in one message of many texts that are mended; with more the message is refused as it is."""
_REQUEST_NAME: Final = re.compile(rb'"(r-[0-9]{1,20})"')
_NAMES_WITHIN: Final = 4096
# JSON's tokens; a string that has no end goes on to the end of what there is.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|"[\s\S]*|[{}\[\]:,]|[^\s"{}\[\]:,]+', re.DOTALL)
_ENVELOPE_DEPTH: Final = 2


def without_nan(payload: bytes) -> bytes | None:
    """A message with null for NaN and infinities, which Python's `json.dumps` writes; None if there are none, or more
    than MOST_MENDED and many texts. What is no JSON otherwise stays none. Passes over the message some ten times, in C;
    only where there are texts that hold such a word, and many texts, is each word looked at by itself."""
    if b"NaN" not in payload and b"Infinity" not in payload:
        return None
    if any(byte in payload for byte in (b"\x00", b"\x01", b"\x02", b"\x03", b"\x04", b"\x05")):
        return None
    has_escapes = b"\\" in payload
    text = payload.replace(b"\\\\", b"\x00\x00").replace(b'\\"', b"\x01\x01") if has_escapes else payload
    # Without escaped quotes, every other piece between quotes is outside of texts. What is outside is mended at once.
    most = 64 + len(text) // 32
    pieces = text.split(b'"', most)
    if len(pieces) <= most:
        outside = b"\x02".join(pieces[::2])
        if b"Infinity" in outside:
            outside = outside.replace(b"-Infinity", b"null").replace(b"Infinity", b"null")
        outside = outside.replace(b"NaN", b"null")
        pieces[::2] = outside.split(b"\x02")
        text = b'"'.join(pieces)
    elif text.count(b"NaN") + text.count(b"Infinity") > MOST_MENDED:
        return None
    else:
        text = _mended_by_marks(text)
    mended = text.replace(b"\x00\x00", b"\\\\").replace(b"\x01\x01", b'\\"') if has_escapes else text
    return None if mended == payload else mended


def _mended_by_marks(text: bytes) -> bytes:
    for name, mark in _NO_NUMBERS:
        text = text.replace(name, mark)
    marks = text.translate(None, _NO_MARKS)
    # What is left between marks are quotes. A mark is inside of a text if there is an odd number of them before it.
    between = text.translate(_ONE_MARK, _NEITHER_QUOTE_NOR_MARK).split(_MARK)
    inside = [number & 1 for number in accumulate(map(len, between))]
    inside.pop()
    if not any(inside):
        for mark in _MARKS:
            text = text.replace(mark, b"null")
        return text
    pieces = text.translate(_ONE_MARK).split(_MARK)
    # Pieces and words by turns.
    joined = [b"null"] * (2 * len(pieces) - 1)
    joined[::2] = pieces
    for number in compress(range(len(inside)), inside):
        joined[2 * number + 1] = _MARKS[marks[number : number + 1]]
    return b"".join(joined)


def names_in(payload: bytes) -> list[str]:
    """What may be the names of requests in a `response` that can't be read: near its beginning, or near its end."""
    if b'"response"' not in payload:
        return []
    near = payload if len(payload) <= 2 * _NAMES_WITHIN else payload[:_NAMES_WITHIN] + payload[-_NAMES_WITHIN:]
    return [name.decode() for name in _REQUEST_NAME.findall(near)]


class Beginning(NamedTuple):
    """What the beginning of a message says of the whole. The ids are None where they are not in it."""

    may_be_response: bool
    msg_id: str | None
    request_id: str | None
    top_request_id: str | None


def beginning_of(head: bytes) -> Beginning:
    """Read the beginning of a message whose rest is not there. Only the message's own fields count, and the
    `request_id` of its `data`: what a result holds, which somebody else may have chosen, is passed over. A C-Client's
    answer has its `request_id` at the top."""
    fields: dict[tuple[bytes, ...], bytes] = {}
    inside: list[bytes] = []
    key = last = b""
    for token in _TOKEN.findall(head):
        if token in (b"{", b"["):
            inside.append(key)
            key = b""
        elif token in (b"}", b"]"):
            if not inside:
                break
            inside.pop()
        elif token == b":":
            key = last
        elif token == b",":
            key = b""
        else:
            if key and len(inside) <= _ENVELOPE_DEPTH:
                fields.setdefault((*inside, key), token)
            last = token
    kind = fields.get((b"", b'"type"'), b'"response"')
    return Beginning(
        kind == b'"response"',
        _name(fields, b"", b'"msg_id"'),
        _name(fields, b"", b'"data"', b'"request_id"'),
        _name(fields, b"", b'"request_id"'),
    )


def not_json() -> PeerFault:
    """The fault of a message that has NaN in it."""
    try:
        explain(msgspec.DecodeError())
    except PeerFault as fault:
        return fault


def _name(fields: dict[tuple[bytes, ...], bytes], *path: bytes) -> str | None:
    match = _REQUEST_NAME.fullmatch(fields.get(path, b""))
    return None if match is None else match[1].decode()


def custom_of(envelope: Envelope) -> Custom:
    """The event of a `custom`. Raises PeerFault; also for what belongs to one of the events given twice."""
    return _decode_data(_custom, envelope, _CUSTOM_KEYS)


def capacity_of(envelope: Envelope) -> int:
    """The capacity that a `custom` event names; call `custom_of` first. Raises PeerFault."""
    return _decode_form(_capacity_change, envelope).capacity


def token_of(envelope: Envelope) -> str:
    """The token that a `custom` event brings; call `custom_of` first. Raises PeerFault."""
    return _decode_form(_token_refresh, envelope).token


def error_text(answer: Answer) -> str | None:
    """The error of an answer that failed: its `error`, else the text of its `result`; None on success."""
    if answer.success:
        return None
    for raw in (answer.error, answer.result):
        if raw != NULL:
            return as_text(raw)
    return "The worker gave no reason"


def as_text(raw: Raw) -> str:
    """A JSON string's own text, any other value as JSON."""
    try:
        return _text.decode(raw)
    except msgspec.ValidationError:
        return bytes(raw).decode()


def encode_envelope(kind: str, msg_id: str, timestamp: float, data: object) -> Frame:
    """Any message of this dialect. `timestamp` in seconds since the epoch."""
    return Frame(encode({"type": kind, "msg_id": msg_id, "timestamp": timestamp, "data": data}))


class _Notice(Struct):
    title: Raw = NULL
    content: Raw = NULL
    level: Raw = NULL


_notice = msgspec.json.Decoder(_Notice)


def push(event: Event, msg_id: str, timestamp: float) -> Frame:
    """A push in this dialect: a `notification`."""
    notice = _notice.decode(event.data)
    data: dict[str, object] = {
        "event": event.type,
        "payload": event.data,
        "title": event.type if notice.title == NULL else notice.title,
        "content": bytes(event.data).decode() if notice.content == NULL else notice.content,
        "level": "info" if notice.level == NULL else notice.level,
        "stream": event.stream,
        "offset": event.offset,
    }
    return encode_envelope("notification", msg_id, timestamp, data)


def error(fault: PeerFault, msg_id: str, timestamp: float) -> Frame:
    """The answer to a message that cannot be accepted."""
    data: dict[str, object] = {"error": fault.message, "code": fault.code, "msg_id": fault.msg_id}
    if fault.field is not None:
        data["field"] = fault.field
    return encode_envelope("error", msg_id, timestamp, data)


class _RequestInfo(Struct, gc=False):
    id: str
    attempt: int
    deadline_ms: int
    stream: bool


class _RequestData(Struct, gc=False):
    action: str
    params: Raw
    request: _RequestInfo


class _RequestEnvelope(Struct, gc=False):
    type: str
    msg_id: str
    timestamp: float
    data: _RequestData


def request(
    request_id: str,
    timestamp: float,
    action: str,
    params: Raw,
    *,
    attempt: int,
    deadline_ms: int,
    stream: bool,
) -> Frame:
    """A request, gateway → worker; `msg_id` is the request's id. `deadline_ms`: what is left of its time."""
    info = _RequestInfo(request_id, attempt, deadline_ms, stream)
    return Frame(encode(_RequestEnvelope("request", request_id, timestamp, _RequestData(action, params, info))))


def response(
    msg_id: str, timestamp: float, success: bool, result: Raw | None, fault: str | None, partial: bool = False
) -> Frame:
    """An answer, gateway → client, under the request's own `msg_id`. Of one that failed without a result, the error is
    the `result` too, where older programs look for it."""
    if result is None and fault is not None and not success:
        result = Raw(encode(fault))
    data: dict[str, object] = {"request_id": msg_id, "success": success, "result": result, "error": fault}
    if partial:
        data["partial"] = True
    return encode_envelope("response", msg_id, timestamp, data)


def cancel(request_id: str, msg_id: str, timestamp: float) -> Frame:
    """Tells a worker to stop working on a request."""
    return encode_envelope("custom", msg_id, timestamp, {"event": "cancel", "request_id": request_id})
