"""The requester dialect: one object a request, one an answer, and nothing else ever.

Source: protocol reference, "Requester dialect".
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from ..codes import ErrorCode
from ..faults import PeerFault
from ..frame import Frame
from ..messages import NULL, Name, encode
from ..strict_json import check_keys, check_numbers, decode, has_only, peek

SUBPROTOCOL: Final = "portico.requester.v1"

Command = Annotated[str, Meta(max_length=128)]
Timeout = Annotated[float, Meta(gt=0, le=86_400)]


class Request(Struct):
    """One request. `timeout` in seconds, over all attempts and waiting; at most a day."""

    command: Command = ""
    request_id: Name | None = None
    data: Raw = NULL
    timeout: Timeout | None = None
    stream: bool | None = None
    affinity: Name | None = None
    idempotent: bool | None = None


class Response(Struct):
    """One answer; all five fields are always there, `partial` only on the partial ones."""

    request_id: str | None
    success: bool
    data: Raw | None
    error: str | None
    processed_by: str | None


class PartialResponse(Response):
    """One of several answers to a request that asked for a stream."""

    partial: bool = True


class _RequestId(Struct):
    request_id: Name | None = None


class _GivenCommand(Struct):
    command: Raw = NULL


_request = msgspec.json.Decoder(Request)
_request_id = msgspec.json.Decoder(_RequestId)
_given_command = msgspec.json.Decoder(_GivenCommand)
_KEYS: Final = tuple(f'"{key}"'.encode() for key in Request.__struct_fields__)

# The sentences that programs of this dialect already know.
_SENTENCES: Final = {
    ErrorCode.BAD_JSON: "Invalid JSON format",
    ErrorCode.NOT_AN_OBJECT: "Request must be a JSON object",
}


def decode_request(payload: bytes) -> Request:
    """Decode a request; its `command` is there. Raises PeerFault, with `msg_id` set where it can be read."""
    try:
        request = decode(_request, payload)
        if not request.command:
            raise _missing_command()
        if not has_only(_fields_read(request), payload, request.data):
            check_keys(payload, _KEYS, inside=False)
        check_numbers(payload)
    except PeerFault as fault:
        if fault.field == "command" and (given := peek(_given_command, payload)) and given.command == NULL:
            fault = _missing_command()
        named = peek(_request_id, payload)
        fault.msg_id = None if named is None else named.request_id
        raise fault from None
    return request


def _fields_read(request: Request) -> int:
    """How many fields are not as they are when absent: at most as many as there were."""
    return (
        1
        + (request.request_id is not None)
        + (request.data is not NULL)
        + (request.timeout is not None)
        + (request.stream is not None)
        + (request.affinity is not None)
        + (request.idempotent is not None)
    )


def _missing_command() -> PeerFault:
    return PeerFault(ErrorCode.MISSING_FIELD, "Missing command", field="command")


def response(
    request_id: str | None, success: bool, data: Raw | None, error: str | None, processed_by: str | None
) -> Frame:
    """A final answer."""
    return Frame(encode(Response(request_id, success, data, error, processed_by)))


def partial_response(request_id: str | None, data: Raw | None, processed_by: str | None) -> Frame:
    """One partial answer of a stream."""
    return Frame(encode(PartialResponse(request_id, True, data, None, processed_by)))


def error(fault: PeerFault) -> Frame:
    """Bad input is answered in the form of an answer."""
    return response(fault.msg_id, False, None, _SENTENCES.get(fault.code, fault.message), None)
