"""serve_http: an app's HTTP, served by Hypercorn inside our own nursery and under our own signals.

Knows Hypercorn's public interface only. What it makes of Hypercorn's settings holds for `hypercorn -k trio`
too: `configure` is all that the front door applies there. Nothing that a client wrote reaches a log raw.
"""

import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import Any, Final

import trio
from hypercorn.config import Config, Sockets
from hypercorn.logging import Logger
from hypercorn.trio import serve

from portico.wire.safe_text import safe_text

from .door import Door, Log, describe
from .listener import BACKLOG, open_listeners, silent_listener

Address = tuple[str, int]

# trio tries again every 0.1 s.
_SAME_PAUSE: Final = 1.0


class ServerConfig(Config):
    """Hypercorn's settings for sockets that are bound already; all speak TLS if any does."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        super().__init__()
        self._sockets = list(sockets)

    def create_sockets(self) -> Sockets:
        """The sockets as they are; Hypercorn listens on them and closes them."""
        secure, insecure = (self._sockets, []) if self.ssl_enabled else ([], self._sockets)
        return Sockets(secure_sockets=secure, insecure_sockets=insecure, quic_sockets=[])


def configure(config: Config, door: Door, *, announce: bool) -> None:
    """Set what the gateway relies on, whatever was set before; `announce`: log what Hypercorn listens on."""
    config.graceful_timeout = 0.3
    config.keep_alive_timeout = 5.0
    config.ssl_handshake_timeout = door.rules.handshake_timeout
    config.backlog = BACKLOG
    # One less than the door reads ahead: a head that fills it is too long.
    config.h11_max_incomplete_size = door.max_head - 1
    config.include_server_header = False
    if config.accesslog is not None:
        door.log("access_log_off", reason="Hypercorn would write what clients send as it is.")
    config.accesslog = None
    # The door pings by itself, and waits for the pongs.
    config.websocket_ping_interval = None
    config.logger_class = _logger_class(door.log, announce)
    # Where trio, which accepts for Hypercorn, tells of it: a traceback ten times a second.
    accepting = logging.getLogger("trio.serve_listeners")
    accepting.propagate = False
    accepting.handlers = [_AcceptPauses(door)]


async def serve_http(
    app: Any,
    *,
    door: Door,
    shutdown: trio.Event,
    host: str | None = None,
    port: int = 0,
    sockets: Sequence[socket.socket] | None = None,
    reuse_port: bool = False,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the ASGI app until `shutdown` is set, its lifespan's shutdown included; report the addresses bound.

    `host` None: all addresses; `port` 0: any; `reuse_port`: shared with other workers that ask for the same.
    `sockets`, listening already, are used instead where given, and closed at the end; with none of them it accepts
    nobody, and runs the app's lifespan for those that are handed over. Installs no signal
    handlers. Raises OSError if the port is taken, and what Hypercorn raises if the app's start-up fails.
    Cancelling it is safe: connections are cut and the app's shutdown is not run.
    """
    bound = await open_listeners(host, port, reuse_port) if sockets is None else list(sockets) or [silent_listener()]
    addresses = [sock.getsockname()[:2] for sock in bound]
    config = ServerConfig(bound)
    configure(config, door, announce=False)
    try:
        await serve(app, config, shutdown_trigger=shutdown.wait, task_status=_Report(task_status, addresses))
    finally:
        for sock in bound:
            sock.close()


class _Report(trio.TaskStatus[list[str]]):
    """Tells our starter the addresses, where Hypercorn would tell it the URLs."""

    def __init__(self, status: trio.TaskStatus[list[Address]], addresses: list[Address]) -> None:
        self._status = status
        self._addresses = addresses

    def started(self, value: list[str] | None = None) -> None:
        self._status.started(self._addresses)


class _AcceptPauses(logging.Handler):
    """Says that accepting pauses for want of descriptors or memory, once for a pause of any length."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door
        self._told_at = -inf

    def emit(self, record: logging.LogRecord) -> None:
        """A line, unless the last was about the same. What goes wrong here must not end the accepting."""
        if record.created - self._told_at > _SAME_PAUSE:
            self._door.counts.accept_pauses += 1
            with suppress(Exception):
                self._door.log("accept_paused", error=safe_text(record.getMessage()))
        self._told_at = record.created


def _logger_class(log: Log, announce: bool) -> type[Logger]:
    """Hypercorn's logger as our log: one safe line each, an exception with where it was raised."""

    class SafeLogger(Logger):
        def __init__(self, config: Config) -> None:
            # Not the parent's: it would set up handlers of its own.
            pass

        async def access(self, *args: Any) -> None:
            """Nothing: what clients send is not for logs."""

        async def critical(self, message: str, *args: Any, **kwargs: Any) -> None:
            self._write("hypercorn_error", message, args)

        async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
            self._write("hypercorn_error", message, args)

        async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
            self._write("hypercorn_warning", message, args)

        async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
            if announce:
                self._write("hypercorn_info", message, args)

        async def debug(self, message: str, *args: Any, **kwargs: Any) -> None:
            """Nothing."""

        async def log(self, level: int, message: str, *args: Any, **kwargs: Any) -> None:
            await self.info(message, *args)

        async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
            error = sys.exception()
            text = message % args if args else message
            log("hypercorn_error", message=safe_text(text), error="" if error is None else describe(error))

        def _write(self, event: str, message: str, args: tuple[Any, ...]) -> None:
            log(event, message=safe_text(message % args if args else message))

    return SafeLogger
