"""Worker: serves commands, many at a time, for as long as it is wanted.

Speaks the envelope dialect as a worker (the protocol reference, "Envelope dialect"). Knows nothing of how a connection
is kept; `connection` does. Promises:
- every request that was taken is answered once: with the handler's result, or its exception's text;
- a handler ends with the connection that its request came over, since its answer has nowhere to go and the gateway has
  given the request to another worker;
- being stopped or cancelled is orderly: no new requests are taken, what is in flight is finished within a bound, and
  only then is the connection closed.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar, overload
from uuid import uuid4

import trio

from portico.wire.dialects.envelope import MAX_CAPACITY, MAX_WEIGHT

from .backoff import Backoff
from .connection import Connection
from .envelope import Call, call_of, data_of, message, response
from .errors import ConnectionLost, MessageTooLarge, NoGreeting, Unsendable
from .events import BadMessage, Complaint, Connected, Draining, Report
from .handlers import Handler, check_handlers, error_text, run_handler
from .link import Link, LinkOptions
from .nursery import background_nursery

PATH: Final = "/worker"
MAX_MESSAGE: Final = 5 * 2**20
DEFAULT_HEARTBEAT: Final = 25.0

H = TypeVar("H", bound=Handler)

_log = logging.getLogger("portico.client")


class Worker:
    """Serves `commands` (name → handler) until stopped; `await worker.run()` does it.

    Commands may also be added one by one, before it runs, with the decorator `command`. `portico worker module:name`
    runs a worker that a module has.

    `base_url`: the gateway's HTTP address (http://host:port), which is asked where its WebSocket is; or `url`: a
    WebSocket address (ws://host:port). `name`: the worker's `client_id`, up to 128 characters (None: one is made).
    `capacity`: requests handled at a time, 1 to 1,000,000. `weight`: its share of the work, compared with other
    workers, above 0 and at most 1,000,000. `token`: what a gateway in production wants to see: its handshake key, an
    API key with the scope `worker`, or a worker's token. `drain_seconds`: how long requests in flight may still take
    when the worker ends. `backoff`: how patiently it comes back (None: `Backoff()`); `options`: how a connection is
    made and kept (None: `LinkOptions()`). `on_event`: called with each thing that happens to the connection (None: it
    is logged). A handler may be a plain function (it runs in a thread), an async one, or an async generator (its values
    are partial answers). A command has 1 to 128 characters.

    Raises BadAddress, TypeError or ValueError.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        url: str | None = None,
        commands: Mapping[str, Handler] | None = None,
        name: str | None = None,
        capacity: int = 16,
        weight: float = 1.0,
        token: str | None = None,
        drain_seconds: float = 10.0,
        backoff: Backoff | None = None,
        options: LinkOptions | None = None,
        on_event: Report | None = None,
    ) -> None:
        if commands is not None:
            check_handlers(commands)
        if not 1 <= capacity <= MAX_CAPACITY:
            raise ValueError(f"A worker's capacity must be 1 to {MAX_CAPACITY}.")
        if not 0 < weight <= MAX_WEIGHT:
            raise ValueError(f"A worker's weight must be above 0, and at most {MAX_WEIGHT}.")
        self.commands: Final = dict(commands or {})
        self.name: Final = name or f"worker-{uuid4().hex[:8]}"
        self.capacity: Final = capacity
        self.weight: Final = weight
        self.token: Final = token
        self.drain_seconds: Final = drain_seconds
        self._connection = Connection.to(
            base_url, url, path=PATH, max_message=MAX_MESSAGE, options=options, backoff=backoff, report=on_event
        )
        self.options: Final = self._connection.options
        self.report: Final = self._connection.report
        self._where: Final = (base_url, url)
        # Threads that were abandoned by a cancelled handler count too, until they are done.
        self.threads: Final = trio.CapacityLimiter(capacity)
        self.stopping = trio.Event()
        self._session: _Session | None = None
        self._waiting = trio.CancelScope()

    @overload
    def command(self, handler: H, /) -> H: ...

    @overload
    def command(self, handler: None = None, /, *, name: str) -> Callable[[H], H]: ...

    def command(self, handler: Handler | None = None, /, *, name: str | None = None) -> Any:
        """Serve a function as a command of its own name, or of `name`: `@worker.command` above it.

        Raises TypeError for what can't be a handler, ValueError for a name that is taken.
        """
        if handler is None:
            return partial(self._add, name)
        return self._add(None, handler)

    def _add(self, name: str | None, handler: H) -> H:
        named = name or str(getattr(handler, "__name__", ""))
        check_handlers({named: handler})
        if named in self.commands:
            raise ValueError(f"The worker has a command {named!r} already.")
        self.commands[named] = handler
        return handler

    def replaced(
        self,
        base_url: str | None = None,
        *,
        url: str | None = None,
        commands: Mapping[str, Handler] | None = None,
        name: str | None = None,
        capacity: int | None = None,
        token: str | None = None,
        drain_seconds: float | None = None,
        options: LinkOptions | None = None,
        on_event: Report | None = None,
    ) -> "Worker":
        """Another worker like this one, with what is given in place of its own. Raises as the constructor does."""
        if base_url is None and url is None:
            base_url, url = self._where
        return Worker(
            base_url,
            url=url,
            commands=self.commands if commands is None else commands,
            name=name or self.name,
            capacity=self.capacity if capacity is None else capacity,
            weight=self.weight,
            token=self.token if token is None else token,
            drain_seconds=self.drain_seconds if drain_seconds is None else drain_seconds,
            backoff=self._connection.backoff,
            options=self.options if options is None else options,
            on_event=self.report if on_event is None else on_event,
        )

    @property
    def in_flight(self) -> int:
        """Requests that were taken and not answered yet."""
        return 0 if self._session is None else len(self._session.running)

    async def run(self) -> None:
        """Serve until `stop` is called, reconnecting as often as it takes. Once per worker.

        Raises SentAway, GaveUp or HandshakeRefused when it cannot go on, ValueError where it has no command.
        Cancelling is safe and orderly: it takes as long as `stop` does.
        """
        check_handlers(self.commands)
        async with background_nursery() as nursery:
            nursery.start_soon(self._stop_when_cancelled)
            with trio.CancelScope(shield=True), self._waiting:
                await self._connection.keep(self._live)

    def stop(self, *, now: bool = False) -> None:
        """End in order: no new requests, finish what is in flight within `drain_seconds`, disconnect.

        `now`: don't wait for what is in flight; it is cancelled, and the gateway moves it elsewhere.
        """
        if not self.stopping.is_set():
            self.stopping.set()
            if self.in_flight and not now:
                self.report(Draining(f"finishing {self.in_flight} in flight, at most {self.drain_seconds:g} s"))
        if self._session is None or not self._session.registered.is_set():
            self._waiting.cancel()
        elif now:
            self._session.hurry.set()

    async def _stop_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.stop()

    async def _live(self, link: Link) -> None:
        self._session = _Session(self, link)
        try:
            await self._session.run()
        except ConnectionLost:
            if not self.stopping.is_set():
                raise
        finally:
            self._session = None


