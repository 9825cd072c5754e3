"""The front door: our own handling of connections, put where `hypercorn -k trio` looks for its own.

Hypercorn has no public interface for this, so a few of its private names are replaced, here and nowhere else:
`TCPServer` and `worker_serve` in `hypercorn.trio.run`, `WSStream` in `hypercorn.protocol.h11` and `.h2`, `H2Protocol`
in `hypercorn.protocol` (by the classes in `contained`, `door_websocket` and `door_http2`). If a name is missing, as
after an upgrade of Hypercorn, `install` says so and changes nothing, and the ASGI transport serves alone. Only apps
that were installed are affected: any other app in the same process gets Hypercorn's own handling.

The door's own work is little: it gives the listening sockets that Hypercorn has bound for plain HTTP to the reactor,
which serves what it can and hands the rest over to Hypercorn (`handed_over`).
"""

import importlib
import multiprocessing
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

import trio
from hypercorn.utils import repr_socket_addr

from .door import Door, describe
from .http_server import configure
from .listener import BACKLOG, silent_listener

Drain = Callable[[], Awaitable[None]]
"""Tell every client to go, and return when they are gone or their time is over. HTTP is served meanwhile."""

Prepare = Callable[[int, bool], Awaitable[None]]
"""(how many workers there are, whether Hypercorn was given a certificate): get what has to be had before anything
starts, ports say. SystemExit raised here ends the process without a traceback."""

_doors: Final[WeakKeyDictionary[Any, Door]] = WeakKeyDictionary()
_drains: Final[WeakKeyDictionary[Any, tuple[Door, Drain, Prepare]]] = WeakKeyDictionary()
# What was there before, by (module, name): the places are filled once, whatever the number of apps.
_originals: Final[dict[tuple[str, str], Any]] = {}

_CONNECTION: Final = ("hypercorn.trio.run", "TCPServer")
_WEBSOCKETS: Final = (("hypercorn.protocol.h11", "WSStream"), ("hypercorn.protocol.h2", "WSStream"))
_HTTP_2: Final = ("hypercorn.protocol", "H2Protocol")
_WORKER: Final = ("hypercorn.trio.run", "worker_serve")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_IGNORED: Final = signal.SIGHUP
"""For a worker it means nothing: Hypercorn's master has its own way with it, which begins by telling the workers."""


def install(app: Any, door: Door) -> bool:
    """Have Hypercorn's connections to `app` contained, and handed over where the door has an `adopt`.

    Call it before the server starts. False, and a line in the log, if this Hypercorn has no such places;
    the ASGI transport then serves alone, and `adopt` is never called.
    """
    try:
        # Here and not above: they subclass what may be missing.
        from .contained import ContainedServer
        from .door_http2 import DoorHttp2
        from .door_websocket import DoorWebsocket

        _fill(_CONNECTION, lambda original: _by_app(ContainedServer, original))
        for place in _WEBSOCKETS:
            _fill(place, lambda original: _by_app(DoorWebsocket, original))
        _fill(_HTTP_2, lambda original: _by_app(DoorHttp2, original))
    except (ImportError, AttributeError) as error:
        door.log("front_door_missing", reason="Hypercorn has changed; only ASGI serves.", error=describe(error))
        return False
    _doors[app] = door
    return True


async def _nothing(_: int, __: bool) -> None:
    await trio.lowlevel.checkpoint()


def install_drain(app: Any, door: Door, drain: Drain, prepare: Prepare = _nothing) -> bool:
    """Have `hypercorn -k trio` call `prepare` before it serves `app`, and drain it before it stops serving.

    On SIGTERM or SIGINT, when Hypercorn's master says so, or when the master is gone, `drain` is awaited while HTTP is
    still served, then the server ends with the app's lifespan shutdown; further signals change nothing, and SIGHUP
    never does. Also applies `configure` to the server's settings, the door's certificate among them. False, and a line
    in the log, if this Hypercorn has no such place.
    """
    try:
        _fill(_WORKER, _draining)
    except (ImportError, AttributeError) as error:
        door.log("drain_missing", reason="Hypercorn has changed; a stop is abrupt.", error=describe(error))
        return False
    _drains[app] = (door, drain, prepare)
    return True


