"""Requester: calls to workers, many in flight over one connection, each answer to its own call.

Speaks the requester dialect (the protocol reference, "Requester dialect"). Knows nothing of how a connection is kept;
`connection` does. Promises:
- an answer reaches the call with its `request_id` or nobody: a call whose caller leaves is forgotten, and its late
  answer dropped and counted;
- such a call is also taken back at the gateway, which tells the worker to stop; if the connection can't take the
  message at once, nobody is told;
- a call never hangs on a connection that is gone: it raises ConnectionLost, and is not repeated, because only the
  caller knows whether repeating it is harmless;
- calls made while there is no connection wait for the next one.
"""

import math
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import trio

from portico.wire.dialects.requester import CANCELLED

from .backoff import Backoff
from .connection import Connection, CurrentLink
from .errors import (
    ClientError,
    ConnectionLost,
    RequestTimeout,
    StreamOverrun,
    request_failed,
)
from .events import BadMessage, Complaint, Connected, Report
from .link import MAX_OUTGOING, Link, LinkOptions

PATH: Final = "/requester"

MAX_MESSAGE: Final = 5 * 2**20
"""Bytes of the largest request, for a requester that shows an API key: what a gateway takes from it by default."""

GRACE: Final = 1.0
"""Seconds past a call's timeout that the gateway's own word on it is waited for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it came: the five fields of the requester dialect, and whether more will follow."""

    request_id: str
    success: bool
    data: Any
    error: str | None
    processed_by: str | None
    partial: bool = False

    def unwrap(self) -> Any:
        """The data of a success. Raises RequestFailed, or its subclass for the cause."""
        if self.success:
            return self.data
        raise request_failed(self.error or "unknown error", self.request_id, self.processed_by)


class _Call:
    """What one call waits for: a bounded buffer of answers, and after them the error that ended it."""

    def __init__(self, request_id: str, stream: bool, buffer: int) -> None:
        self.request_id = request_id
        self.stream = stream
        self.sent_by: Link | None = None
        """The connection that it went out by; None before, and once it has its final answer."""
        self._answers, self._received = trio.open_memory_channel[Answer](buffer)
        self._error: ClientError | None = None

    def put(self, answer: Answer) -> bool:
        """Hand in an answer; False where the call does not want it (any more)."""
        if not answer.partial:
            self.sent_by = None
        if self._error is not None or (answer.partial and not self.stream):
            return False
        try:
            self._answers.send_nowait(answer)
        except trio.WouldBlock:
            self.fail(StreamOverrun("Partial answers came faster than they were read."))
            return False
        return True

    def fail(self, error: ClientError) -> None:
        """No more answers: what is in the buffer is read first, then `error` raised."""
        if self._error is None:
            self._error = error
            self._answers.close()

    async def next(self) -> Answer:
        """The next answer. Raises the error that ended the call. Cancelling is safe."""
        try:
            return await self._received.receive()
        except trio.EndOfChannel:
            assert self._error is not None
            # One error may end a thousand calls, and each raise would lengthen its traceback.
            raise self._error.with_traceback(None) from None


def _answer(message: dict[str, Any]) -> Answer:
    error, by = message.get("error"), message.get("processed_by")
    return Answer(
        request_id=str(message.get("request_id")),
        success=message.get("success") is True,
        data=message.get("data"),
        error=None if error is None else str(error),
        processed_by=None if by is None else str(by),
        partial=message.get("partial") is True,
    )


