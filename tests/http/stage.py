"""A gateway's HTTP on the stage of `tests.fakes`: in memory, or through Hypercorn on a real socket."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart_trio import QuartTrio

from service.core.cluster.discovery import Places
from service.http.apis import whole_api
from service.http.app import create_http
from service.http.parts import Parts, parts_of
from tests.fakes import Stage, stage

LOCAL = ("127.0.0.1", 40000)
OUTSIDE = ("203.0.113.9", 40000)
KEY = "key-of-the-shop"
BEARER = {"authorization": f"Bearer {KEY}"}


class Seen(NamedTuple):
    """What a resolver says."""

    address: str
    scheme: str
    host: str
    prefix: str = ""


def no_proxies(peer: str, headers: Mapping[str, str], scheme: str) -> Seen:
    """A resolver that trusts nobody."""
    return Seen(peer, scheme, headers.get("host", ""))


def behind_proxy(peer: str, headers: Mapping[str, str], scheme: str) -> Seen:
    """A resolver that trusts 10.0.0.1 and this machine."""
    if peer not in ("10.0.0.1", "127.0.0.1"):
        return no_proxies(peer, headers, scheme)
    return Seen(
        headers.get("x-forwarded-for", peer).rpartition(",")[2].strip(),
        headers.get("x-forwarded-proto", scheme),
        headers.get("x-forwarded-host", headers.get("host", "")),
        headers.get("x-forwarded-prefix", ""),
    )


@dataclass
class SessionOwner:
    """A gateway with its HTTP app. `not_ready` is what the app gives as the reason; `broken` what it was told of."""

    stage: Stage
    app: QuartTrio
    parts: Parts
    places: Places
    not_ready: list[str]
    broken: list[Exception]
    drains: list[tuple[str | None, str | None]] = field(default_factory=list)

    def caller(self, peer: tuple[str, int] = LOCAL, **headers: str) -> httpx.AsyncClient:
        """A caller in memory, whose socket is at `peer`."""
        app: Any = self.app  # httpx and Hypercorn type ASGI each in their own way
        transport = httpx.ASGITransport(app, client=peer)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=headers)

    async def call(
        self, method: str, path: str, *, peer: tuple[str, int] = LOCAL, headers: Any = None, **more: Any
    ) -> httpx.Response:
        """One call in memory."""
        async with self.caller(peer) as caller:
            return await caller.request(method, path, headers=headers, **more)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on a real socket of this machine, by Hypercorn; gives the base URL."""
        config = Config()
        config.bind = ["127.0.0.1:0"]
        config.graceful_timeout = 0.1
        config.errorlog = None
        over = trio.Event()

        async def run(task_status: trio.TaskStatus[list[str]]) -> None:
            await serve(self.app, config, shutdown_trigger=over.wait, task_status=task_status)

        async with trio.open_nursery() as nursery:
            urls: list[str] = await nursery.start(run)
            try:
                yield urls[0]
            finally:
                over.set()


def house(resolver: Any = no_proxies, **rules: Any) -> SessionOwner:
    """A SessionOwner whose gateway has these Rules."""
    return house_of(stage(**rules), resolver)


def house_of(made: Stage, resolver: Any = no_proxies) -> SessionOwner:
    """The SessionOwner of a gateway that is on a stage already."""
    places = Places("development", "box-1", "10.0.0.5", 8000, 8766, None)
    not_ready: list[str] = []
    broken: list[Exception] = []
    drains: list[tuple[str | None, str | None]] = []

    def begin_drain(by: str | None, address: str | None) -> tuple[int, float]:
        drains.append((by, address))
        return len(made.gateway.sessions), 20.0

    parts = parts_of(
        made.gateway, places, lambda: not_ready[0] if not_ready else None, begin_drain, wall=made.clock.wall
    )
    api = whole_api(parts, broken.append)
    app = create_http(api, resolver=resolver)
    return SessionOwner(made, app, parts, places, not_ready, broken, drains)


def problem(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and field of a refusal; its form is checked."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "field"}
    assert body["error"]["message"].endswith((".", "…"))
    return answer.status_code, body["error"]["code"], body["error"]["field"]