def _fill(place: tuple[str, str], make: Callable[[Any], Any]) -> None:
    module, name = importlib.import_module(place[0]), place[1]
    if place not in _originals:
        _originals[place] = getattr(module, name)
        setattr(module, name, make(_originals[place]))


def _by_app(ours: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """What makes a connection: ours for an app that was installed."""

    def make(app: Any, *rest: Any) -> Any:
        door = _doors.get(_unwrapped(app))
        return original(app, *rest) if door is None else ours(door, app, *rest)

    return make


def _unwrapped(app: Any) -> Any:
    return getattr(app, "app", app)


def _draining(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def worker_serve(
        app: Any,
        config: Any,
        *,
        sockets: Any = None,
        shutdown_trigger: Callable[[], Awaitable[None]] | None = None,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        installed = _drains.get(_unwrapped(app))
        if installed is None:
            await original(app, config, sockets=sockets, shutdown_trigger=shutdown_trigger, task_status=task_status)
            return
        door, drain, prepare = installed
        await prepare(config.workers, config.ssl_enabled)
        taken = _taken(sockets, door)
        configure(config, door, announce=not taken)
        if sockets is not None:
            for sock in (*sockets.secure_sockets, *sockets.insecure_sockets):
                sock.listen(BACKLOG)
        # What the receiver restores at its end: with several workers the master sends a second signal,
        # which must not kill this one between its lifespan's shutdown and its exit.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        stop = trio.Event()

        async def when_told() -> None:
            async with trio.open_nursery() as nursery:
                if shutdown_trigger is not None:
                    nursery.start_soon(_set_after, shutdown_trigger, stop)
                nursery.start_soon(_set_without_master, door, stop)
                await stop.wait()
                nursery.cancel_scope.cancel()
            try:
                await drain()
            except Exception as error:
                door.log("drain_failed", error=describe(error))

        with trio.open_signal_receiver(*_SIGNALS, _IGNORED) as signals:

            async def listen() -> None:
                async for number in signals:
                    if number == _IGNORED and door.tls is not None:
                        door.tls("SIGHUP")
                    elif number == _IGNORED:
                        door.log("SIGHUP does nothing to a worker", remedy="send it to Hypercorn's master, or restart")
                    else:
                        stop.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                await original(app, config, sockets=sockets, shutdown_trigger=when_told, task_status=task_status)
                nursery.cancel_scope.cancel()

    return worker_serve


def _taken(sockets: Any, door: Door) -> bool:
    """Have the reactor accept by itself on what Hypercorn has bound for plain HTTP. Whether Hypercorn is left without:
    it then gets a socket that nobody connects to, and serves what is handed over."""
    if sockets is None or door.accept is None or sockets.secure_sockets:
        return False
    ours = [sock for sock in sockets.insecure_sockets if sock.family in (socket.AF_INET, socket.AF_INET6)]
    if len(ours) < len(sockets.insecure_sockets):
        return False
    scheme = "http" if door.tls is None else "https"
    for sock in ours:
        sock.listen(BACKLOG)
        door.log("hypercorn_info", message=f"Running on {scheme}://{repr_socket_addr(sock.family, sock.getsockname())}")
    door.accept(ours)
    sockets.insecure_sockets = [silent_listener()]
    return True


async def _set_after(wait: Callable[[], Awaitable[None]], event: trio.Event) -> None:
    await wait()
    event.set()


async def _set_without_master(door: Door, stop: trio.Event) -> None:
    """Set the event when the process that started this one is gone. Nobody else would ever end an orphan."""
    master = multiprocessing.parent_process()
    if master is None:
        return
    await trio.lowlevel.wait_readable(master.sentinel)
    door.log("ending, since its master is gone")
    stop.set()
