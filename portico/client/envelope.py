"""The envelope messages that a worker sends and reads, and nothing about connections.

See the protocol reference, "Envelope dialect". Every message is `{"type", "msg_id", "timestamp",
"data"}`; a request is known by its `msg_id`, or by `data.request.id` where the gateway gives one.
"""

import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a worker sees it.

    `attempt` counts from 1: from 2 on, another worker may have begun with the same request before it
    was lost. `deadline_ms`: milliseconds that were left for the request when the gateway sent it (None: it
    didn't say). `stream`: whether the requester wants parts.
    """

    request_id: str
    msg_id: str
    command: str
    params: Any
    attempt: int = 1
    deadline_ms: float | None = None
    stream: bool = False


def message(kind: str, data: dict[str, Any], msg_id: str | None = None) -> dict[str, Any]:
    """One envelope, with a fresh `msg_id` unless one is given."""
    return {
        "type": kind,
        "msg_id": msg_id or f"msg_{uuid4().hex}",
        "timestamp": time.time(),
        "data": data,
    }


def response(call: Call, *, result: Any = None, error: str | None = None, partial: bool = False) -> dict[str, Any]:
    """The answer to `call`: a success unless `error` is given."""
    data: dict[str, Any] = {
        "request_id": call.request_id,
        "success": error is None,
        "result": result,
        "error": error,
    }
    if partial:
        data["partial"] = True
    return message("response", data, call.msg_id)


def data_of(envelope: dict[str, Any]) -> dict[str, Any]:
    """The `data` of a message, empty where it is missing or no object."""
    data = envelope.get("data")
    return data if isinstance(data, dict) else {}


def call_of(envelope: dict[str, Any]) -> Call | None:
    """A request as a `Call`; None where it has no id to answer under or names no action."""
    data = data_of(envelope)
    about = data.get("request")
    if not isinstance(about, dict):
        about = {}
    msg_id, command = envelope.get("msg_id"), data.get("action")
    request_id = about.get("id", msg_id)
    if not isinstance(request_id, str) or not isinstance(command, str):
        return None
    attempt, deadline = about.get("attempt"), about.get("deadline_ms")
    return Call(
        request_id=request_id,
        msg_id=msg_id if isinstance(msg_id, str) else request_id,
        command=command,
        params=data.get("params"),
        attempt=attempt if isinstance(attempt, int) else 1,
        deadline_ms=deadline if isinstance(deadline, int | float) else None,
        stream=about.get("stream") is True,
    )
