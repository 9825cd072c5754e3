"""Answers: every HTTP answer of this gateway as a core HttpAnswer, in JSON unless it is meant for Prometheus.

Knows neither Quart nor a socket, so that the same answer goes out through Quart and on the ports for WebSockets.
"""

from collections.abc import Sequence
from typing import Any, Final

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import encode
from service.core.ports import HttpAnswer

from .forms import Problem, Refusal

JSON: Final = ("content-type", "application/json")
NOT_KEPT: Final = ("cache-control", "no-store")
"""Answers say how things are now: no cache may keep them."""

STATUS: Final[dict[ErrorCode, int]] = {
    ErrorCode.BAD_JSON: 400,
    ErrorCode.NOT_AN_OBJECT: 400,
    ErrorCode.BINARY_NOT_SUPPORTED: 400,
    ErrorCode.MISSING_FIELD: 400,
    ErrorCode.BAD_FIELD: 400,
    ErrorCode.UNKNOWN_TYPE: 400,
    ErrorCode.UNKNOWN_DIALECT: 409,
    ErrorCode.NOT_REGISTERED: 409,
    ErrorCode.UNKNOWN_REQUEST: 404,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.INTERNAL: 500,
}
"""The HTTP status that goes with an error code."""


def json_answer(status: int, body: object, headers: Sequence[tuple[str, str]] = ()) -> HttpAnswer:
    """An answer in JSON."""
    return HttpAnswer(status, (JSON, NOT_KEPT, *headers), encode(body))


def text_answer(status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> HttpAnswer:
    """An answer in plain text."""
    return HttpAnswer(status, (("content-type", "text/plain; charset=utf-8"), NOT_KEPT, *headers), text.encode())


def refusal(fault: PeerFault) -> Refusal:
    """The body that says what was wrong."""
    return Refusal(Problem(fault.code.value, fault.message, fault.field))


def fault_answer(fault: PeerFault, status: int | None = None, headers: Sequence[tuple[str, str]] = ()) -> HttpAnswer:
    """The answer to what cannot be accepted; `status` where the fault's code doesn't decide it."""
    return json_answer(STATUS[fault.code] if status is None else status, refusal(fault), headers)


def missing(nodes: list[str] | None) -> dict[str, Any]:
    """What is added to an answer that some nodes have no part in; nothing where `nodes` is None."""
    return {} if nodes is None else {"incomplete": True, "missing_nodes": nodes}
