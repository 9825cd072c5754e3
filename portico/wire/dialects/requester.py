"""The requester dialect: requests and their cancelling in, answers out, each one JSON object.

Source: protocol reference, "Requester dialect".
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from ..codes import ErrorCode
from ..faults import PeerFault
from ..frame import Frame
from ..messages import NULL, Name, encode
from ..outline import LARGE, Outline, outline_of, uses_of
from ..strict_json import TOO_MANY_KEYS, check_keys, check_numbers, check_text, decode, explain, has_only, peek

SUBPROTOCOL: Final = "portico.requester.v1"

LONGEST_ID: Final = 256
"""Characters that a request id may have."""
Command = Annotated[str, Meta(max_length=128)]
Timeout = Annotated[float, Meta(gt=0, le=86_400)]


class Request(Struct, gc=False):
    """One request. `request_id`: any JSON scalar, as it came; null: none. `timeout` in seconds, over all attempts and
    waiting; at most a day."""

    command: Command = ""
    request_id: Raw = NULL
    data: Raw = NULL
    timeout: Timeout | None = None
    stream: bool | None = None
    affinity: Name | None = None
    idempotent: bool | None = None


class Cancel(Struct, gc=False):
    """A request on the same connection is no longer wanted. `request_id`: as the request had it, as JSON text."""

    request_id: str


class Response(Struct, gc=False):
    """One answer; all five fields are always there, `partial` only on the partial ones."""

    request_id: Raw
    success: bool
    data: Raw | None
    error: str | None
    processed_by: str | None


_SUCCESS: Final = b'{"request_id":%b,"success":true,"data":%b,"error":null,"processed_by":%b}'
"""A Response that says so, as it is encoded."""


class PartialResponse(Response):
    """One of several answers to a request that asked for a stream."""

    partial: bool = True


class _Given(Struct):
    """What is looked at in a message that can't be read as a request."""

    command: Raw = NULL
    request_id: Raw = NULL
    cancel: Raw = NULL


_request = msgspec.json.Decoder(Request)
_decode = _request.decode
_given = msgspec.json.Decoder(_Given)
_text = msgspec.json.Decoder(str)
_TRUE: Final = Raw(b"true")
_QUOTE: Final = ord('"')
_KEYS: Final = tuple(f'"{key}"'.encode() for key in Request.__struct_fields__)
_CANCEL_KEYS: Final = (b'"request_id"', b'"cancel"')
_USES: Final = uses_of(Request)
_GIVEN_USES: Final = uses_of(_Given)
QUICK: Final = 1 << 15
"""Bytes up to which a message is read as if it were right, and again if it isn't."""

CANCELLED: Final = "Cancelled"
"""The error of a request that its requester took back."""

# The sentences that programs of this dialect already know.
_SENTENCES: Final = {
    ErrorCode.BAD_JSON: "Invalid JSON format",
    ErrorCode.NOT_AN_OBJECT: "Request must be a JSON object",
}


def decode_message(payload: bytes) -> Request | Cancel:
    """Decode what a requester sent. A message with a command is a request, whatever its `cancel` says: programs that
    are older than `cancel` may have such a field. Raises PeerFault, with `msg_id` set where it can be read."""
    if len(payload) <= LARGE:
        return _decode_message(payload, None)
    try:
        outline = outline_of(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error)
    return _decode_message(outline.text(_USES), outline)


def _decode_message(payload: bytes, outline: Outline | None) -> Request | Cancel:
    given = None
    try:
        check_text(payload)
        try:
            request = _decode(payload)
        except msgspec.ValidationError as error:
            given = _peek(payload, outline)
            if given is None:
                decode(_request, payload)  # no JSON, or no object: raises
            explain(error)
        if outline is not None:
            outline.restore(request, _USES)
        _check(request, payload, outline)
    except (msgspec.MsgspecError, RecursionError) as error:
        explain(error)
    except PeerFault as found:
        fault = found
    else:
        return request
    if given is None:
        given = _peek(payload, outline)
    if given is not None:
        if fault.field == "command" and given.command == NULL:
            fault = _missing_command()
        fault.msg_id = _readable_id(given.request_id)
        if fault.code is ErrorCode.MISSING_FIELD and given.cancel == _TRUE:
            return _cancel_of(fault.msg_id, payload, outline)
    raise fault


def _peek(payload: bytes, outline: Outline | None) -> _Given | None:
    if outline is None:
        return peek(_given, payload)
    given = peek(_given, outline.text(_GIVEN_USES))
    if given is not None:
        outline.restore(given, _GIVEN_USES)
    return given


