"""Hypercorn for connections that the reactor has accepted and cannot serve: another server's routes, and HTTP/2.

Knows what Hypercorn's worker gives each connection, and gives it the same: a ContainedServer, its settings, and a
context that says when the server ends. The bytes that the reactor has read come first. Not Hypercorn's public API, like
all that `contained` uses; the version is pinned.
"""

import socket
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from .contained import ContainedServer
from .door import Door
from .http_server import configure
from .patient import PatientStream
from .tls_session import TlsSession
from .tls_stream import TlsStream

GRACE: Final = 0.3
"""Seconds that requests under way have at the end."""
_LOOK: Final = 0.02


class HandedOver:
    """The connections of one app that came from the reactor."""

    def __init__(self, app: Any, door: Door) -> None:
        self._door = door
        self._config = Config()
        configure(self._config, door, announce=False)
        self._app = wrap_app(app, self._config.wsgi_max_body_size, None)
        self._nursery: trio.Nursery | None = None
        self._context: WorkerContext

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, which cuts the connections."""
        self._context = WorkerContext(None)
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    async def end(self) -> None:
        """Close idle connections; those with a request under way have GRACE. To be called before `run` is cancelled."""
        await self._context.terminated.set()
        with trio.move_on_after(GRACE):
            while self._nursery is not None and self._nursery.child_tasks:  # noqa: ASYNC110 - connections have no event
                await trio.sleep(_LOOK)

    def take(self, sock: socket.socket, received: bytes, tls: TlsSession | None = None) -> None:
        """Serve this connection, of which so much was read, and on which `tls` is spoken. Once `run` has ended it is
        closed."""
        if self._nursery is None:
            sock.close()
            return
        plain = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        patience = self._door.send_timeout
        stream: Any = PatientStream(plain, patience, b"" if tls is not None else received)
        if tls is not None:
            stream = TlsStream(stream, tls, received)
        server = ContainedServer(self._door, self._app, self._config, self._context, ConnectionState({}), stream)
        self._nursery.start_soon(server.run)