class _Session:
    """A worker's life on one link: registered, serving, leaving."""

    def __init__(self, worker: Worker, link: Link) -> None:
        self._worker = worker
        self._link = link
        self._slots = trio.Semaphore(worker.capacity)
        self._greetings = 0
        self.registered = trio.Event()
        self._heartbeat_interval = DEFAULT_HEARTBEAT
        self._beats_sent = self._beats_answered = 0
        self._beat = trio.Event()
        self._reading = trio.CancelScope()
        self._idle = trio.Event()
        self._patience = trio.CancelScope()
        self.running: dict[str, trio.CancelScope] = {}
        self.hurry = trio.Event()

    async def run(self) -> None:
        """Serve until the worker is stopped. Raises ConnectionLost or NoGreeting."""
        worker = self._worker
        async with background_nursery() as nursery:
            with suppress(ConnectionLost):  # receive() raises it too, after what the gateway said before it closed
                await self._link.send(self._introduction())
            with trio.move_on_after(worker.options.connect_timeout):
                while not self.registered.is_set():
                    self._take(await self._link.receive(), nursery)
            if not self.registered.is_set():
                raise NoGreeting("The gateway did not confirm the worker in time.")
            nursery.start_soon(self._quietly, self._heartbeats)
            nursery.start_soon(self._quietly, self._leave_when_stopped)
            with self._reading:
                while True:
                    self._take(await self._link.receive(), nursery)

    def _introduction(self) -> dict[str, Any]:
        worker = self._worker
        about: dict[str, Any] = {
            "client_id": worker.name,
            "role": "worker",
            "commands": sorted(worker.commands),
            "capacity": worker.capacity,
            "weight": worker.weight,
        }
        if worker.token is not None:
            about["token"] = worker.token
        return message("connect", about)

    def _take(self, envelope: dict[str, Any], nursery: trio.Nursery) -> None:
        data = data_of(envelope)
        match envelope.get("type"):
            case "request":
                call = call_of(envelope)
                if call is None:
                    self._worker.report(BadMessage("a request without an id or an action"))
                else:
                    nursery.start_soon(self._quietly, self._serve, call)
            case "custom" if data.get("event") == "cancel":
                scope = self.running.get(str(data.get("request_id")))
                if scope is not None:
                    scope.cancel()
            case "connect":
                self._greeted(data)
            case "heartbeat":
                self._beats_answered += 1
                self._beat.set()
                self._beat = trio.Event()
            case "notification" if data.get("event") == "server_draining":
                self._worker.report(Draining("the gateway is about to restart"))
            case "error":
                self._worker.report(Complaint(str(data.get("error"))))
            case _:
                pass  # what a later gateway adds is not for us

    def _greeted(self, data: dict[str, Any]) -> None:
        # On /worker the gateway greets by itself and then answers our introduction; elsewhere it
        # only answers. Either way the answer carries our name, unless it was given to another.
        self._greetings += 1
        interval = data.get("heartbeat_interval")
        if isinstance(interval, int | float) and interval > 0:
            self._heartbeat_interval = float(interval)
        named = data.get("client_id")
        if self.registered.is_set() or (named != self._worker.name and self._greetings < 2):
            return
        self.registered.set()
        self._worker.report(Connected(self._link.address, str(named)))

    async def _serve(self, call: Call) -> None:
        worker = self._worker
        earlier = self.running.get(call.request_id)
        if earlier is not None and not earlier.cancel_called:
            worker.report(BadMessage("a request that is in flight already"))
            return
        # A gateway that knows our capacity never sends more; one that was told too late may.
        if len(self.running) >= 2 * worker.capacity:
            await self._link.send(response(call, error="Worker at capacity"))
            return
        scope = self.running[call.request_id] = trio.CancelScope()
        try:
            with scope:
                async with self._slots:
                    answer = await self._answer(call)
            if not scope.cancelled_caught:  # the gateway gave up on it and expects no answer
                await self._deliver(call, answer)
        finally:
            # After a cancel the same request may have come again: then the scope in the table is that one's.
            if self.running.get(call.request_id) is scope:
                del self.running[call.request_id]
            if not self.running:
                self._idle.set()
                self._idle = trio.Event()

    async def _answer(self, call: Call) -> dict[str, Any]:
        worker = self._worker
        handler = worker.commands.get(call.command)
        if handler is None:
            return response(call, error=f"This worker does not serve {call.command!r}.")

        gone: ConnectionLost | None = None

        async def part(item: Any) -> None:
            nonlocal gone
            try:
                await self._link.send(response(call, result=item, partial=True))
            except ConnectionLost as lost:
                gone = lost
                raise

        try:
            result = await run_handler(
                handler,
                call,
                part=part,
                threads=worker.threads,
                largest=worker.options.max_message or MAX_MESSAGE,
            )
        except Exception as error:
            if error is gone:  # and not some other connection that the handler uses
                raise
            _log.debug("The handler of %r failed.", call.command, exc_info=True)
            return response(call, error=error_text(error))
        return response(call, result=result)

    async def _deliver(self, call: Call, answer: dict[str, Any]) -> None:
        try:
            await self._link.send(answer)
        except (Unsendable, MessageTooLarge) as error:
            await self._link.send(response(call, error=error_text(error)))

    async def _heartbeats(self) -> None:
        while True:
            await trio.sleep(self._heartbeat_interval)
            await self._send_heartbeat()

    async def _send_heartbeat(self) -> None:
        self._beats_sent += 1
        await self._link.send(message("heartbeat", {}))

    async def _leave_when_stopped(self) -> None:
        worker = self._worker
        await worker.stopping.wait()
        async with background_nursery() as nursery:
            nursery.start_soon(self._stop_waiting)
            self._patience.deadline = trio.current_time() + worker.drain_seconds
            with self._patience:
                await self._link.send(message("custom", {"event": "capacity", "capacity": 0}))
                # The gateway answers in order: after this heartbeat's answer no request that was
                # sent before it heard of capacity 0 can still be on its way.
                await self._send_heartbeat()
                while self._beats_answered < self._beats_sent:
                    await self._beat.wait()
                while self.running:
                    await self._idle.wait()
        for scope in self.running.values():
            scope.cancel()
        await self._link.send(message("disconnect", {}))
        await trio.sleep(worker.options.close_timeout)
        self._reading.cancel()

    async def _stop_waiting(self) -> None:
        await self.hurry.wait()
        self._patience.cancel()

    async def _quietly(self, task: Callable[..., Any], *arguments: Any) -> None:
        """Run a task of this session; the lost link that ends it is reported by the reader."""
        with suppress(ConnectionLost):
            await task(*arguments)
