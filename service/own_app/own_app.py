"""OwnApp: serves the operator's app, contained.

Each request has two tasks: the server's, which listens and answers where the app can't, and the app's, in a nursery of
this object. So nothing that the app does with its own task holds a connection, and its exceptions end nothing but its
answer. What it is bounded by:

    timeout      until the answer begins (504), and after the client has gone; then the app's task is cancelled
    concurrency  requests that are under way at a time (503); WebSockets are counted among the gateway's connections
    max_body     bytes of a request's body (413); that nobody reads the rest of one is its caller's matter (Unread)
    threads      of a WSGI app, and a few requests that wait for one, not for long (503)

The nursery is a system task, not the server's: the app's start has to be over before the server begins, and what the
app doesn't end must not keep the server from ending. `stuck` says then that the process has to end without it.
"""

import os
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from random import Random
from typing import Final

import structlog
import trio

from service.asgi_types import Receive, Scope, Send
from service.core.counters import Metric
from service.core.ports import HttpAnswer

from .driven import Driven, Watch
from .exchange import ClientGone, Exchange, SocketExchange, State
from .lifespan import Lifespan
from .loading import SETTING, Loaded, asyncio_sentence, needs_asyncio, where
from .wsgi import NoThread, WsgiApp

STOP_PATIENCE: Final = 1.0
"""Seconds that requests have, after they were cancelled at the end."""
_RESTARTING: Final = 1012


@dataclass(frozen=True, kw_only=True)
class Limits:
    """See the module; 0: no bound."""

    timeout: float
    concurrency: int
    max_body: int
    threads: int


@dataclass(frozen=True, slots=True)
class Served:
    """How a request was answered, for metrics: the status, bytes of the body that came, and that were sent."""

    status: int
    received: int
    sent: int


