"""The sockets that one node listens on, and whether it speaks TLS on them.

They are taken before anything else starts, so a port that is in use, or a certificate that can't be used, ends the
start with a sentence, before anybody is served.

Knows the settings and where the node says that it is; serves nobody.
"""

import socket
from collections.abc import Mapping

from service import assembly
from service.assembly import StartError
from service.core.cluster.discovery import Places
from service.settings import Settings
from service.transports.listener import Kind
from service.transports.server_certificates import Certificates


class ListeningSockets:
    """A node's own: for WebSockets, workers and redirects, and for HTTP where the reactor serves it.

    Attributes:
        bound: whether they were taken.
        shared: whether other processes have them too.
        speaks_tls: whether whoever comes by them, or by the server's, finds TLS.
    """

    def __init__(self, settings: Settings, places: Places, certificates: Certificates | None) -> None:
        self._settings = settings
        self._places = places
        self._certificates = certificates
        self._sockets: dict[Kind, list[socket.socket]] = {}
        self.bound = False
        self.shared = False
        self.speaks_tls = False

    def will_speak_tls(self, *, by_hypercorn: bool = False) -> None:
        """Say that the server of the app speaks TLS where a certificate is set. Call it before `bind`.

        `by_hypercorn`: with a certificate that Hypercorn was given. Raises StartError.
        """
        ours = self._certificates is not None
        if ours and by_hypercorn:
            raise StartError(
                "Hypercorn has a certificate (--certfile), and PORTICO_TLS_CERT is set too: leave one of them out."
            )
        if by_hypercorn and (plain := self._settings.plain_ports()):
            raise StartError(" ".join(plain))
        self.speaks_tls = ours or by_hypercorn
        self._places.tls = ours
        if self._certificates is not None:
            try:
                self._certificates.load()
            except OSError as error:  # it was good when the settings were read
                raise StartError(f"PORTICO_TLS_CERT and PORTICO_TLS_KEY cannot be used ({error}).") from None

    def check_tls(self) -> None:
        """Raises StartError where a certificate is set and whoever serves the app was not told of it."""
        if self._certificates is not None and not self.speaks_tls:
            raise StartError(
                "PORTICO_TLS_CERT is set, but this server can't be told of it and would speak plain HTTP: start the "
                "gateway with portico serve, or give the server the certificate itself (hypercorn --certfile … "
                "--keyfile …) and unset PORTICO_TLS_CERT and PORTICO_TLS_KEY."
            )

    def will_be_shared(self, workers: int) -> None:
        """`workers` processes of Hypercorn's take them. Raises StartError where these don't know of one another."""
        self.shared = workers > 1
        if workers == 1:
            return
        settings = self._settings
        if settings.redis_url is None:
            raise StartError(
                f"--workers {workers} would be {workers} gateways that don't know of each other's clients: set "
                "REDIS_URL, or run portico serve --workers, which brings a Redis of its own, or one worker."
            )
        if settings.source("name") != "derived":
            raise StartError(
                f"--workers {workers} would be {workers} nodes of the name {settings.name}: leave PORTICO_NAME unset."
            )

    async def bind(self) -> None:
        """Take the ports of the reactor's own, those that are shared with the gateway's other processes included.
        Raises StartError."""
        self.bound = True
        settings = self._settings
        if self.speaks_tls and self._certificates is None:
            # Hypercorn's certificate is not ours to use, and ports that nobody asked for would be open by surprise.
            self._places.websocket_port = None
            return
        wanted: list[tuple[Kind, int | None, str]] = [
            ("websocket", settings.websocket_port, "WEBSOCKET_PORT"),
            ("worker", settings.worker_port, "WORKER_PORT"),
            ("redirect", settings.redirect_port, "PORTICO_REDIRECT_PORT"),
        ]
        for kind, port, name in wanted:
            if port is not None:
                self._sockets[kind] = await assembly.listen(settings.host, port, name, self.shared)
        self._say_where()

    def take(self, sockets: Mapping[str, list[socket.socket]]) -> None:
        """`bind`, where a supervisor has bound them for several processes."""
        self.bound = self.shared = True
        kinds: tuple[Kind, ...] = ("websocket", "worker", "redirect")
        self._sockets.update({kind: sockets[kind] for kind in kinds if sockets.get(kind)})
        self._say_where()

    def accept_http_from(self, sockets: list[socket.socket]) -> None:
        """Serve `PORT`, whose sockets these are, by the reactor. Call it before the app is served."""
        self._sockets["http"] = sockets

    def by_kind(self) -> list[tuple[Kind, list[socket.socket]]]:
        """All of them."""
        return [(kind, sockets) for kind, sockets in self._sockets.items() if sockets]

    def ports(self) -> dict[str, int]:
        """The ports of the reactor's own that are bound, by what they are for."""
        return {kind: sockets[0].getsockname()[1] for kind, sockets in self.by_kind() if kind != "http"}

    def _say_where(self) -> None:
        if "websocket" in self._sockets:
            self._places.websocket_port = self._sockets["websocket"][0].getsockname()[1]
