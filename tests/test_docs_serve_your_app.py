"""The apps of "Serve your own app", as they stand there, in a gateway that is started as it says."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.gateways import ROOT, Running, free_ports, gateway

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs/how-to/serve-your-app.md").read_text()
KEY = "a-key-of-sixteen-characters-or-more"


@contextmanager
def serving(folder: Path, name: str, **settings: str) -> Iterator[Running]:
    (code,) = re.findall(rf"```python\n(# {name}\.py\n.*?)```", PAGE, re.DOTALL)
    (folder / f"{name}.py").write_text(code)
    port = free_ports(1)[0]
    environment = {
        "PORTICO_APP": f"{name}:app",
        "GATEWAY_URL": f"http://127.0.0.1:{port}",
        "GATEWAY_API_KEY": KEY,
        "PORTICO_API_KEYS": KEY,
        **settings,
    }
    with gateway(folder, mode="integrated", port=port, settings=environment) as running:
        yield running


@contextmanager
def registered(running: Running, **who: str) -> Iterator[ClientConnection]:
    with connect(f"{running.websocket_url}/ws", proxy=None, open_timeout=60) as client:
        client.send(json.dumps({"type": "c_client_register", **who}))
        assert json.loads(client.recv(60))["type"] == "registration_success"
        yield client


def test_flask(tmp_path: Path) -> None:
    secret = "a-secret-that-only-the-app-and-the-gateway-know"
    settings = {"SESSION_KEY": "of-the-app", "PORTICO_AUTH": "required", "PORTICO_JWT_SECRET": secret}
    with (
        serving(tmp_path, "shop", **settings) as running,
        httpx.Client(base_url=running.base_url, trust_env=False, timeout=60, follow_redirects=True) as browser,
    ):
        assert "Log in" in browser.get("/").text
        assert browser.get("/gateway-token").status_code == 401
        assert "Buy" in browser.post("/login", data={"user_id": "ann"}).text
        assert "c_client_register" in browser.get("/live.js").text
        with registered(running, **browser.get("/gateway-token").json()) as page:
            for items in (1, 2):
                assert "Buy" in browser.post("/cart").text
                assert json.loads(page.recv(60)) == {"type": "cart_updated", "items": items}
            # A page that is loaded anew shows what the pushes said.
            assert '<p id="cart">2</p>' in browser.get("/").text
            assert "Log in" in browser.post("/logout").text
            with pytest.raises(ConnectionClosed) as closed:
                page.recv(60)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4010
        assert browser.post("/cart").status_code == 401


def test_fastapi(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "shop_api") as running,
        httpx.Client(base_url=running.base_url, trust_env=False, timeout=60) as caller,
    ):
        assert caller.get("/").json() == {"hello": "world"}
        assert "/cart/{user_id}" in caller.get("/shop/openapi.json").json()["paths"]
        assert "/api/notifications" in caller.get("/openapi.json").json()["paths"]
        with registered(running, client_id="page", user_id="ann") as page:
            assert caller.post("/cart/ann").json() == {"connections": 1}
            assert json.loads(page.recv(60)) == {"type": "cart_updated", "items": 3}
        with connect(f"{running.websocket_url}/chat", proxy=None, open_timeout=60) as chat:
            chat.send("hello")
            assert chat.recv(60) == "HELLO"
    assert "never reached" not in running.said()
