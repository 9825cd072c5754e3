"""The client in the suite's own process: trio-websocket, with nothing around it.

Takes the same commands as the client programs and makes the same reports, so that scenarios can't tell it from one. It
is there wherever the suite runs, and costs no process.
"""

import json
import ssl
from typing import Final

import httpx
import trio
import trio_websocket as tw

from compat.address import NoAddressError, build, whereabouts
from compat.clients import Lines, Reports
from compat.pattern import Json

LARGEST: Final = 64 * 1024 * 1024
CLOSE_LIMIT: Final = 3.0


class BareClient:
    """Holds its connections in a nursery that the run gives it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.runtime = "trio-websocket"
        self._nursery = nursery
        self._trusted = ssl.create_default_context()
        self._lines = Lines()
        self._sockets: dict[str, tw.WebSocketConnection] = {}

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

    async def _close(self, socket: tw.WebSocketConnection, code: int) -> None:
        with trio.move_on_after(CLOSE_LIMIT):
            await socket.aclose(code)

    async def _discover(self, command: Json) -> None:
        on, form = command["on"], command["form"]
        try:
            async with httpx.AsyncClient(timeout=10, verify=self._trusted) as http:
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
        async with trio.open_nursery() as nursery:
            with trio.fail_after(15):
                socket = await tw.connect_websocket_url(
                    nursery, url, subprotocols=command.get("protocols") or None, extra_headers=headers,
                    max_message_size=LARGEST, message_queue_size=100,
                )  # fmt: skip
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
