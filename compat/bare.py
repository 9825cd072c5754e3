"""The client in the suite's own process: trio-websocket, with nothing around it.

Takes the same commands as the client programs and makes the same reports, so that scenarios can't tell it from one. It
is there wherever the suite runs, and costs no process.
"""

import json
import ssl
from typing import Final
from urllib.parse import SplitResult, urlsplit

import httpx
import trio
import trio_websocket as tw
from wsproto.utilities import LocalProtocolError

from compat.address import NoAddressError, build, whereabouts
from compat.clients import Lines, Reports
from compat.pattern import Json

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

LARGEST: Final = 64 * 1024 * 1024
CLOSE_LIMIT: Final = 3.0
OPEN_LIMIT: Final = 15.0


class BareClient:
    """Holds its connections in a nursery that the run gives it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.runtime = "trio-websocket"
        self._nursery = nursery
        self._context: ssl.SSLContext | None = None
        self._lines = Lines()
        self._sockets: dict[str, tw.WebSocketConnection] = {}

    def _trusted(self, url: str) -> ssl.SSLContext | bool:
        """Whom to trust: read once, and only where there is TLS, since it is most of what a client costs."""
        if not url.startswith("https:"):
            return False
        self._context = self._context or ssl.create_default_context()
        return self._context

    def line(self, on: str) -> Reports:
        return self._lines.line(on)

    async def tell(self, command: Json) -> None:
        on, do = command["on"], command["do"]
        if do in ("discover", "arrive"):
            self._nursery.start_soon(self._discover, command)
        elif do == "connect":
            self._nursery.start_soon(self._live, on, command["url"], command)
        elif (socket := self._sockets.get(on)) is not None:
            try:
                if do == "close":
                    self._nursery.start_soon(self._close, socket, command.get("code", 1000))
                else:
                    await socket.send_message(command["text"] if do == "send" else command["text"].encode())
            except tw.ConnectionClosed:
                pass  # which is reported by the reader

    async def leave(self) -> None:
        """Close all connections; takes at most a few seconds, when cancelled too."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for socket in self._sockets.values():
                    nursery.start_soon(self._close, socket, 1000)

    async def _close(self, socket: tw.WebSocketConnection, code: int) -> None:
        with trio.move_on_after(CLOSE_LIMIT):
            await socket.aclose(code)

    async def _discover(self, command: Json) -> None:
        on, form = command["on"], command["form"]
        try:
            async with httpx.AsyncClient(timeout=10, verify=self._trusted(command["base"])) as http:
                response = await http.get(f"{command['base']}/api/b-client/{form}")
        except httpx.HTTPError as error:
            self.line(on).put({"event": "refused", "status": None, "why": f"no answer: {error or type(error)}"})
            return
        kind = response.headers.get("content-type", "")
        self.line(on).put({"event": "found", "status": response.status_code, "content_type": kind,
                           "text": response.text})  # fmt: skip
        if command["do"] == "discover":
            return
        try:
            url = build(command["way"], command["base"], whereabouts(form, json.loads(response.text)))
        except (NoAddressError, ValueError) as error:
            self.line(on).put({"event": "refused", "status": None, "why": str(error)})
            return
        await self._live(on, url, command)

    async def _live(self, on: str, url: str, command: Json) -> None:
        line = self.line(on)
        line.put({"event": "address", "url": url})
        try:
            await self._connection(on, url, command)
        except* LocalProtocolError:
            # A ping came behind our Close, and trio-websocket would answer it: the connection is over all the same.
            line.put({"event": "closed", "code": 1006, "reason": ""})
        except* (OSError, ValueError, tw.HandshakeError, trio.TooSlowError) as group:
            # Where a WebSocket is refused with a body, its reader says so in the nursery, and not to whoever opened it.
            refused = group.subgroup(tw.ConnectionRejected)
            error: BaseException = refused or group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            status = error.status_code if isinstance(error, tw.ConnectionRejected) else None
            line.put({"event": "refused", "status": status, "why": str(error) or type(error).__name__})
        finally:
            self._sockets.pop(on, None)

    async def _connection(self, on: str, url: str, command: Json) -> None:
        headers = [(name.encode(), value.encode()) for name, value in command.get("headers", {}).items()]
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
        with trio.fail_after(OPEN_LIMIT):
            tcp = await trio.open_tcp_stream(parts.hostname or "", port)
        # Ours to close: where a handshake is refused or cancelled, trio-websocket leaves the socket open.
        stream: Stream = tcp
        try:
            if parts.scheme == "wss":
                trusted = self._trusted("https:")
                assert isinstance(trusted, ssl.SSLContext)
                stream = trio.SSLStream(tcp, trusted, server_hostname=parts.hostname, https_compatible=True)
            await self._converse(on, stream, parts, command, headers)
        finally:
            await trio.aclose_forcefully(stream)

    async def _converse(
        self, on: str, stream: Stream, parts: SplitResult, command: Json, headers: list[tuple[bytes, bytes]]
    ) -> None:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(OPEN_LIMIT):
                socket = await tw.wrap_client_stream(
                    nursery,
                    stream,
                    parts.netloc,
                    (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
                    subprotocols=command.get("protocols") or None,
                    extra_headers=headers,
                    max_message_size=LARGEST,
                    message_queue_size=100,
                )
            self._sockets[on] = socket
            self.line(on).put({"event": "open", "protocol": socket.subprotocol or ""})
            try:
                while True:
                    message = await socket.get_message()
                    if isinstance(message, bytes):
                        self.line(on).put({"event": "binary", "size": len(message)})
                    else:
                        self.line(on).put({"event": "text", "text": message})
            except tw.ConnectionClosed as error:
                code, reason = (error.reason.code, error.reason.reason) if error.reason else (1006, None)
                self.line(on).put({"event": "closed", "code": code, "reason": reason or ""})
            nursery.cancel_scope.cancel()
