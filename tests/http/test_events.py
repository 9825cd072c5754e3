"""GET /api/events: what passes, filtered and sampled, for readers that keep up and those that don't."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio
from websockets.sync.client import connect

from service.core.api_keys import ApiKey, digest_of
from service.core.back_end_events import EVENTS
from service.http import events
from service.http.request import HttpRequest
from tests import gateways

from .stage import BEARER, KEY, SessionOwner, house, problem


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"sample={sample}", "sample") for sample in ("0", "2", "x", "-0.5", "nan", "inf", "")),
        *((f"event={event}", "event") for event in ("came", "", ",", "left,", "left,came", "LEFT")),
        *((f"{name}=", name) for name in ("user_id", "client_id", "node")),
        ("user=x", None),
        ("channel_id=x", None),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(query: str, field: str | None) -> None:
    answer = await house(api_keys=[KEY]).call("GET", f"/api/events?{query}", headers=BEARER)
    assert problem(answer) == (400, "bad_field", field)
    if field == "event" and query != "event=":
        assert all(name in answer.json()["error"]["message"] for name in EVENTS), "it says which there are"


async def test_it_takes_a_key_and_a_get() -> None:
    at = house(api_keys=[KEY])
    assert (await at.call("GET", "/api/events")).status_code in (401, 403)
    assert (await at.call("POST", "/api/events", headers=BEARER)).status_code == 405


async def pieces_of(at: SessionOwner, query: dict[str, str]) -> "tuple[object, list[bytes]]":
    head = type("Head", (), {"query": "", "headers": {}})()
    stream = events.events_streams(at.parts.event_tail)["streamEvents"](HttpRequest(head, {}, query))
    got: list[bytes] = [await anext(stream)]
    return stream, got


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ({}, ["c1", "ann", "c2", "bob"]),
        ({"event": "left,registered"}, ["c1", "c2"]),
        ({"event": "left"}, []),
        ({"user_id": "ann"}, ["c1", "ann"]),
        ({"event": "user_online"}, ["ann", "bob"]),
        ({"event": "user_online,registered", "user_id": "bob"}, ["c2", "bob"]),
        ({"client_id": "c2"}, ["c2"]),
        ({"node": "elsewhere"}, []),
        ({"sample": "0.0000001"}, []),
    ],
)
async def test_filters(query: dict[str, str], seen: list[str]) -> None:
    at = house()
    stream, _ = await pieces_of(at, query)
    at.stage.client(client_id="c1", user_id="ann")
    at.stage.client(client_id="c2", user_id="bob")
    got = []
    for _ in seen:
        with trio.fail_after(10):
            piece: bytes = await anext(stream)  # type: ignore[call-overload]
        lines = dict(line.split(": ", 1) for line in piece.decode().strip().split("\n"))
        told = json.loads(lines["data"])
        assert (lines["id"], lines["event"]) == (told["id"], told["event"])
        got.append(told["client_id"] if lines["event"] == "registered" else told["user_id"])
    assert got == seen
    await stream.aclose()  # type: ignore[attr-defined]
    assert at.parts.event_tail.listeners == 0


async def test_a_slow_reader_is_told_how_many_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUEUE", 2)
    at = house()
    stream, _ = await pieces_of(at, {})
    for number in range(5):
        at.stage.client(client_id=f"c{number}")
    piece: bytes = await anext(stream)  # type: ignore[call-overload]
    assert b'event: left_out\ndata: {"event":"left_out","count":3}\n\n' in piece
    await stream.aclose()  # type: ignore[attr-defined]


# Over the wire

LONG = "an-api-key-of-this-test-0123456789"
SHOWN = {"authorization": f"Bearer {LONG}"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gateways.Running]:
    settings = {"PORTICO_API_KEYS": LONG, "PORTICO_OFFLINE_SECONDS": 0.2}
    with gateways.gateway(tmp_path_factory.mktemp("gateway"), settings=settings) as gateway:
        yield gateway


@pytest.mark.live
def test_a_stream_over_the_wire(running: gateways.Running, tmp_path: Path) -> None:
    lines: list[str] = []
    begun, seen = threading.Event(), threading.Event()

    def read() -> None:
        url = f"{running.base_url}/api/events?event=registered,message,user_online,user_offline"
        with httpx.stream("GET", url, headers=SHOWN, timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                begun.set()
                lines.append(line)
                if line.startswith("data:"):
                    seen.set()
                if line.startswith("event: user_offline"):
                    return

    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(30)
    with connect(f"{running.websocket_url}/ws", open_timeout=30) as socket:
        socket.send(json.dumps({"type": "c_client_register", "client_id": "c1", "user_id": "ann"}))
        socket.recv(30)
        assert seen.wait(30)
        # Nobody listens who takes messages: it is an error, as ever.
        socket.send('{"type": "cookie_response"}')
        assert json.loads(socket.recv(30))["code"] == "unknown_type"
    reader.join(30)
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert names == ["registered", "user_online", "user_offline"]
    assert [one["user_id"] for one in told] == ["ann", "ann"]
    refused = httpx.get(f"{running.base_url}/api/events")
    assert refused.status_code == 401
    assert httpx.get(f"{running.base_url}/api/events?sample=9", headers=SHOWN).status_code == 400


async def test_it_ends_when_its_key_is_taken_away() -> None:
    """Else whoever had a key once sees what passes for as long as the connection lasts."""
    at = house(api_keys=[KEY])
    keys = at.stage.gateway.api_keys
    secret = "the-key-of-somebody-who-leaves"
    shop = ApiKey("shop", frozenset(("admin",)), digest_of(secret))
    keys.replace([shop])
    async with at.serving() as url, httpx.AsyncClient(trust_env=False, timeout=60) as http:
        headers = {"authorization": f"Bearer {secret}", "host": "127.0.0.1"}
        async with http.stream("GET", f"{url}/api/events", headers=headers) as answer:
            assert answer.status_code == 200
            pieces = answer.aiter_raw()
            assert await anext(pieces)
            keys.replace([shop, ApiKey("other", frozenset(("logins",)), digest_of("x" * 20))])
            at.stage.client(client_id="c1", user_id="ann")
            assert b"registered" in await anext(pieces)
            keys.replace([])
            with trio.fail_after(30), suppress(httpx.RemoteProtocolError):
                async for _ in pieces:
                    pass
        assert at.parts.event_tail.listeners == 0