class Requester:
    """Sends requests to workers; used as `async with Requester(…) as r:`, which returns once connected.

    `base_url`: the gateway's HTTP address (http://host:port), which is asked where its WebSocket is; or `url`: a
    WebSocket address (ws://host:port). `backoff`: how patiently it comes back (None: `Backoff()`); `options`: how a
    connection is made and kept, and the API key (None: `LinkOptions()`). `max_in_flight`: calls that may wait for an
    answer at a time, at least 1; further ones wait for a place. `stream_buffer`: partial answers of one stream that may
    wait for the program, at least 1; with more the stream ends with StreamOverrun. `on_event`: called with each thing
    that happens to the connection (None: it is logged).

    Raises BadAddress, or ValueError. Entering raises SentAway, GaveUp or HandshakeRefused; when the connection ends for
    good later, every call raises that.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        url: str | None = None,
        backoff: Backoff | None = None,
        options: LinkOptions | None = None,
        on_event: Report | None = None,
        max_in_flight: int = 1024,
        stream_buffer: int = 1024,
    ) -> None:
        if max_in_flight < 1 or stream_buffer < 1:
            raise ValueError("max_in_flight and stream_buffer must be at least 1.")
        proven = options is not None and options.api_key is not None
        self._connection = Connection.to(
            base_url,
            url,
            path=PATH,
            max_message=MAX_MESSAGE if proven else MAX_OUTGOING,
            options=options,
            backoff=backoff,
            report=on_event,
        )
        self._places = trio.Semaphore(max_in_flight)
        self._stream_buffer = stream_buffer
        self._calls: dict[str, _Call] = {}
        self._current = CurrentLink(self._fail_all)
        self._scope: AbstractAsyncContextManager[None] | None = None
        self.dropped = 0
        """How many answers came too late or for no call. `Cancelled` for a call that was taken back is not counted."""

    async def __aenter__(self) -> Self:
        self._scope = self._current.running(self._keep)
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._scope is not None
        try:
            return await self._scope.__aexit__(kind, error, trace)
        finally:
            self._scope = None

    @property
    def in_flight(self) -> int:
        """Calls that wait for an answer."""
        return len(self._calls)

    async def request(
        self,
        command: str,
        data: Any = None,
        *,
        timeout: float | None = None,
        affinity: str | None = None,
        idempotent: bool = True,
    ) -> Any:
        """Ask a worker, and return the data of its answer.

        `command`: 1 to 128 characters; `data`: any JSON. `timeout`: seconds over all attempts and waiting, above 0
        (None: the gateway's default, 30). `affinity`: up to 256 characters; requests with the same one go to the same
        worker while it lives. `idempotent` False: never give the request to a second worker.

        Raises RequestFailed (or NoWorkers, WorkersBusy, WorkerLost, RequestTimeout), ConnectionLost, Unsendable,
        MessageTooLarge, or what ended the requester. Cancelling is safe: the call is taken back, and a worker that has
        begun with it is told to stop, but may have done its work.
        """
        answer = await self.ask(command, data, timeout=timeout, affinity=affinity, idempotent=idempotent)
        return answer.unwrap()

    async def ask(
        self,
        command: str,
        data: Any = None,
        *,
        timeout: float | None = None,
        affinity: str | None = None,
        idempotent: bool = True,
    ) -> Answer:
        """Like `request`, but returns the whole answer, an error answer too. RequestTimeout is raised only where the
        gateway itself said nothing in time."""
        message = _request(command, data, timeout, affinity, idempotent)
        call = _Call(message["request_id"], stream=False, buffer=1)
        try:
            with trio.move_on_after(math.inf if timeout is None else timeout + GRACE):
                await self._begin(call, message)
                return await call.next()
        finally:
            self._forget(call)
        raise _too_late(message)

    async def stream(
        self,
        command: str,
        data: Any = None,
        *,
        timeout: float | None = None,
        affinity: str | None = None,
        idempotent: bool = True,
    ) -> AsyncGenerator[Any, None]:
        """Ask a worker that answers in parts, and yield each part's data.

        The last answer's data is a part too, unless it is null. Arguments and errors are those of
        `request`, and StreamOverrun. A program that leaves the loop early should close the generator
        (`contextlib.aclosing`); the worker is then told to stop, and the rest of the answer is dropped.
        """
        message = _request(command, data, timeout, affinity, idempotent) | {"stream": True}
        deadline = math.inf if timeout is None else trio.current_time() + timeout + GRACE
        call = _Call(message["request_id"], stream=True, buffer=self._stream_buffer)
        begun = False
        try:
            while True:
                # The scope closes before the yield: one that stays open across it would
                # cancel whatever the caller does between two parts.
                answer: Answer | None = None
                with trio.move_on_at(deadline):
                    if not begun:
                        await self._begin(call, message)
                        begun = True
                    answer = await call.next()
                if answer is None:
                    raise _too_late(message)
                part = answer.unwrap()
                if answer.partial or part is not None:
                    yield part
                if not answer.partial:
                    return
        finally:
            self._forget(call)

    async def _keep(self) -> None:
        await self._connection.keep(self._live)

    async def _live(self, link: Link) -> None:
        # No greeting in this dialect: a requester is one by its path, and the upgrade is the answer.
        self._connection.report(Connected(link.address))
        self._current.up(link)
        try:
            while True:
                self._settle(await link.receive())
        except ConnectionLost as lost:
            self._current.down()
            self._fail_all(lost)
            raise

    def _settle(self, message: dict[str, Any]) -> None:
        answer = _answer(message)
        call = self._calls.get(answer.request_id)
        if message.get("request_id") is None:
            # No call's answer: something that we sent could not be read.
            nobodys = BadMessage("an answer without a request_id")
            self._connection.report(nobodys if answer.error is None else Complaint(answer.error))
        if call is None:
            self.dropped += answer.error != CANCELLED
        elif not call.put(answer):
            self.dropped += 1

    def _fail_all(self, error: ClientError) -> None:
        for call in self._calls.values():
            call.fail(error)

    async def _begin(self, call: _Call, message: dict[str, Any]) -> None:
        await self._places.acquire()
        try:
            link = await self._current.get()
            # Known only from here on: a link that was lost before has nothing to do with this call.
            self._calls[call.request_id] = call
            call.sent_by = link  # an answer may come before `send` is back
            await link.send(message)
        except BaseException:
            self._calls.pop(call.request_id, None)
            self._places.release()
            raise

    def _forget(self, call: _Call) -> None:
        if self._calls.pop(call.request_id, None) is None:
            return
        self._places.release()
        if call.sent_by is not None:
            call.sent_by.send_if_room({"request_id": call.request_id, "cancel": True})


def _request(command: str, data: Any, timeout: float | None, affinity: str | None, idempotent: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"request_id": str(uuid4()), "command": command, "data": data}
    if timeout is not None:
        message["timeout"] = timeout
    if affinity is not None:
        message["affinity"] = affinity
    if not idempotent:
        message["idempotent"] = False
    return message


def _too_late(message: dict[str, Any]) -> RequestTimeout:
    return RequestTimeout("Worker response timeout", request_id=message["request_id"])