def _cancel_of(request_id: str | None, payload: bytes, outline: Outline | None) -> Cancel:
    if request_id is None:
        raise PeerFault(ErrorCode.MISSING_FIELD, "Missing request_id", field="request_id")
    try:
        if outline is None:
            check_keys(payload, _CANCEL_KEYS, inside=False)
        else:
            outline.check_keys(_CANCEL_KEYS)
    except PeerFault as doubled:
        doubled.msg_id = request_id
        raise
    return Cancel(request_id)


def _check(request: Request, payload: bytes, outline: Outline | None) -> None:
    if not request.command:
        raise _missing_command()
    if request.request_id is not NULL:
        check_id(request.request_id)
    if outline is not None:
        outline.check_keys(_KEYS)
        outline.check_numbers()
        return
    if not has_only(_fields_read(request), payload, request.data, request.request_id):
        check_keys(payload, _KEYS, inside=False)
    check_numbers(payload)


def quick_request(payload: bytes) -> Request | None:
    """A request that is as requesters send them. Raises PeerFault only for a number in it that is too large.

    A fraction of the cost of `decode_message`. None for a message that has to be looked at closely: `decode_message`
    then reads it, or says what is wrong. Numbers are checked last, and a fault is raised here: with all else as it
    should be, the closer look would find the same.
    """
    if len(payload) > QUICK:
        return None
    try:
        request = _decode(payload)
        if not payload.isascii():
            check_text(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, PeerFault):
        return None
    # As `has_only`, for which all fields would be counted. Three keys and three fields: there is nothing else.
    data, request_id = request.data, request.request_id
    colons = payload.count(b":") - bytes(data).count(b":")
    usual = colons == 3 and data is not NULL and request_id is not NULL
    if not usual and colons - bytes(request_id).count(b":") != _fields_read(request):
        return None
    if not request.command:
        return None
    if request_id is not NULL:
        name = bytes(request_id)
        # Text without escapes has no more characters than bytes.
        if len(name) > LONGEST_ID or (name[0] != _QUOTE and not name.isdigit()) or name.find(b"\\") >= 0:
            return None
    try:
        check_numbers(payload)
    except PeerFault as fault:
        fault.msg_id = _readable_id(request_id)
        raise
    return request


def _fields_read(request: Request) -> int:
    """How many fields are not as they are when absent: at most as many as there were."""
    return (
        1
        + (request.request_id is not NULL)
        + (request.data is not NULL)
        + (request.timeout is not None)
        + (request.stream is not None)
        + (request.affinity is not None)
        + (request.idempotent is not None)
    )


def check_id(raw: Raw) -> None:
    """Raises PeerFault `bad_field` for a request id, as JSON, that is no scalar or too long."""
    if _readable_id(raw) is None and raw != NULL:
        raise PeerFault(
            ErrorCode.BAD_FIELD,
            f"The field 'request_id' must be a text of at most {LONGEST_ID} characters, a number, true, false or null.",
            field="request_id",
        )


def _readable_id(raw: Raw) -> str | None:
    """A request id as JSON; None if it is none, or can't be one."""
    text = bytes(raw)
    first = text[:1]
    if first == b'"':
        try:
            if len(_text.decode(text)) > LONGEST_ID:
                return None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
    elif first in b"{[" or text == b"null" or len(text) > LONGEST_ID:
        return None
    return text.decode()


def _missing_command() -> PeerFault:
    return PeerFault(ErrorCode.MISSING_FIELD, "Missing command", field="command")


def response(
    request_id: str | None, success: bool, data: Raw | None, error: str | None, processed_by: str | None
) -> Frame:
    """A final answer. `request_id` as JSON."""
    if success and data is not None and request_id is not None and error is None:
        # Nearly all answers: the same bytes as below, in half the time.
        return Frame(_SUCCESS % (request_id.encode(), data, encode(processed_by)))
    name = NULL if request_id is None else Raw(request_id.encode())
    return Frame(encode(Response(name, success, data, error, processed_by)))


def partial_response(
    request_id: str | None, data: Raw | None, processed_by: str | None, error: str | None = None
) -> Frame:
    """One partial answer of a stream, which has failed if there is an `error`. `request_id` as JSON."""
    name = NULL if request_id is None else Raw(request_id.encode())
    return Frame(encode(PartialResponse(name, error is None, data, error, processed_by)))


def error(fault: PeerFault) -> Frame:
    """Bad input is answered in the form of an answer."""
    # It is JSON, so that the known sentence would mislead.
    sentence = TOO_MANY_KEYS if fault.message == TOO_MANY_KEYS else _SENTENCES.get(fault.code, fault.message)
    return response(fault.msg_id, False, None, sentence, None)
