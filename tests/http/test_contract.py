"""What every server answers alike, byte for byte but for the date: natively, through the door, by Hypercorn, over TLS
and HTTP/2. And what HTTP/1.1 connections are owed: keep-alive, order, limits, deadlines, and the end."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from service.core.ports import HttpHead
from service.http.logins import MAX_LOGIN
from service.transports import http1
from tests.certificates import Certificate, make_certificate
from tests.transports.http_corpus import HOSTILE, SOUND

from .servers import PLAIN, SERVERS, Served, serve_everywhere
from .stage import KEY, SessionOwner, house

PATIENT = 60.0
NAMES_SCHEME = re.compile(r"/(websocket-)?info|/$|/pages/")
PUSH = {"target": {"user_id": "u1"}, "type": "t", "id": "once"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def served(
    certificate: Certificate, rules: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[SessionOwner, Served]]:
    at = house(api_keys=[KEY], **(rules or {}))
    at.stage.client(client_id="c1", user_id="u1")
    with trio.fail_after(PATIENT * 3):
        async with serve_everywhere(at, certificate, **options) as everywhere:
            yield at, everywhere


NO_HOSTS = ("a..b", ".x", "x" * 64, "x" * 64 + ".example:80", "a b")
REQUESTS: list[tuple[str, str, dict[str, str], bytes]] = [
    *(
        (method, path, {}, b"")
        for method in ("GET", "HEAD", "OPTIONS")
        for path in ("/api/health", "/livez", "/readyz", "/api/c-client/status", "/openapi.json", "/", "/pages/text.js")
    ),
    ("GET", "/api/b-client/info", {}, b""),
    ("GET", "/api/b-client/websocket-info?x=1", {}, b""),
    ("GET", "/api/workers", {}, b""),
    ("GET", "/api/workers", {"authorization": f"Bearer {KEY}"}, b""),
    ("GET", "/api/clients?limit=1&user_id=u%31", {"authorization": f"Bearer {KEY}"}, b""),
    ("GET", "/api/clients?limit=x", {"authorization": f"Bearer {KEY}"}, b""),
    ("GET", "/api/logins/%E2%82%AC", {"authorization": f"Bearer {KEY}"}, b""),
    ("DELETE", "/api/clients/a%2Fb", {"authorization": f"Bearer {KEY}"}, b""),
    ("DELETE", "/api/health", {}, b""),
    ("BREW", "/api/health", {}, b""),
    ("GET", "/nothing", {}, b""),
    ("POST", "/nothing", {}, b"body"),
    ("GET", "/of-the-app", {}, b""),
    ("GET", "/api/health%2f", {}, b""),
    *(("GET", "/api/health", {"host": host}, b"") for host in NO_HOSTS),
    ("GET", "/api/health", {"host": "[::1]:8000", "origin": "http://[::1]"}, b""),
    ("GET", "/livez", {"origin": "https://shop.example.com"}, b""),
    ("POST", "/api/notifications", {}, json.dumps(PUSH).encode()),
    ("POST", "/api/notifications", {"authorization": f"Bearer {KEY}"}, json.dumps(PUSH).encode()),
    ("POST", "/api/notifications", {"authorization": f"Bearer {KEY}"}, json.dumps([PUSH, {}]).encode()),
    ("POST", "/api/notifications", {"authorization": f"Bearer {KEY}"}, b'{"durabel": true}'),
    ("POST", "/api/notifications", {"authorization": f"Bearer {KEY}"}, b""),
    ("POST", "/api/logins", {"authorization": f"Bearer {KEY}"}, b" " * (MAX_LOGIN + 1)),
    ("POST", "/api/requests", {"authorization": f"Bearer {KEY}"}, b'{"command": "nobody", "request_id": "r1"}'),
    ("POST", "/api/drain", {"authorization": f"Bearer {KEY}"}, b'{"seconds": 5}'),
    ("DELETE", "/api/clients/nobody", {"authorization": f"Bearer {KEY}"}, b"garbage"),
    ("DELETE", "/api/clients/nobody", {"authorization": f"Bearer {KEY}"}, b" " * (1 << 16)),
    ("POST", "/api/revocations", {"authorization": f"Bearer {KEY}"}, b'{"user_id": "u", "ttl": null}'),
    ("POST", "/api/clients/nobody/requests", {"authorization": f"Bearer {KEY}"}, b'{"action": "a"}'),
]


async def test_every_server_gives_the_same_answers(certificate: Certificate) -> None:
    async with served(certificate) as (_, everywhere):
        answers: dict[str, list[Any]] = {}
        for server in SERVERS:
            async with everywhere.caller(server) as caller:
                answers[server] = [
                    _comparable(await caller.request(method, path, headers=headers, content=body or None))
                    for method, path, headers, body in REQUESTS
                ]
        for request, (status, _, body) in zip(REQUESTS, answers["native"], strict=True):
            if request[2].get("host") in NO_HOSTS:
                assert (status, json.loads(body)["error"]["code"]) == (400, "bad_field"), request
        # Discovery, and what the page may connect to, name the scheme by which they were asked.
        for server in SERVERS[1:]:
            for request, expected, answer in zip(REQUESTS, answers["native"], answers[server], strict=True):
                where = (server, request[:3])
                if NAMES_SCHEME.search(request[1]):
                    assert answer[0] == expected[0], where
                    assert len(answer[1]) == len(expected[1]), where
                else:
                    assert answer == expected, where


def _comparable(answer: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    headers = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() != b"date"]
    assert b"date" in [name.lower() for name, _ in answer.headers.raw]
    return answer.status_code, headers, answer.content


TWICE = {
    "origin": ("https://shop.example", "https://evil.example"),
    "authorization": (f"Bearer {KEY}", "Bearer another-key-of-somebody-else"),
    "content-type": ("application/json", "application/json"),
}


async def test_a_header_that_has_one_value_comes_once_on_every_server(certificate: Certificate) -> None:
    async with served(certificate) as (at, everywhere):
        for server in SERVERS:
            async with everywhere.caller(server) as caller:
                for name, values in TWICE.items():
                    for path in ("/api/clients", "/of-the-app", "/nothing"):
                        doubled = [(name, value) for value in values]
                        answer = await caller.get(path, headers=doubled)
                        assert answer.status_code == 400, (server, name, path)
                        problem = answer.json()["error"]
                        assert problem["code"] == "bad_field", (server, name, path)
                        assert problem["message"] == f"There is more than one {name} header.", (server, name, path)
                assert (await caller.get("/livez")).status_code == 200
        counters = at.parts.counters
        assert counters.handshakes_refused + counters.faults["http", "bad_field"] == len(SERVERS) * len(TWICE) * 3


async def read_to_end(stream: trio.SocketStream) -> bytes:
    data = b""
    with trio.fail_after(PATIENT):
        while part := await stream.receive_some(65536):
            data += part
    return data


async def test_a_target_that_names_another_host_is_refused_on_every_server(certificate: Certificate) -> None:
    async with served(certificate) as (_, everywhere):
        for server in PLAIN:
            for target, status in ((b"evil.example", 400), (b"gw.example.com:80", 400), (b"GW.example.com", 200)):
                head = b"GET http://%b/livez HTTP/1.1\r\nHost: gw.example.com\r\nConnection: close\r\n\r\n" % target
                assert statuses(await exchange(everywhere, server, head)) == [status], (server, target)


UNREADABLE = (
    b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Name: b\xc3\xbccher\r\n\r\n",
    b"GET /liv\xe9z HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n",
)


async def test_a_head_that_cannot_be_read_is_answered_like_every_other_mistake(certificate: Certificate) -> None:
    async with served(certificate) as (_, everywhere):
        for server in PLAIN:
            for data in UNREADABLE:
                answer = await exchange(everywhere, server, data)
                head, _, body = answer.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 400 "), (server, data, answer)
                assert b"content-type: application/json" in head.lower(), (server, data)
                assert json.loads(body)["error"]["code"] == "bad_field", (server, data)


async def send_for_ever(stream: trio.SocketStream, data: bytes, pause: float = 0.0) -> None:
    """Until that fails."""
    with trio.fail_after(PATIENT):
        while True:
            await stream.send_all(data)
            await trio.sleep(pause)


async def exchange(everywhere: Served, server: str, data: bytes) -> bytes:
    """What comes back for these bytes, up to the end."""
    async with await everywhere.dial(server) as stream:
        await stream.send_all(data)
        return await read_to_end(stream)


def statuses(answers: bytes) -> list[int]:
    """The status of each answer in what came back."""
    found = []
    while answers:
        head, _, answers = answers.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
        found.append(status)
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
        answers = answers[int(fields.get(b"content-length", 0)) :]
    return found


@pytest.mark.parametrize("server", PLAIN)
async def test_what_is_hostile_is_refused_and_the_connection_closed(certificate: Certificate, server: str) -> None:
    async with served(certificate, handshake_timeout=1.0) as (at, everywhere):
        for data in HOSTILE:
            with trio.fail_after(PATIENT):
                (status,) = statuses(await exchange(everywhere, server, data))
            assert status in (400, 501, 505), data
        # After a sound request on the same connection too: that is answered, and nothing after the bad one is.
        for data in HOSTILE[:12]:
            got = statuses(await exchange(everywhere, server, SOUND[0] + data + SOUND[0]))
            assert got[0] == 200
            assert got[1] in (400, 501)
            assert len(got) == 2
        assert at.broken == []


@pytest.mark.parametrize("server", PLAIN)
async def test_pipelined_requests_are_answered_in_order(certificate: Certificate, server: str) -> None:
    async with served(certificate) as (_, everywhere):
        last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        requests = b"".join(SOUND)
        expected = [401 if sound.startswith(b"POST") else 200 for sound in SOUND]
        # HEAD's answer announces a body that it hasn't.
        keep = [(sound, status) for sound, status in zip(SOUND, expected, strict=True) if not sound.startswith(b"HEAD")]
        requests = b"".join(sound for sound, _ in keep) * 20
        got = statuses(await exchange(everywhere, server, requests + last))
        assert got == [status for _, status in keep] * 20 + [200]


@pytest.mark.parametrize("server", PLAIN)
async def test_bytes_one_by_one(certificate: Certificate, server: str) -> None:
    body = json.dumps(PUSH).encode()
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    key = f"Authorization: Bearer {KEY}\r\n".encode()
    async with served(certificate) as (_, everywhere), await everywhere.dial(server) as stream:
        for fields, sent in ((b"Content-Length: %d" % len(body), body), (b"Transfer-Encoding: chunked", chunked)):
            data = b"POST /api/notifications HTTP/1.1\r\nHost: x\r\n" + key + fields + b"\r\n\r\n" + sent
            for at in range(len(data)):
                await stream.send_all(data[at : at + 1])
            answer = b""
            while not answer.endswith(b"}"):
                answer += await stream.receive_some(4096)
            assert answer.startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("server", PLAIN)
async def test_expect_100_continue(certificate: Certificate, server: str) -> None:
    body = json.dumps(PUSH).encode()
    head = "POST /api/notifications HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    head += f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    async with served(certificate) as (_, everywhere), await everywhere.dial(server) as stream:
        await stream.send_all(head.encode())
        assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(body)
        assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("server", PLAIN)
@pytest.mark.parametrize("line", [b"HTTP/1.0", b"HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Close"])
async def test_connections_that_are_to_end_do(certificate: Certificate, server: str, line: bytes) -> None:
    async with served(certificate) as (_, everywhere):
        more = b"" if server == "hypercorn" else SOUND[0]  # h11 would have it that nothing may follow
        answer = await exchange(everywhere, server, b"GET /livez " + line + b"\r\n\r\n" + more)
        assert statuses(answer) == [200]
        assert b"\r\nconnection: close\r\n" in answer.lower()


async def test_who_says_nothing_more_is_closed(certificate: Certificate) -> None:
    begun = (b"", b"GET /livez HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SOUND[0])
    ends: dict[tuple[str, bytes], bytes] = {}

    async def wait_for_the_end(everywhere: Served, server: str, data: bytes) -> None:
        ends[server, data] = await exchange(everywhere, server, data)

    # All at once: most of it is the seconds that a connection is kept alive after an answer.
    async with (
        served(certificate, handshake_timeout=0.5, h2c=True) as (_, everywhere),
        trio.open_nursery() as nursery,
    ):
        for server, data in product(PLAIN, begun):
            nursery.start_soon(wait_for_the_end, everywhere, server, data)
    assert ends.keys() == set(product(PLAIN, begun))
    assert [statuses(ends[server, SOUND[0]]) for server in PLAIN] == [[200]] * 3


@pytest.mark.parametrize("server", ["native", "door"])
async def test_a_head_that_trickles_is_not_waited_for(certificate: Certificate, server: str) -> None:
    options: Any = {"handshake_timeout": 0.5}
    async with served(certificate, **options) as (_, everywhere), await everywhere.dial(server) as stream:
        await stream.send_all(SOUND[0])
        await stream.receive_some(4096)
        with pytest.raises(trio.BrokenResourceError):
            await send_for_ever(stream, b"X", pause=0.1)


@pytest.mark.parametrize("server", PLAIN)
async def test_another_servers_request_takes_the_connection_with_it(certificate: Certificate, server: str) -> None:
    async with served(certificate) as (_, everywhere):
        other = b"GET /of-the-app HTTP/1.1\r\nHost: x\r\n\r\n"
        post = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        got = await exchange(everywhere, server, SOUND[0] + other + post + SOUND[0] + last)
        assert statuses(got) == [200, 200, 404, 200, 200]
        assert b"of the app" in got


@pytest.mark.parametrize("server", SERVERS)
async def test_a_caller_that_hangs_up_cancels_its_request(certificate: Certificate, server: str) -> None:
    async with served(certificate) as (at, everywhere):
        _, worker = at.stage.worker("w1")
        async with everywhere.caller(server, authorization=f"Bearer {KEY}") as caller:
            with trio.move_on_after(PATIENT) as waiting:
                async with trio.open_nursery() as nursery:

                    async def ask() -> None:
                        await caller.post("/api/requests", json={"command": "echo"})

                    nursery.start_soon(ask)
                    while at.parts.dispatcher.outstanding == 0:  # noqa: ASYNC110 - the core has no events
                        await trio.sleep(0.01)
                    nursery.cancel_scope.cancel()
            assert not waiting.cancelled_caught
        with trio.fail_after(PATIENT):
            while at.parts.dispatcher.outstanding:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert any(message["type"] == "custom" for message in worker.take())


@pytest.mark.parametrize("server", PLAIN)
async def test_what_is_pipelined_behind_a_request_that_waits_waits_too(certificate: Certificate, server: str) -> None:
    async with served(certificate) as (at, everywhere), await everywhere.dial(server) as stream:
        session, worker = at.stage.worker("w1")
        worker.take()
        body = b'{"command": "echo", "request_id": "r1"}'
        ask = f"POST /api/requests HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n".encode()
        ask += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        await stream.send_all(ask + SOUND[0])
        with trio.fail_after(PATIENT):
            while at.parts.dispatcher.outstanding == 0:  # noqa: ASYNC110
                await trio.sleep(0.01)
        [request] = [message for message in worker.take() if message["type"] == "request"]
        at.stage.say(
            session, {"type": "response", "data": {"request_id": request["msg_id"], "success": True, "result": 1}}
        )
        got = b""
        with trio.fail_after(PATIENT):
            while b'"status":"ok"' not in got:
                got += await stream.receive_some(4096)
        assert got.index(b'"r1"') < got.index(b'"status":"ok"')


@pytest.mark.parametrize("server", ["native", "door"])
async def test_who_pipelines_and_reads_nothing_is_held_and_then_cut(
    certificate: Certificate, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "SEND_SECONDS", 0.5)
    async with served(certificate, outbound_limit=64_000) as (_, everywhere), await everywhere.dial(server) as stream:
        page = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        with pytest.raises(trio.BrokenResourceError):
            await send_for_ever(stream, page * 100)
        assert everywhere.reactor.connection_count == 0


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)


@pytest.mark.parametrize("server", ["native", "door"])
@pytest.mark.parametrize("rules", [{"max_connections": 4}, {"max_connections_per_address": 3}])
async def test_every_connection_counts_whatever_it_sends(
    certificate: Certificate, server: str, rules: dict[str, int]
) -> None:
    # One client of the stage's counts too, under another address.
    begun = (b"", SOUND[0], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    async with served(certificate, rules, h2c=True) as (at, everywhere):
        limits = at.stage.gateway.admission_control.limits
        streams = [await everywhere.dial(server) for _ in begun]
        for stream, data in zip(streams, begun, strict=True):
            if data:
                await stream.send_all(data)
                await stream.receive_some(4096)
        for asked in (b"GET /api/b-client/info HTTP/1.1\r\nHost: x\r\n\r\n", UPGRADE):
            answer = await exchange(everywhere, server, asked)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 5\r\n" in answer
        if server == "native":
            # A node that is full is not dead: probes are answered, and closed.
            for probe in (b"/livez", b"/readyz", b"/metrics", b"/api/health"):
                answer = await exchange(everywhere, server, b"GET " + probe + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200 "), answer[:60]
                assert b"\r\nconnection: close\r\n" in answer
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(PATIENT):
            while limits._open > 1:  # noqa: ASYNC110
                await trio.sleep(0.01)
        async with await everywhere.dial(server) as stream:
            await stream.send_all(SOUND[0])
            assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 200 ")
            # What becomes a WebSocket counts once.
            await stream.send_all(UPGRADE)
            assert (await stream.receive_some(4096)).startswith(b"HTTP/1.1 101 ")
            assert limits._open == 2


async def test_where_hypercorn_serves_a_full_node_is_not_dead_either(certificate: Certificate) -> None:
    async with served(certificate, {"max_connections": 2}) as (_, everywhere), await everywhere.dial("native"):
        for probe in (b"/livez", b"/readyz", b"/metrics", b"/api/health"):
            answer = await exchange(everywhere, "hypercorn", b"GET " + probe + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 "), answer[:60]
            assert b"\r\nconnection: close\r\n" in answer
        for asked in (b"GET /api/b-client/info HTTP/1.1\r\nHost: x\r\n\r\n", UPGRADE):
            answer = await exchange(everywhere, "hypercorn", asked)
            assert answer.startswith(b"HTTP/1.1 503 "), answer[:60]
            assert b"\r\nretry-after: 5\r\n" in answer


@pytest.mark.parametrize("server", ["tls", "http2"])
async def test_connections_over_tls_count_too(certificate: Certificate, server: str) -> None:
    async with served(certificate, {"max_connections": 3}) as (at, everywhere):
        async with everywhere.caller(server) as one, everywhere.caller(server) as other:
            assert (await one.get("/livez")).status_code == 200
            assert (await other.get("/livez")).status_code == 200
            async with everywhere.caller("tls") as third:
                assert (await third.get("/api/b-client/info")).status_code == 503
            for probe in ("/livez", "/readyz", "/metrics", "/api/health"):
                for kind in ("tls", "http2"):
                    async with everywhere.caller(kind) as prober:
                        assert (await prober.get(probe)).status_code == 200, (probe, kind)
        limits = at.stage.gateway.admission_control.limits
        with trio.fail_after(PATIENT):
            while limits._open > 1:  # noqa: ASYNC110
                await trio.sleep(0.01)


@pytest.mark.parametrize("server", SERVERS)
async def test_requests_without_a_key_are_limited_by_address(certificate: Certificate, server: str) -> None:
    async with served(certificate, requests_per_second=2) as (at, everywhere), everywhere.caller(server) as caller:
        for path in ("/livez", "/nothing", "/livez", "/livez"):
            assert (await caller.get(path)).status_code != 429
        for path in ("/livez", "/nothing", "/livez"):
            answer = await caller.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert answer.json()["error"]["code"] == "rate_limited"
        for _ in range(10):
            assert (await caller.get("/api/workers", headers={"authorization": f"Bearer {KEY}"})).status_code == 200
        at.stage.pass_time(1)
        assert (await caller.get("/livez")).status_code == 200


@pytest.mark.parametrize("server", SERVERS)
async def test_requests_are_counted_and_logged(certificate: Certificate, server: str) -> None:
    lines: list[tuple[str, str, int, int]] = []

    def log(head: HttpHead, status: int, received: int, sent: int, seconds: float) -> None:
        lines.append((head.method, head.path, status, received))
        assert 0 <= seconds < PATIENT
        assert sent

    async with served(certificate, access_log=log) as (at, everywhere), everywhere.caller(server) as caller:
        counters = at.parts.counters
        await caller.get("/livez?token=secret")
        await caller.get("/nothing")
        body = json.dumps(PUSH)
        await caller.post("/api/notifications", content=body, headers={"authorization": f"Bearer {KEY}"})
        await caller.request("BREW", "/livez")
        assert lines == [
            ("GET", "/livez", 200, 0),
            ("GET", "/nothing", 404, 0),
            ("POST", "/api/notifications", 202, len(body)),
            ("BREW", "/livez", 405, 0),
        ]
        assert counters.http_requests == {
            ("getLiveness", "GET", "200"): 1,
            ("none", "GET", "404"): 1,
            ("publishNotifications", "POST", "202"): 1,
            ("none", "other", "405"): 1,
        }
        assert counters.http_bytes_in == len(body)
        assert sum(counters.http_latency.buckets) == 4


@pytest.mark.parametrize("server", PLAIN)
async def test_a_body_too_large_in_chunks_is_refused_and_the_connection_goes_on(
    certificate: Certificate, server: str
) -> None:
    head = f"POST /api/logins HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    async with served(certificate) as (_, everywhere), await everywhere.dial(server) as stream:
        await stream.send_all(head.encode() + chunk * (MAX_LOGIN // 0x10000 + 1) + b"0\r\n\r\n" + SOUND[0])
        got = b""
        with trio.fail_after(PATIENT):
            while b'"status":"ok"' not in got:
                got += await stream.receive_some(65536)
        assert statuses(got) == [413, 200]


@pytest.mark.parametrize("server", ["native", "door"])
async def test_a_body_that_never_ends_is_given_up(
    certificate: Certificate, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "BODY_SECONDS", 0.3)
    head = f"POST /api/logins HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n\r\n"
    options: Any = {"handshake_timeout": 0.2}
    async with served(certificate, **options) as (_, everywhere):
        answer = await exchange(everywhere, server, head.encode() + b"{")
        assert statuses(answer) == [400]
        assert b"did not arrive" in answer


@pytest.mark.parametrize("server", SERVERS)
async def test_how_many_requests_may_wait_is_bounded(
    certificate: Certificate, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.http.api.MAX_WAITING", 1)
    async with served(certificate) as (at, everywhere):
        at.stage.worker("w1")
        async with everywhere.caller(server, authorization=f"Bearer {KEY}") as caller, trio.open_nursery() as nursery:

            async def ask() -> None:
                await caller.post("/api/requests", json={"command": "echo"})

            nursery.start_soon(ask)
            with trio.fail_after(PATIENT):
                while at.parts.dispatcher.outstanding == 0:  # noqa: ASYNC110 - the core has no events
                    await trio.sleep(0.01)
            async with everywhere.caller(server, authorization=f"Bearer {KEY}") as other:
                answer = await other.post("/api/requests", json={"command": "echo"})
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert (await other.get("/livez")).status_code == 200
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("server", PLAIN)
async def test_an_upgrade_of_http_1_0_is_refused_and_the_connection_closed(
    certificate: Certificate, server: str
) -> None:
    async with served(certificate) as (_, everywhere):
        answer = await exchange(everywhere, server, UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert statuses(answer) == [400]


async def test_what_was_handed_over_is_guarded_too(certificate: Certificate) -> None:
    other = b"GET /of-the-app HTTP/1.1\r\nHost: x\r\n\r\n"
    async with served(certificate) as (at, everywhere):
        for data in HOSTILE[:12]:
            got = statuses(await exchange(everywhere, "native", other + data + SOUND[0]))
            assert got[0] == 200
            assert got[1] in (400, 501)
            assert len(got) == 2
        assert at.broken == []
