"""An OwnApp without a server: what the server would say is said by the test, and what the app answers is kept."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
import trio
from structlog.testing import LogCapture
from structlog.typing import FilteringBoundLogger

from service.own_app.loading import Loaded
from service.own_app.own_app import Limits, OwnApp, Served

Message = dict[str, Any]


class Client:
    """One request's two ends at the server."""

    def __init__(self, method: str = "GET", path: str = "/", *, body: bytes | None = b"", **headers: str) -> None:
        self.scope: Message = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 8000),
            "extensions": {},
        }
        self.sent: list[Message] = []
        self.to_app, self._from_client = trio.open_memory_channel[Message](10)
        self.taken = trio.Event()
        if body is not None:
            self.to_app.send_nowait({"type": "http.request", "body": body, "more_body": False})

    async def receive(self) -> Message:
        return await self._from_client.receive()

    async def send(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(dict(message))
        self.taken.set()

    def hang_up(self) -> None:
        kind = "websocket" if self.scope["type"] == "websocket" else "http"
        self.to_app.send_nowait({"type": f"{kind}.disconnect", "code": 1006})

    @property
    def status(self) -> int | None:
        return next((m["status"] for m in self.sent if m["type"].endswith("response.start")), None)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(next((m["headers"] for m in self.sent if m["type"].endswith("response.start")), ()))

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent if m["type"].endswith("response.body"))

    @property
    def whole(self) -> bool:
        return any(m["type"].endswith("response.body") and not m.get("more_body") for m in self.sent)


class WebSocket(Client):
    """One WebSocket's two ends."""

    def __init__(self, path: str = "/chat") -> None:
        super().__init__(path=path, body=None)
        self.scope |= {"type": "websocket", "scheme": "ws", "subprotocols": []}
        del self.scope["method"]
        self.to_app.send_nowait({"type": "websocket.connect"})


@dataclass
class Stage:
    """An app that has started, and the log: what is said of a loop that was blocked apart, since on a busy machine that
    may be so of anybody."""

    app: OwnApp
    lines: list[Any]

    @property
    def logged(self) -> list[Any]:
        return [line for line in self.lines if "the event loop" not in line["event"]]

    @property
    def blocked(self) -> list[Any]:
        return [line for line in self.lines if "the event loop" in line["event"]]

    async def get(self, client: Client) -> Served:
        return await self.app.serve(client.scope, client.receive, client.send)

    def events(self) -> list[str]:
        return [str(entry["event"]) for entry in self.logged]


def log() -> tuple[FilteringBoundLogger, list[Any]]:
    capture = LogCapture()
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(), processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(0)
    ).bind()
    return logger, capture.entries


@asynccontextmanager
async def staged(call: Callable[..., Any], *, kind: Any = "asgi", **limits: float) -> AsyncIterator[Stage]:
    """The app of this function, started; at the end it is stopped, and has to have ended."""
    logger, entries = log()
    all_limits: dict[str, Any] = {"timeout": 30.0, "concurrency": 0, "max_body": 1 << 20, "threads": 2, **limits}
    app = OwnApp(Loaded(kind, call, "shop:app"), Limits(**all_limits), logger)
    await app.start()
    yield Stage(app, entries)
    assert await app.stop()
