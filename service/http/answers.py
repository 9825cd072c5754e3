"""Answers: every HTTP answer of this gateway as a core HttpAnswer, in JSON unless it is meant for Prometheus.

Also how a handler waits for what the core answers later (`when_answered`). Knows neither Quart nor a socket, so that
the same answer goes out over every server.
"""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, Final, Generic, TypeVar

import trio

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import encode
from service.core.ports import HttpAnswer
from service.core.reply import Reply

from .forms import Problem, Refusal
from .request import Answering

T = TypeVar("T")

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
    if fault.retry_after is not None:
        headers = (*headers, ("retry-after", str(ceil(fault.retry_after))))
    return json_answer(STATUS[fault.code] if status is None else status, refusal(fault), headers)


def missing(nodes: list[str] | None) -> dict[str, Any]:
    """What is added to an answer that some nodes have no part in; nothing where `nodes` is None."""
    return {} if nodes is None else {"incomplete": True, "missing_nodes": nodes}


def when_answered(ask: Callable[[Reply[T | PeerFault]], None], answer: Callable[[T], HttpAnswer]) -> Answering:
    """The HTTP answer that `answer` makes of what the core answers to `ask`, which is called with where to answer.

    If the core answers at once, so does this; otherwise it returns an awaitable. Raises the PeerFault that the core
    answers, as does the awaitable. Cancelling that is safe: the core's answer is dropped, and what was asked is not
    taken back.
    """
    pending = _Pending(ask)
    if pending.answers:
        return answer(pending.result())

    async def wait() -> HttpAnswer:
        return answer(await pending.wait())

    return wait()


async def core_answer(ask: Callable[[Reply[T | PeerFault]], None]) -> T:
    """What the core answers to `ask`, for a handler that has more to wait for. Lets no other task run if the core
    answers at once. Raises the PeerFault that it answers. Cancelling is safe, as for `when_answered`."""
    pending = _Pending(ask)
    return await pending.wait()


class _Pending(Generic[T]):
    """A question to the core that may have been answered already."""

    __slots__ = ("_heard", "_reply", "answers")

    def __init__(self, ask: Callable[[Reply[T | PeerFault]], None]) -> None:
        self.answers: list[T | PeerFault] = []
        self._heard: trio.Event | None = None
        self._reply: Reply[T | PeerFault] = Reply(self._deliver)
        try:
            ask(self._reply)
        except BaseException:
            self._reply.withdraw()
            raise

    def _deliver(self, answer: T | PeerFault) -> None:
        self.answers.append(answer)
        if self._heard is not None:
            self._heard.set()

    def result(self) -> T:
        (answer,) = self.answers
        if isinstance(answer, PeerFault):
            raise answer
        return answer

    async def wait(self) -> T:
        if not self.answers:
            self._heard = trio.Event()
            try:
                await self._heard.wait()
            finally:
                self._reply.withdraw()
        return self.result()
