"""Quotas as operators have them: two gateways over one Redis, and what clients and back ends are told."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.backplane.redis_server import redis_server
from tests.gateways import Running, gateway

pytestmark = pytest.mark.live

KEY = "a-key-of-sixteen-characters-or-more"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Running]]:
    folder = tmp_path_factory.mktemp("quotas")
    with redis_server(folder / "redis") as redis, ExitStack() as stack:
        running = []
        for name in ("one", "other"):
            (place := folder / name).mkdir()
            settings = {
                "REDIS_URL": redis.url,
                "PORTICO_API_KEYS": KEY,
                "PORTICO_QUOTAS": "messages/user=5,pushes/user=2,connections/user=2",
            }
            running.append(stack.enter_context(gateway(place, mode="integrated", settings=settings)))
        yield running


def register(stack: ExitStack, running: Running, user: str, client: str) -> ClientConnection:
    opened = stack.enter_context(connect(f"{running.websocket_url}/ws", proxy=None, open_timeout=30))
    opened.send(json.dumps({"type": "c_client_register", "client_id": client, "user_id": user}))
    return opened


def close_of(client: ClientConnection, seconds: float) -> tuple[int, str] | None:
    """What the Close says that comes within so long; None if there is none."""
    give_up = time.monotonic() + seconds
    try:
        while time.monotonic() < give_up:
            client.recv(max(0.0, give_up - time.monotonic()))
    except ConnectionClosed as closed:
        return (0, "") if closed.rcvd is None else (closed.rcvd.code, closed.rcvd.reason)
    except TimeoutError:
        pass
    return None


def test_messages_of_a_user(pair: list[Running]) -> None:
    with ExitStack() as stack:
        client = register(stack, pair[0], "ann", "c1")
        with suppress(ConnectionClosed):
            for _ in range(400):
                client.send('{"type": "heartbeat"}')
        told = close_of(client, 30)
    assert told is not None
    code, reason = told
    assert code == 4029
    assert reason.startswith("retry_within_ms=")


def test_pushes_to_a_user_are_refused_with_retry_after(pair: list[Running]) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=pair[0].base_url, headers=headers, trust_env=False, timeout=30) as http:
        body = {"target": {"user_id": "cleo"}, "type": "note", "data": {}}
        answers = [http.post("/api/notifications", json=body) for _ in range(40)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == 202
        assert refused
        assert int(refused[0].headers["retry-after"]) >= 1
        assert refused[0].json()["error"]["code"] == "rate_limited"
        batch = http.post("/api/notifications", json=[body] * 30)
        assert batch.status_code == 202, "an item of a batch that is refused doesn't hold up the others"
        assert any("error" in item for item in batch.json())
        assert "portico_quota_refused" in http.get("/metrics").text


def test_connections_of_a_user_over_both_nodes(pair: list[Running]) -> None:
    with ExitStack() as stack:
        clients = [register(stack, pair[number % 2], "dora", f"c{number}") for number in range(4)]
        # Two stay. Which, depends on which node settled first.
        closed: dict[int, tuple[int, str]] = {}
        give_up = time.monotonic() + 30
        while len(closed) < 2:
            assert time.monotonic() < give_up
            for number, client in enumerate(clients):
                if number not in closed and (told := close_of(client, 0.05)) is not None:
                    closed[number] = told
        assert set(closed.values()) == {(1013, "retry_within_ms=5000")}
        time.sleep(1.2)  # two settlings: nobody goes beyond those who are too many
        for number in {0, 1, 2, 3} - set(closed):
            clients[number].send('{"type": "heartbeat"}')
            while json.loads(clients[number].recv(30))["type"] != "heartbeat":
                pass
