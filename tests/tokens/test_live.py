"""Tokens against a real gateway: production, required, by a shared secret and by a file of keys that is rotated."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from portico import Client, ClientError, Identity, SentAway
from tests import gateways

from .signing import SECRET, public_pem, token

pytestmark = pytest.mark.live

UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
KEY = "an-api-key-of-this-test-0123456789"


async def ask(socket: WebSocketConnection, message: dict[str, Any]) -> dict[str, Any]:
    await socket.send_message(json.dumps(message))
    with trio.fail_after(10):
        found: dict[str, Any] = json.loads(await socket.get_message())
    return found


def register(**fields: Any) -> dict[str, Any]:
    return {"type": "c_client_register", "client_id": "c1", **fields}


async def test_a_shared_secret_in_production(tmp_path: Path) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "PORTICO_AUTH": "required",
        "PORTICO_JWT_SECRET": SECRET,
        "PORTICO_API_KEYS": KEY,
        "PORTICO_LOG_LEVEL": "debug",
    }
    now = time.time()
    ann = token(sub="ann", exp=now + 60)
    with gateways.gateway(tmp_path, settings=settings) as running:
        url = running.websocket_url
        async with open_websocket_url(f"{url}/ws?token={ann}") as socket:
            answer = await ask(socket, register())
            assert (answer["user_id"], answer["expires_at"]) == ("ann", now + 60)
            refreshed = await ask(socket, {"type": "token_refresh", "token": token(sub="ann", exp=now + 90)})
            assert refreshed == {"type": "token_refresh", "expires_at": now + 90}
            pushed = {"target": {"user_id": "ann"}, "type": "hello"}
            async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as http:
                receipt = await http.post(f"{running.base_url}/api/notifications", json=pushed)
            assert receipt.json()["queued"] == 1
            with trio.fail_after(10):
                assert json.loads(await socket.get_message())["type"] == "hello"
        async with Client(url=url, identity=Identity("c4"), token=token(sub="cleo", exp=now + 60)) as client:
            async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as http:
                made = await http.post(f"{running.base_url}/api/revocations", json={"user_id": "cleo", "ttl": 60})
            assert made.status_code == 201
            with trio.fail_after(30), pytest.raises(SentAway) as caught:
                await anext(client)
            assert caught.value.code == 4001
        with pytest.raises(ClientError):
            async with Client(url=url, identity=Identity("c4"), token=token(sub="cleo", exp=now + 70)):
                pass
        for identity, shown in [(Identity("c2", "ann"), None), (Identity("c2", "bob"), ann)]:
            with pytest.raises(ClientError):
                async with Client(url=url, identity=identity, token=shown):
                    pass
        async with Client(url=url, identity=Identity("c3"), token=ann) as client:
            assert client.registration["user_id"] == "ann"
        for path in ("/requester", "/ws/ann", f"/ws?token={token(sub='ann', exp=now - 60)}"):
            async with httpx.AsyncClient() as http:
                rejected = await http.get(url.replace("ws:", "http:") + path, headers=UPGRADE)
            assert rejected.status_code == 401
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"{running.base_url}/metrics")).text
        assert 'portico_proofs_refused_total{cause="expired"} 1.0' in metrics
        # Not in a line of the log, whatever its level.
        assert ann.split(".")[2] not in running.said()
        assert SECRET not in running.said()


async def test_keys_in_a_file_are_rotated_while_clients_come(tmp_path: Path) -> None:
    keys = tmp_path / "keys.pem"
    keys.write_bytes(public_pem("ES256"))
    settings = {"PORTICO_AUTH": "required", "PORTICO_JWT_PUBLIC_KEYS": str(keys)}
    end = time.time() + 60
    with gateways.gateway(tmp_path, settings=settings) as running:

        async def comes_in(kind: str) -> bool:
            headers = {**UPGRADE, "host": "localhost", "authorization": f"Bearer {token(kind, exp=end)}"}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            port = int(running.websocket_url.rpartition(":")[2])
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(f"GET /ws HTTP/1.1\r\n{lines}\r\n".encode())
                return (await stream.receive_some()).startswith(b"HTTP/1.1 101")

        assert await comes_in("ES256")
        assert not await comes_in("Ed25519")
        keys.write_bytes(public_pem("ES256") + public_pem("Ed25519"))
        with trio.fail_after(20):
            while not await comes_in("Ed25519"):
                assert await comes_in("ES256")  # there is no gap
        keys.write_bytes(public_pem("Ed25519"))
        with trio.fail_after(20):
            while await comes_in("ES256"):
                assert await comes_in("Ed25519")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"PORTICO_JWT_SECRET": "short"}, "PORTICO_JWT_SECRET: A shared secret for tokens needs at least 32 bytes"),
        ({"PORTICO_JWT_PUBLIC_KEYS": "/nowhere/keys.pem"}, "PORTICO_JWT_PUBLIC_KEYS: The file cannot be read"),
    ],
)
def test_keys_that_cannot_be_used_are_said_at_start(tmp_path: Path, settings: dict[str, str], sentence: str) -> None:
    with (
        pytest.raises(RuntimeError, match=sentence.replace("(", r"\(")),
        gateways.gateway(tmp_path, settings={"PORTICO_AUTH": "required", **settings}),
    ):
        pass
