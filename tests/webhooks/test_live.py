"""Webhooks of real gateways: two nodes on one Redis, one of which is killed; and one alone."""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests import gateways
from tests.backplane.redis_server import redis_server
from tests.outgoing.servers import Answer, Asked, BackEnd, back_end

pytestmark = pytest.mark.live
KEY = "a-signing-key-of-this-test-0123456789"
SETTINGS = {
    "PORTICO_WEBHOOK_KEYS": KEY,
    "PORTICO_NODE_LEASE": "2",
    "PORTICO_OFFLINE_SECONDS": "0.5",
}


def register(url: str, client_id: str, user_id: str) -> ClientConnection:
    socket = connect(f"{url}/ws", open_timeout=30, legacy=True)
    socket.send(json.dumps({"type": "c_client_register", "client_id": client_id, "user_id": user_id}))
    assert json.loads(socket.recv(30))["type"] == "registration_success"
    return socket


def told(server: BackEnd, count: int) -> list[Any]:
    """The events, once there are so many. One that was under way when its node died comes twice, under one id."""
    more = 0
    while True:
        asked = server.wait_for(count + more, 60)
        events = list({event["id"]: event for event in (json.loads(one.body) for one in asked)}.values())
        if len(events) >= count:
            return events
        more = len(asked) - len(events)


@pytest.fixture
def receiver() -> Iterator[BackEnd]:
    with back_end(lambda asked: Answer(200)) as server:
        yield server


def test_a_killed_node_yields_one_left_for_each_client(tmp_path: Path, receiver: BackEnd) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        settings = {
            **SETTINGS,
            "REDIS_URL": redis.url,
            "PORTICO_WEBHOOK_URL": f"{receiver.url}/hook",
            "PORTICO_EVENT_STREAM": "1000",
        }
        folders = [tmp_path / name for name in ("one", "two")]
        for folder in folders:
            folder.mkdir()
        one, two = (
            stack.enter_context(gateways.gateway(folder, settings=settings, exit_code=None)) for folder in folders
        )
        clients = [register(one.websocket_url, f"c{number}", f"u{number}") for number in range(20)]
        stays = register(two.websocket_url, "stays", "u0")
        clients.pop().close()  # it goes by itself
        told(receiver, 21 + 20 + 1)  # who came, who is online, who has left
        os.kill(one.process.pid, signal.SIGKILL)
        everything = told(receiver, 21 + 20 + 20 + 19)
        names = Counter(event["event"] for event in everything)
        assert names == {"registered": 21, "user_online": 20, "left": 20, "user_offline": 19}
        lefts = Counter(event["client_id"] for event in everything if event["event"] == "left")
        assert lefts == {f"c{number}": 1 for number in range(20)}
        assert {event["user_id"] for event in everything if event["event"] == "user_offline"} == {
            f"u{number}" for number in range(1, 20)
        }
        for user in range(1, 20):
            order = [event["event"] for event in everything if event.get("user_id") == f"u{user}"]
            assert order == ["registered", "user_online", "left", "user_offline"]
        stays.close()
        for client in clients:
            client.close()


def test_alone_everything_is_told_down_to_the_end(tmp_path: Path, receiver: BackEnd) -> None:
    settings = {**SETTINGS, "PORTICO_WEBHOOK_URL": f"{receiver.url}/hook"}
    with gateways.gateway(tmp_path, settings=settings) as running:
        client = register(running.websocket_url, "c1", "ann")
        client.send('{"type": "cookie_response", "cookies": []}')
        client.send('{"request_id": 7}')
        told(receiver, 4)
        metrics = httpx.get(f"{running.base_url}/metrics").text
        assert "portico_webhook_delivered_total" in metrics
    everything = told(receiver, 5)
    assert [event["event"] for event in everything] == ["registered", "user_online", "message", "message", "left"]
    assert everything[2]["message"] == {"type": "cookie_response", "cookies": []}
    assert (everything[4]["code"], everything[4]["reason"]) == (1012, everything[4]["reason"])
    client.close()


def test_at_the_end_events_in_memory_have_seconds_to_be_delivered(tmp_path: Path) -> None:
    """The receiver refuses the last event once: it is tried again, after the drain, before the process ends."""
    refused: list[str] = []

    def refuse_once(asked: Asked) -> Answer:
        event = json.loads(asked.body)
        if event["event"] != "left" or refused:
            return Answer(200)
        refused.append(event["id"])
        return Answer(503)

    with back_end(refuse_once) as server:
        settings = {**SETTINGS, "PORTICO_WEBHOOK_URL": f"{server.url}/hook", "PORTICO_OFFLINE_SECONDS": "60"}
        with gateways.gateway(tmp_path, settings=settings) as running:
            client = register(running.websocket_url, "c1", "ann")
            told(server, 2)
        client.close()
        events = [json.loads(one.body) for one in server.asked]
        assert [event["event"] for event in events] == ["registered", "user_online", "left", "left"]
        assert events[3]["id"] == refused[0]
        assert "delivering the last events" in running.said()
