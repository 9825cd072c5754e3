"""Serving: runs a node as a process of its own, as `portico serve` does: signals, the supervisor's orders, exit codes.

Under `hypercorn -k trio` none of this is used: Hypercorn's worker owns the process there (`service/asgi.py`). Whatever
cannot be served is a StartError, and exit code 2.
"""

import errno
import signal
import sys
from typing import Final

import trio

from service import assembly
from service.app import TICK, Node
from service.assembly import StartError
from service.banner import banner, how_it_was_called
from service.http.pages import BESIDE_AN_APP
from service.log_writer import say
from service.settings import Settings
from service.supervision.link import Supervised
from service.transports.http_server import serve_http
from service.transports.listener import open_listeners, why_it_cannot_listen

LATECOMERS: Final = 0.5
"""Seconds that who was accepted just before a successor took over has for its handshake."""


def serve(settings: Settings, supervised: Supervised | None = None, *, at_a_console: bool = False) -> int:
    """`portico serve`: run a node until SIGINT or SIGTERM; a second signal stops it at once. Returns the exit code.

    `supervised`: the link to the supervisor, where it is one process of several. `at_a_console`: it shares its terminal
    with one, which ends it.
    """
    try:
        node = Node(settings)
        return trio.run(_serve, node, supervised, at_a_console)
    except StartError as error:
        say(sys.stderr, f"portico: {error}\n")
        if supervised is not None:
            supervised.say("failed", str(error))
        return 2


async def _serve(node: Node, supervised: Supervised | None, at_a_console: bool) -> int:
    settings = node.settings
    node.sockets.will_speak_tls()
    if supervised is None:
        await node.sockets.bind()
        sockets = await assembly.listen(settings.host, settings.port, "PORT")
    else:
        node.sockets.take(supervised.sockets)
        sockets = supervised.sockets["http"]
    await node.start_own_app()
    node.places.http_port = sockets[0].getsockname()[1]
    # The reactor accepts by itself, and hands over what it can't serve.
    node.sockets.accept_http_from(sockets)
    node.own_process()
    shutdown = trio.Event()
    ending = False
    code = 0

    async def heed_signals() -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            heard = 0
            async for number in signals:
                if number == signal.SIGHUP:
                    if node.certificates is not None:
                        node.certificates.reload("SIGHUP")
                        continue
                    node.log.warning("SIGHUP does nothing to one process", remedy="restart it, or run several workers")
                    continue
                heard += 1
                if heard == 1:
                    nursery.start_soon(end)
                else:
                    stop()
                    return

    def stop() -> None:
        nonlocal code
        node.log.warning("stopping at once")
        code = 1
        nursery.cancel_scope.cancel()
        if node.own_app is not None:
            node.own_app.end_process_soon(code)

    async def obey(supervised: Supervised) -> None:
        async for order in supervised.orders():
            if order == "stop":
                stop()
            elif order == "drain":
                nursery.start_soon(end)
            else:
                nursery.start_soon(hand_over)

    async def hand_over() -> None:
        node.reactor.stop_accepting(leave=True)
        await trio.sleep(LATECOMERS)
        await end()

    async def end() -> None:
        nonlocal ending
        if ending:
            return
        ending = True
        code_if_broken = 1 if node.state == "broken" else 0
        await node.drain()
        nonlocal code
        code = code_if_broken
        shutdown.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heed_signals)

        async def serve_until_shutdown(task_status: trio.TaskStatus[list[tuple[str, int]]]) -> None:
            await serve_http(node.app, door=node.door, shutdown=shutdown, sockets=[], task_status=task_status)
            nursery.cancel_scope.cancel()

        await nursery.start(serve_until_shutdown)
        if supervised is not None:
            supervised.say("started")
            nursery.start_soon(obey, supervised)
            nursery.start_soon(_tell_when_ready, node, supervised)
        if supervised is None and settings.log_format == "console":
            say(
                sys.stdout,
                banner(
                    environment=settings.environment,
                    api_type=settings.api_type,
                    host=settings.host,
                    http_port=node.places.http_port,
                    tls=node.certificates is not None,
                    ports=node.sockets.ports(),
                    command=how_it_was_called(),
                    served=_served(node),
                    at_a_console=at_a_console,
                ),
            )
        else:
            node.log.info("listening", host=settings.host, http=node.places.http_port, **node.sockets.ports())
    return code


def _served(node: Node) -> str | None:
    if node.own_app is None:
        return None
    return f"{node.own_app.name}, the API, discovery; a page to try it at {BESIDE_AN_APP}"


async def _tell_when_ready(node: Node, supervised: Supervised) -> None:
    while node.unready() is not None:  # noqa: ASYNC110 — readiness is a question, not an event
        await trio.sleep(TICK)
    supervised.say("ready")


async def rehearse(settings: Settings) -> list[str]:
    """Do what `serve` does up to taking the ports, and give them back. Returns warnings about ports that are in use.

    The operator's extensions are imported and called, as at a start. Nothing is connected to. Of the node's log
    warnings are written and nothing less. Raises StartError.
    """
    level = "warning" if settings.log_level in ("debug", "info") else settings.log_level
    node = Node(settings.model_copy(update={"log_level": level}))
    node.sockets.will_speak_tls()
    in_use = []
    for setting, port in (
        ("PORT", settings.port),
        ("WEBSOCKET_PORT", settings.websocket_port),
        ("WORKER_PORT", settings.worker_port),
        ("PORTICO_REDIRECT_PORT", settings.redirect_port),
    ):
        if port is None:
            continue
        try:
            sockets = await open_listeners(settings.host, port, listening=False)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartError(why_it_cannot_listen(error, settings.host, port, setting)) from error
            in_use.append(f"{setting}={port} is in use just now, by this gateway or by another program.")
        else:
            for sock in sockets:
                sock.close()
    return in_use