class OwnApp:
    """One app. `start` before it is served, `stop` at the end; a call serves one request."""

    def __init__(self, loaded: Loaded, limits: Limits, log: structlog.typing.FilteringBoundLogger) -> None:
        self._loaded = loaded
        self._limits = limits
        self._log = log
        self._watch = Watch(log.warning)
        self._wsgi = WsgiApp(loaded.app, limits.threads) if loaded.kind == "wsgi" else None
        self._call: Callable[..., Awaitable[object]] = loaded.app if self._wsgi is None else self._wsgi
        self._nursery: trio.Nursery | None = None
        self._lifespan: Lifespan | None = None
        self._running: dict[Exchange, Driven] = {}
        self._sockets: set[SocketExchange] = set()
        self._told_of_asyncio = False
        self.errors = 0
        self.timeouts = 0
        self.refused = 0

    @property
    def name(self) -> str:
        """As the operator named it."""
        return self._loaded.name

    @property
    def takes_websockets(self) -> bool:
        """A WSGI app has none."""
        return self._wsgi is None

    def clashes(self, is_route: Callable[[str], bool], is_socket: Callable[[str], bool]) -> list[str]:
        """A sentence for each path that both the app and the gateway have, as far as that can be seen."""
        loaded = self._loaded
        taken = [f"route {path}" for path in sorted(loaded.paths) if is_route(path)]
        taken += [f"WebSocket {path}" for path in sorted(loaded.socket_paths) if is_socket(path)]
        return [
            f"The {which} of {SETTING}={loaded.name} is never reached, since it is the gateway's: give it another path."
            for which in taken
        ]

    @property
    def under_way(self) -> int:
        """Requests that the app has."""
        return len(self._running) - len(self._sockets)

    @property
    def stuck(self) -> int:
        """Tasks of the app that don't end, though they were cancelled."""
        return sum(1 for exchange in self._running if exchange.running.cancel_called)

    # Start and stop

    async def start(self) -> None:
        """Start the app. Raises OwnAppError."""
        if self._nursery is not None:
            return
        ready = trio.Event()
        trio.lowlevel.spawn_system_task(self._main, ready, context=copy_context())
        await ready.wait()
        nursery = self._nursery
        if self._wsgi is None and nursery is not None:
            self._watch.start()
            self._lifespan = Lifespan(self._loaded, self._watch, self._log.error)
            nursery.start_soon(self._lifespan.run)
            await self._lifespan.start()

    async def _main(self, ready: trio.Event) -> None:
        try:
            async with trio.open_nursery() as self._nursery:
                ready.set()
                await trio.sleep_forever()
        except Exception as error:  # of ours; a system task's would end the process
            self._log.critical("the app's tasks failed", error=where(error))
        finally:
            self._nursery = None

    async def give_up(self) -> bool:
        """End what has begun of a start that failed. Whether it did end."""
        self._watch.stop()
        ended = self._lifespan is None or await self._lifespan.cancel()
        if self._nursery is not None and ended:
            self._nursery.cancel_scope.cancel()
        return ended

    async def drain(self, seconds: float) -> None:
        """Close the app's WebSockets within this time, each at a moment of its own, and wait that long for requests."""
        end = trio.current_time() + seconds
        random = Random()
        async with trio.open_nursery() as nursery:
            for socket in list(self._sockets):
                nursery.start_soon(_close_at, socket, random.uniform(trio.current_time(), end))
            while self._busy() and trio.current_time() < end:  # noqa: ASYNC110 - polled at the end only
                await trio.sleep(0.02)

    def _busy(self) -> bool:
        """Whether there is a request that may end by itself."""
        return any(not exchange.running.cancel_called for exchange in self._running.keys() - self._sockets)

    async def stop(self) -> bool:
        """Cancel what is under way, and have the app end. Whether it did: else its tasks outlast every cancellation."""
        self._watch.stop()
        for exchange in self._running:
            exchange.running.cancel()
        with trio.move_on_after(STOP_PATIENCE):
            while self._running:  # noqa: ASYNC110 - polled at the end only
                await trio.sleep(0.01)
        ended = not self._running
        if self._lifespan is not None:
            ended = await self._lifespan.stop() and ended
        if not ended:
            whose = ", ".join(exchange.whose for exchange in list(self._running)[:3])
            self._log.critical("the app doesn't end, and the process ends without it", requests=whose or "lifespan")
        if self._nursery is not None and ended:
            self._nursery.cancel_scope.cancel()
        return ended

    @staticmethod
    def end_process_soon(code: int) -> None:
        """End the process in STOP_PATIENCE, unless it has ended by itself: an app may ignore its cancellation."""
        timer = threading.Timer(STOP_PATIENCE, os._exit, (code,))
        timer.daemon = True
        timer.start()

    # Requests

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> Served:
        """Serve an HTTP request. Raises nothing but what the server's own calls do, and cancellation."""
        limits, nursery = self._limits, self._nursery
        whose = f"{scope['method']} {scope['path']}"
        if nursery is None:
            return await _answer(send, scope, _text(503, "The app is not running.", ("retry-after", "1")))
        if limits.concurrency and self.under_way >= limits.concurrency:
            self.refused += 1
            return await _answer(send, scope, _text(503, "Too many requests are under way.", ("retry-after", "1")))
        if _declared_length(scope) > (limits.max_body or float("inf")):
            return await _answer(send, scope, _text(413, f"A body has at most {limits.max_body} bytes here."))
        exchange = Exchange(
            send,
            whose,
            timeout=limits.timeout,
            max_body=limits.max_body or 1 << 62,
            http_2=scope.get("http_version", "1.1") >= "2",
        )
        self._begin(nursery, exchange, scope)
        try:
            await exchange.listen(receive)
            return await self._close(exchange, scope, send)
        finally:
            exchange.close()

    async def _close(self, exchange: Exchange, scope: Scope, send: Send) -> Served:
        """The app has answered, or can't any more: answer in its place where that is still possible."""
        answer: HttpAnswer | None = None
        if exchange.state is State.ASKED:
            if exchange.too_large:
                answer = _text(413, f"A body has at most {self._limits.max_body} bytes here.")
            elif exchange.gone:
                pass
            elif exchange.too_slow:
                answer = _text(408, "The body did not come in time.")
                exchange.running.cancel()
            elif exchange.ended:
                answer = self._failed(exchange)
            else:
                self.timeouts += 1
                self._log.warning(
                    "the app did not answer in time",
                    request=exchange.whose,
                    seconds=self._limits.timeout,
                    where=self._where(exchange),
                )
                answer = _text(504, "The app did not answer in time.")
                exchange.running.cancel()
        exchange.close()
        if exchange.too_large:
            exchange.running.cancel()
        if answer is not None:
            served = await _answer(send, scope, answer)
            return Served(served.status, exchange.received, served.sent)
        return Served(exchange.status or 499, exchange.received, exchange.sent)

    def _failed(self, exchange: Exchange) -> HttpAnswer:
        if isinstance(exchange.failure, NoThread):
            self.refused += 1
            return _text(503, "All threads are busy; try again in a moment.", ("retry-after", "1"))
        if exchange.failure is None:
            self._log.error("the app did not answer", request=exchange.whose)
        return _text(500, "Internal Server Error")

    def _where(self, exchange: Exchange) -> str:
        if self._wsgi is None:
            return ""
        places = dict(self._wsgi.places(self._limits.timeout / 2))
        return places.get(exchange.whose, "")

    async def serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket. Raises nothing but what the server's own calls do, and cancellation."""
        nursery = self._nursery
        if nursery is None or self._wsgi is not None:
            await send({"type": "websocket.close", "code": 1011})
            return
        exchange = SocketExchange(
            send,
            f"WebSocket {scope['path']}",
            timeout=self._limits.timeout,
            max_body=0,
            http_2=scope.get("http_version", "1.1") >= "2",
        )
        self._sockets.add(exchange)
        self._begin(nursery, exchange, scope)
        try:
            await exchange.listen(receive)
            if exchange.state is not State.FINISHED and not exchange.gone:
                await send({"type": "websocket.close", "code": exchange.close_code, "reason": ""})
        finally:
            exchange.close()

    def _begin(self, nursery: trio.Nursery, exchange: Exchange, scope: Scope) -> None:
        if self._lifespan is not None:
            scope["state"] = dict(self._lifespan.state)
        coroutine = self._called(scope, exchange)
        self._running[exchange] = driven = Driven(coroutine, exchange.whose, self._watch, exchange.running)
        nursery.start_soon(self._run, exchange, driven)

    async def _called(self, scope: Scope, exchange: Exchange) -> None:
        await self._call(scope, exchange.receive, exchange.send)

    async def _run(self, exchange: Exchange, driven: Driven) -> None:
        """The app's task."""
        failure: BaseException | None = None
        try:
            with exchange.running:
                await driven
        except trio.Cancelled:
            raise
        except BaseException as error:  # SystemExit and KeyboardInterrupt are the app's own too
            if isinstance(error, BaseExceptionGroup) and error.split(trio.Cancelled)[0] is not None:
                raise
            failure = error
            self._on_failure(exchange, error)
        finally:
            self._running.pop(exchange, None)
            if isinstance(exchange, SocketExchange):
                self._sockets.discard(exchange)
            exchange.over(failure)

    def _on_failure(self, exchange: Exchange, error: BaseException) -> None:
        if isinstance(error, NoThread) or (exchange.gone and isinstance(error, ClientGone)):
            return
        self.errors += 1
        if needs_asyncio(error):
            more = {} if self._told_of_asyncio else {"remedy": asyncio_sentence(self.name)}
            self._told_of_asyncio = True
        else:
            more = {}
        trace = "".join(traceback.format_exception(error))
        self._log.error("the app failed", request=exchange.whose, error=where(error), **more, trace=trace)

    def metrics(self) -> Iterator[Metric]:
        """The app's metrics."""
        yield Metric("app_requests", "Requests that your own app has.", self.under_way)
        yield Metric("app_websockets", "WebSockets that your own app has.", len(self._sockets))
        yield Metric("app_stuck", "Tasks of your own app that don't end, though they were cancelled.", self.stuck)
        yield Metric("app_errors", "Requests in which your own app raised.", self.errors, counts=True)
        yield Metric("app_timeouts", "Requests that your own app did not answer in time.", self.timeouts, counts=True)
        yield Metric("app_refused", "Requests that there was no room for in your own app.", self.refused, counts=True)
        yield Metric(
            "app_blocked_loop", "Times that your own app blocked the event loop.", self._watch.blocked, counts=True
        )
        if self._wsgi is not None:
            yield Metric("app_threads_busy", "Threads that have a request of your own app.", self._wsgi.busy)


async def _close_at(socket: SocketExchange, moment: float) -> None:
    await trio.sleep_until(moment)
    socket.close_code = _RESTARTING
    socket.listening.cancel()


def _declared_length(scope: Scope) -> int:
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(declared[:20]) if declared.isdigit() else 0


def _text(status: int, sentence: str, *headers: tuple[str, str]) -> HttpAnswer:
    return HttpAnswer(status, (("content-type", "text/plain; charset=utf-8"), *headers), f"{sentence}\n".encode())


async def _answer(send: Send, scope: Scope, answer: HttpAnswer) -> Served:
    headers = [(name.encode(), value.encode()) for name, value in answer.headers]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
    return Served(answer.status, 0, len(body))
