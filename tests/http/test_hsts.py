"""Refusals tell browsers to come by https, of every kind and by every server: where they came by it, and nowhere else.

A refusal that doesn't is where somebody in between begins: he has a browser ask in the clear.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio

from tests.certificates import Certificate, make_certificate
from tests.transports.raw import upgrade

from .servers import Served, serve_everywhere
from .stage import KEY, house

HSTS = 31_536_000
TOLD = f"max-age={HSTS}"
HOST = b"Host: 127.0.0.1\r\n"
BEARER = b"Authorization: Bearer " + KEY.encode() + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
REFUSALS: dict[str, tuple[bytes, int]] = {
    "no such route": (b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    "no such method": (b"DELETE /livez HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    "no key": (b"GET /api/clients HTTP/1.1\r\n" + HOST + b"\r\n", 401),
    "another page": (b"GET /api/clients HTTP/1.1\r\nOrigin: https://evil.example\r\n" + HOST + b"\r\n", 403),
    "another host": (b"GET /api/clients HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    "too large": (b"POST /api/logins HTTP/1.1\r\n" + BEARER + b"Content-Length: 99999999\r\n" + HOST + b"\r\n", 413),
    "a header twice": (b"GET /livez HTTP/1.1\r\nOrigin: a\r\nOrigin: b\r\n" + HOST + b"\r\n", 400),
    "no head": (b"hello\r\n\r\n", 400),
    "two lengths": (b"POST /livez HTTP/1.1\r\nContent-Length: 1\r\n" + CHUNKED + HOST + b"\r\n", 400),
    "a coding": (b"POST /livez HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + HOST + b"\r\n", 501),
    "a long head": (b"GET /livez HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n" + HOST + b"\r\n", 431),
    "HTTP/2 in HTTP/1.1": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a socket's version": (upgrade("/ws", version="12"), 426),
    "a socket's key": (upgrade("/ws", key="short"), 400),
    "a socket's path": (upgrade("/no/socket"), 404),
    "a socket's page": (upgrade("/ws", extra=b"Origin: https://evil.example\r\n"), 403),
    "a socket's token": (upgrade("/requester"), 403),
}  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def served(certificate: Certificate, **rules: Any) -> AsyncIterator[Served]:
    whence: dict[str, Any] = {"allowed_origins": (), "allowed_hosts": ("localhost",)}
    at = house(production=True, api_keys=[KEY], hsts=HSTS, open_requesters=False, **whence, **rules)
    with trio.fail_after(120):
        async with serve_everywhere(at, certificate, hsts=HSTS) as everywhere:
            yield everywhere


async def answer_to(stream: trio.abc.Stream, data: bytes) -> httpx.Headers:
    """The headers of the answer that comes for these bytes, and its `status`."""
    await stream.send_all(data)
    got = b""
    with trio.fail_after(60):
        while b"\r\n\r\n" not in got:
            got += await more(stream, got)
        head, _, body = got.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = httpx.Headers([(b"status", lines[0].split(b" ")[1]), *(_field(line) for line in lines[1:])])
        while len(body) < int(headers["content-length"]):
            body += await more(stream, body)
    return headers


async def more(stream: trio.abc.Stream, before: bytes) -> bytes:
    part = bytes(await stream.receive_some(65536))
    assert part, before
    return part


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b": ")
    return name, value


async def dial(everywhere: Served, server: str) -> trio.abc.Stream:
    stream = await trio.open_tcp_stream("127.0.0.1", everywhere.ports[server])
    if server != "tls":
        return stream
    return trio.SSLStream(stream, everywhere.certificate.trusted(), server_hostname="127.0.0.1", https_compatible=True)


@pytest.mark.parametrize("by", ["the reactor", "Hypercorn"])
async def test_over_tls_each_refusal_says_so(certificate: Certificate, by: str) -> None:
    async with served(certificate) as everywhere:
        for what, (data, status) in REFUSALS.items():
            stream = await dial(everywhere, "tls")
            async with stream:
                if by == "Hypercorn":
                    # A route that the reactor doesn't know: the connection is handed over, with all that comes on it.
                    first = await answer_to(stream, b"GET /of-the-app HTTP/1.1\r\n" + HOST + b"\r\n")
                    assert first["status"] == "200"
                answer = await answer_to(stream, data)
            assert answer["status"] == str(status), what
            assert answer.get_list("strict-transport-security") == [TOLD], what


@pytest.mark.parametrize("server", ["native", "hypercorn"])
async def test_in_the_clear_none_does(certificate: Certificate, server: str) -> None:
    async with served(certificate) as everywhere:
        for what, (data, status) in REFUSALS.items():
            async with await dial(everywhere, server) as stream:
                answer = await answer_to(stream, data)
            assert answer["status"] == str(status), what
            assert "strict-transport-security" not in answer, what


async def test_over_http_2_too(certificate: Certificate) -> None:
    async with served(certificate) as everywhere, everywhere.caller("http2") as caller:
        for path, headers, status in [
            ("/nothing", [], 404),
            ("/api/clients", [], 401),
            ("/api/clients", [("origin", "https://evil.example")], 403),
            ("/livez", [("origin", "a"), ("origin", "b")], 400),
        ]:
            answer = await caller.get(path, headers=headers)
            assert (answer.http_version, answer.status_code) == ("HTTP/2", status)
            assert answer.headers.get_list("strict-transport-security") == [TOLD]


@pytest.mark.parametrize("server", ["tls", "http2"])
async def test_one_connection_too_many_is_told_too(certificate: Certificate, server: str) -> None:
    async with served(certificate, max_connections=1) as everywhere:
        first = await dial(everywhere, "tls")
        async with first:
            assert (await answer_to(first, REFUSALS["no key"][0]))["status"] == "401"
            async with everywhere.caller(server) as caller:
                answer = await caller.get("/api/clients")
        assert answer.status_code == 503
        assert answer.headers.get_list("strict-transport-security") == [TOLD]
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
