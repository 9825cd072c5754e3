"""What an anonymous connection gets in production with every secret set: nothing of anybody's.

Each attack is one that has worked. Against a real gateway under hypercorn, on the port that the front door serves and
on the reactor's own; ann is a user with a token, and a worker and a back end show their keys.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.fakes import handshake, refusal, stage
from tests.gateways import Running, gateway
from tests.tokens.signing import SECRET, token

LIMIT = 30.0
KEY = "an-api-key-of-this-test-0123456789"
HANDSHAKE = "a-handshake-key-of-this-test-01234"
BEARER = {"authorization": f"Bearer {KEY}"}
LOGIN = {"user_id": "ann", "username": "ann", "session_data": {"token": "the-login-secret"}}
SETTINGS = {
    "ENVIRONMENT": "production",
    "PORTICO_AUTH": "required",
    "PORTICO_JWT_SECRET": SECRET,
    "PORTICO_API_KEYS": KEY,
    "WEBSOCKET_HANDSHAKE_KEY": HANDSHAKE,
}


@pytest.fixture(scope="module")
def portico(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway(tmp_path_factory.mktemp("gateway"), server="hypercorn", settings=SETTINGS) as running:
        httpx.post(f"{running.base_url}/api/logins", json=LOGIN, headers=BEARER, trust_env=False).raise_for_status()
        yield running


@pytest.fixture(params=["front door", "native"])
def url(portico: Running, request: pytest.FixtureRequest) -> str:
    return portico.base_url.replace("http", "ws") if request.param == "front door" else portico.websocket_url


@contextmanager
def ann(url: str) -> Iterator[ClientConnection]:
    """Ann's own device, registered."""
    with connect(f"{url}/?token={token(sub='ann')}", proxy=None) as socket:
        say(socket, type="c_client_register", client_id="her-device", user_id="ann", node_id="n1")
        assert hear(socket)["type"] == "registration_success"
        assert hear(socket)["session_data"] == LOGIN["session_data"]
        yield socket


