"""What the page for streamed answers is told: who answers, where the socket is, what it must show."""

from typing import Any

import pytest

from service.http.streaming import NO_MODEL
from tests.core.connections.test_authentication import FakeTokens
from tests.fakes import Refused, stage

from .stage import OUTSIDE, SessionOwner, house, house_of

KEY = "an-api-key-of-this-test-0123456789"
PROTOCOLS = "portico.requester.v1, bearer.a.asks.c"


async def told(at: SessionOwner) -> dict[str, Any]:
    answer = await at.call("GET", "/streaming/info", peer=OUTSIDE)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


async def test_who_answers_is_looked_up_each_time() -> None:
    at = house()
    nobody = await told(at)
    assert nobody == {
        "chat": False,
        "echo": None,
        "model": None,
        "hint": NO_MODEL,
        "socket": "here",
        "access": "open",
        "access_hint": None,
        "client_access": "open",
        "timeout": 600,
    }
    # One that names nothing serves every command, but there's no knowing that it streams.
    everything, _ = at.stage.worker("w1")
    assert await told(at) == nobody
    at.stage.worker("w2", commands=["echo"])
    assert (await told(at))["echo"] == "echo"
    at.stage.worker("w3", commands=["streaming.echo"])
    model, _ = at.stage.worker("w4", commands=["chat", "other"])
    found = await told(at)
    assert (found["chat"], found["echo"], found["hint"]) == (True, "streaming.echo", None)
    model.closed(1006, "")
    assert (await told(at))["chat"] is False
    everything.closed(1006, "")


async def test_no_answer_takes_longer_than_the_gateway_lets_it() -> None:
    assert (await told(house(max_request_timeout=90.0)))["timeout"] == 90


async def test_where_the_socket_is() -> None:
    at = house()
    at.places.public_url = "wss://sockets.example.com/live"
    assert (await told(at))["socket"] == "elsewhere"
    at.places.public_url, at.places.takes_websockets = None, False
    assert (await told(at))["socket"] == "elsewhere"
    at.places.takes_websockets, at.places.draining = True, True
    assert (await told(at))["socket"] == "elsewhere"


@pytest.mark.parametrize(
    ("mode", "rules", "access", "bare", "with_token"),
    [
        ("off", {}, "open", True, True),
        ("off", {"production": True, "open_requesters": False}, "closed", False, False),
        ("off", {"production": True, "open_requesters": True}, "open", True, True),
        ("optional", {}, "optional", True, True),
        ("optional", {"production": True, "open_requesters": False}, "token", False, True),
        ("optional", {"production": True, "open_requesters": True}, "optional", True, True),
        ("required", {}, "token", False, True),
        ("required", {"production": True, "open_requesters": True}, "token", False, True),
    ],
)
async def test_what_a_page_must_show_is_what_the_door_wants(
    mode: str, rules: dict[str, Any], access: str, bare: bool, with_token: bool
) -> None:
    tokens = FakeTokens()
    tokens.make("asks", role="requester")
    proving = {} if mode == "off" else {"tokens": tokens}
    made = stage(authentication=mode, api_keys=(KEY,), **proving, **rules)
    found = await told(house_of(made))
    assert found["access"] == access
    assert (found["access_hint"] is None) == (access in ("open", "optional"))
    assert found["client_access"] == {"off": "open", "optional": "optional", "required": "token"}[mode]

    def comes_in(protocols: str) -> bool:
        try:
            made.connect("/api/websocket", headers={"sec-websocket-protocol": protocols})
        except Refused:
            return False
        return True

    assert comes_in("portico.requester.v1") == bare
    assert comes_in(PROTOCOLS) == with_token
