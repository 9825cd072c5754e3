"""One Api behind every server that can serve it, on loopback ports of this process: the reactor by itself, the same
behind Hypercorn's door, Hypercorn by itself, and the reactor over TLS, with HTTP/1.1 and HTTP/2 (handed over)."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import trio

from service.core.ports import https_headers
from service.http.access import CallerRates
from service.http.api import AccessLog
from service.http.apis import port_api, whole_api
from service.http.app import create_http
from service.transports.asgi import register
from service.transports.connection_rules import ConnectionRules
from service.transports.door import Door
from service.transports.front_door import install
from service.transports.handed_over import HandedOver
from service.transports.http_server import serve_http
from service.transports.native import PortApis, Reactor, ReactorParts
from service.transports.pressure import Pressure
from service.transports.proxies import ProxyRules
from service.transports.server_certificates import Certificates, TlsFiles
from service.transports.tls_session import TlsSession
from tests.certificates import Certificate

from .stage import SessionOwner

SERVERS = ("native", "door", "hypercorn", "tls", "http2")
PLAIN = SERVERS[:3]


@dataclass
class Served:
    """The ports, by server (`http2` has that of `tls`)."""

    ports: dict[str, int]
    reactor: Reactor
    certificate: Certificate

    @asynccontextmanager
    async def caller(self, server: str, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
        """A client of one of them."""
        over_tls = server in ("tls", "http2")
        verify: Any = self.certificate.trusted() if over_tls else False
        base = f"{'https' if over_tls else 'http'}://127.0.0.1:{self.ports[server]}"
        async with httpx.AsyncClient(
            base_url=base,
            http2=server == "http2",
            http1=server != "http2",
            verify=verify,
            trust_env=False,
            timeout=300,
            headers={"host": "127.0.0.1", **headers},
        ) as client:
            yield client

    async def dial(self, server: str) -> trio.SocketStream:
        """A plain connection to one of PLAIN."""
        return await trio.open_tcp_stream("127.0.0.1", self.ports[server])


@asynccontextmanager
async def serve_everywhere(
    at: SessionOwner,
    certificate: Certificate,
    *,
    handshake_timeout: float = 5.0,
    outbound_limit: int = 1 << 20,
    requests_per_second: float = 0,
    access_log: AccessLog | None = None,
    h2c: bool = False,
    hsts: int = 0,
) -> AsyncIterator[Served]:
    """All servers, until the block is left."""
    rates = CallerRates(requests_per_second, at.stage.clock.now) if requests_per_second else None
    api = whole_api(at.parts, at.broken.append, rates=rates, access_log=access_log)
    counters = at.parts.counters
    accepted = at.stage.gateway.admission_control.limits
    resolver = ProxyRules().resolve
    told: list[str] = []

    def log(event: str, /, **fields: object) -> None:
        told.append(event)

    def pressure() -> Pressure:
        return Pressure(limit=outbound_limit, hard_limit=64 << 20, total_limit=256 << 20, slow_seconds=5.0)

    rules = ConnectionRules(handshake_timeout=handshake_timeout, h2c=h2c, https_headers=https_headers(hsts))

    def make_reactor(certificates: Certificates | None = None) -> Reactor:
        parts = ReactorParts(
            gate=at.stage.gateway,
            apis=PortApis(websocket=port_api(at.parts), http=api),
            counts=counters,
            resolve_source=resolver,
            pressure=pressure(),
            log=log,
            accepted_connections=accepted,
            take_over=take_over,
            certificates=certificates,
        )
        return Reactor(parts, rules)

    def take_over(sock: socket.socket, received: bytes, tls: TlsSession | None) -> None:
        handed_over.take(sock, received, tls)

    reactor = make_reactor()
    certificates = Certificates(TlsFiles(str(certificate.file), str(certificate.key)), lambda: (), log)
    certificates.load()
    secure = make_reactor(certificates)
    common: Any = {
        "counts": counters,
        "log": log,
        "rules": rules,
        "accepted_connections": accepted,
    }
    doors = {
        "door": Door(adopt=reactor.adopt, adopts_http=True, **common),
        "hypercorn": Door(**common),
    }
    apps = {name: create_http(api, resolver=resolver) for name in doors}
    for name, door in doors.items():
        assert install(apps[name], door)
        apps[name].add_url_rule("/of-the-app", "of_the_app", _of_the_app)
        register(
            apps[name],
            at.stage.gateway,
            counters,
            pressure=pressure(),
            resolve=resolver,
            log=log,
            rules=rules,
        )
    handed_over: HandedOver = HandedOver(apps["door"], doors["door"])
    shutdown = trio.Event()
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(reactor.run)
        await nursery.start(secure.run)
        await nursery.start(handed_over.run)
        ports: dict[str, int] = {}
        for name, door in doors.items():

            async def serve(task_status: Any, name: str = name, door: Door = door) -> None:
                await serve_http(apps[name], door=door, shutdown=shutdown, host="127.0.0.1", task_status=task_status)

            ports[name] = (await nursery.start(serve))[0][1]
        ports["native"] = (await nursery.start(reactor.listen, "127.0.0.1", 0, "http"))[0][1]
        ports["tls"] = ports["http2"] = (await nursery.start(secure.listen, "127.0.0.1", 0, "http"))[0][1]
        yield Served(ports, reactor, certificate)
        shutdown.set()
        await handed_over.end()
        nursery.cancel_scope.cancel()
    assert "contained_error" not in told


async def _of_the_app() -> str:
    return "of the app"