def say(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def hear(socket: ClientConnection) -> Any:
    return json.loads(socket.recv(LIMIT))


def last_words(url: str, **message: Any) -> tuple[list[Any], int | None]:
    """What somebody without any proof is told for one message, until the connection is closed."""
    told: list[Any] = []
    with connect(url, proxy=None) as socket:
        say(socket, **message)
        try:
            while True:
                told.append(hear(socket))
        except ConnectionClosed as end:
            return told, None if end.rcvd is None else end.rcvd.code


@pytest.mark.live
@pytest.mark.parametrize(
    "message",
    [
        {"type": "c_client_register", "client_id": "x", "user_id": "ann"},
        {"type": "c_client_register", "client_id": "x", "user_id": "nobody-of-this-name"},
        {"type": "c_client_register", "client_id": "her-device", "user_id": "ann", "node_id": "n1"},
        {"type": "c_client_register", "client_id": "x", "user_id": "ann", "resume": {"epoch": "", "offsets": {}}},
        {"type": "connect", "data": {"client_id": "x", "user_id": "ann"}},
        {"type": "connect", "data": {"client_id": "her-device", "role": "client"}},
        {"type": "connect", "data": {"client_id": "x", "role": "worker", "commands": ["echo"]}},
        {"type": "handshake", "data": {"handshake_key": ""}},
        {"type": "handshake", "data": {"handshake_key": "a-guess-of-a-handshake-key"}},
        {"request_id": "r", "command": "echo", "data": {}},
    ],
    ids=lambda message: json.dumps(message)[:80],
)
def test_nobody_becomes_anybody(url: str, message: dict[str, Any]) -> None:
    with ann(url) as hers:
        told, code = last_words(url, **message)
        assert code in (4001, 4003)
        assert len(told) == 1
        # Nothing in it says whether there is such a user, or anything of hers.
        assert "the-login-secret" not in json.dumps(told)
        assert "her-device" not in json.dumps([{**told[0], "client_id": None}])
        # Her own device stays.
        say(hers, type="heartbeat")
        assert hear(hers)["type"] == "heartbeat"


@pytest.mark.live
def test_a_user_that_exists_is_refused_as_one_that_does_not(url: str) -> None:
    with ann(url):
        refusals = [
            last_words(url, type="c_client_register", client_id="x", user_id=user)
            for user in ("ann", "nobody-so-named")
        ]
    (known, code), (unknown, other_code) = refusals
    assert code == other_code
    assert {**known[0], "user_id": None} == {**unknown[0], "user_id": None}


@pytest.mark.live
def test_what_needs_a_registration_is_done_for_nobody(url: str) -> None:
    with ann(url) as hers, connect(url, proxy=None) as stranger:
        say(stranger, type="session_feedback", session_id="s", success=True, message="m")
        assert hear(stranger)["type"] == "error"
        say(hers, type="heartbeat")
        assert hear(hers)["type"] == "heartbeat"
    for action in ("get_client_info", "echo", "get_time"):
        told, code = last_words(url, type="request", msg_id="m1", data={"action": action})
        assert ([message["type"] for message in told], code) == (["error"], 4001)


@pytest.mark.live
@pytest.mark.parametrize("path", ["/ws/ann", "/requester"])
def test_paths_for_those_who_are_known_are_shut(url: str, path: str) -> None:
    for bad in ("", f"?token={token(sub='bob') if path == '/ws/ann' else 'x'}", "?token=a.b.c"):
        with pytest.raises(InvalidStatus) as refused, connect(url + path + bad, proxy=None):
            pass
        assert refused.value.response.status_code in (401, 403)


@pytest.mark.live
def test_no_worker_without_its_key(url: str) -> None:
    with connect(f"{url}/worker", proxy=None) as stranger:
        assert hear(stranger)["type"] == "connect"
        say(stranger, type="connect", data={"role": "worker", "commands": ["echo"]})
        assert hear(stranger)["data"]["code"] == "unauthorized"
        with pytest.raises(ConnectionClosed) as end:
            stranger.recv(LIMIT)
        assert end.value.rcvd is not None
        assert end.value.rcvd.code == 4001


# Without PORTICO_AUTH=required existing programs register unproven in production; and that is all they do.


def test_commands_of_workers_are_for_those_who_prove_something() -> None:
    at = stage(production=True, api_keys=[KEY], handshake_key=HANDSHAKE, open_requesters=False)
    worker, peer = at.connect("/worker", headers=BEARER)
    at.say(worker, {"type": "connect", "data": {"role": "worker", "client_id": "w1", "commands": ["echo"]}})
    peer.take()
    stranger, _ = at.connect("/")
    at.ask(stranger, {"type": "connect", "data": {"client_id": "c1"}})
    (told,) = at.ask(stranger, {"type": "request", "msg_id": "m1", "data": {"action": "echo"}})
    assert (told["type"], told["data"]["code"]) == ("error", "forbidden")
    assert peer.take() == []
    assert not stranger.over
    # What the gateway answers by itself, of the asker and the totals, it goes on answering.
    (told,) = at.ask(
        stranger, {"type": "request", "msg_id": "m2", "data": {"action": "calculate", "params": {"a": 1, "b": 2}}}
    )
    assert told["data"]["result"] == 3
    program, _ = at.connect("/", headers=BEARER)
    assert at.ask(program, {"type": "request", "msg_id": "m3", "data": {"action": "echo"}}) == []
    assert [message["data"]["action"] for message in peer.take()] == ["echo"]


def test_where_the_operator_opens_them_they_are_open() -> None:
    at = stage(production=True, api_keys=[KEY], open_requesters=True)
    _, peer = at.connect("/worker", headers=BEARER)
    at.pass_time(1)
    peer.take()
    stranger, _ = at.connect("/")
    at.say(stranger, {"type": "request", "msg_id": "m1", "data": {"action": "echo"}})
    assert [message["data"]["action"] for message in peer.take()] == ["echo"]


def test_paths_are_shut() -> None:
    at = stage(production=True, api_keys=[KEY], open_requesters=False, open_users=False)
    for path in ("/ws/ann", "/requester"):
        assert refusal(at.gateway.admit(handshake(path)))[0] == 403


@pytest.mark.live
@pytest.mark.parametrize(
    "request_head",
    [
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET /livez HTTP/1.1\r\nHost: a\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: a\r\n",
        "GET /api/clients HTTP/1.1\r\nHost: a\r\n",
        "OPTIONS /api/clients HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n",
        "GET / HTTP/3.1\r\nHost: a\r\n",
        "NONSENSE\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n",
        "PRI * HTTP/2.0\r\n",
    ],
    ids=lambda head: head.split("\r")[0] + head[-22:].strip(),
)
def test_every_answer_says_that_it_is_what_its_type_says(url: str, request_head: str) -> None:
    parts = urlsplit(url)
    if "Upgrade" in request_head:
        request_head += (
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        )
    else:
        request_head += "Connection: close\r\n"
    with socket.create_connection((parts.hostname or "", parts.port or 0), LIMIT) as raw:
        raw.sendall(request_head.encode() + b"\r\n")
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert head.count(b"\r\nx-content-type-options: nosniff") == 1, answer[:300]


@pytest.mark.parametrize("form", ["handshake", "connect"])
@pytest.mark.parametrize("is_production", [True, False])
def test_a_worker_may_send_much_once_it_has_shown_its_secret(form: str, is_production: bool) -> None:
    at = stage(production=is_production, handshake_key=HANDSHAKE, max_message_size=1000, max_worker_message_size=5000)
    worker, peer = at.connect("/worker")
    assert peer.message_size is None  # it stays as the admission had it
    data = {"handshake_key": HANDSHAKE} if form == "handshake" else {"role": "worker", "token": HANDSHAKE}
    if not is_production:
        # In development it may be a worker without; large messages are for those who have shown it all the same.
        at.say(worker, {"type": "connect", "data": {"role": "worker"}})
        assert peer.message_size is None
    at.say(worker, {"type": form, "data": data})
    assert vars(peer)["message_size"] == 5000
    assert peer.closes == []


def test_where_there_is_no_secret_none_is_missed() -> None:
    at = stage(max_message_size=1000, max_worker_message_size=5000)
    _, peer = at.connect("/worker")
    assert peer.message_size == 5000
