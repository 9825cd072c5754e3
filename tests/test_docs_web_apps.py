"""The web apps of "Push to the users of a web app", as they stand there: a user gets a token, and by it her pushes."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.gateways import ROOT, Running, gateway
from tests.test_docs_tutorial import NODE, node

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs/how-to/push-to-web-users.md").read_text()
KEY = "a-key-of-sixteen-characters-or-more"
SECRET = "a-secret-that-only-the-app-and-the-gateway-know"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {
        "ENVIRONMENT": "production",
        "PORTICO_AUTH": "required",
        "PORTICO_JWT_SECRET": SECRET,
        "PORTICO_API_KEYS": KEY,
    }
    with gateway(tmp_path_factory.mktemp("gateway"), mode="integrated", settings=settings) as gate:
        yield gate


@pytest.fixture
def example(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of an example, by its name."""
    monkeypatch.setenv("GATEWAY_URL", running.base_url)
    monkeypatch.setenv("GATEWAY_API_KEY", KEY)
    monkeypatch.setenv("PORTICO_JWT_SECRET", SECRET)
    monkeypatch.setenv("SESSION_KEY", "of-the-app-alone")

    def load(name: str) -> ModuleType:
        (code,) = re.findall(rf"```python\n(# {name}\.py\n.*?)```", PAGE, re.DOTALL)
        file = tmp_path / f"{name}.py"
        file.write_text(code)
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # FastAPI looks the types of a handler up where it says that it is from.
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@contextmanager
def registered(running: Running, token: str, **more: str) -> Iterator[ClientConnection]:
    """What the page does."""
    with connect(f"{running.websocket_url}/ws", proxy=None, open_timeout=30) as client:
        client.send(json.dumps({"type": "c_client_register", "token": token, **more}))
        answer = json.loads(client.recv(30))
        assert (answer["type"], answer["user_id"]) == ("registration_success", "ann")
        yield client


def refused(running: Running, message: dict[str, str]) -> int | None:
    with connect(f"{running.websocket_url}/ws", proxy=None, open_timeout=30) as client:
        client.send(json.dumps({"type": "c_client_register", **message}))
        try:
            while True:
                client.recv(30)
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code


def test_flask(running: Running, example: Any) -> None:
    module = example("flask_app")
    browser = module.app.test_client()
    assert browser.get("/gateway-token").status_code == 401
    assert browser.post("/cart").status_code == 401
    with browser.session_transaction() as session:
        session["user_id"] = "ann"
    token = browser.get("/gateway-token").json["token"]
    with registered(running, token) as client:
        assert browser.post("/cart").json == {"connections": 1}
        assert json.loads(client.recv(30)) == {"type": "cart_updated", "items": 3}
        client.send(json.dumps({"type": "token_refresh", "token": browser.get("/gateway-token").json["token"]}))
        assert json.loads(client.recv(30))["type"] == "token_refresh"
    # Nobody is her without the token, and with it nobody is anybody else.
    assert refused(running, {"user_id": "ann"}) == 4001
    assert refused(running, {"user_id": "bob", "token": token}) == 4003
    module.portico.close()


async def test_fastapi(running: Running, example: Any) -> None:
    app = example("fastapi_app").app

    def log_in(request: Any) -> dict[str, str]:
        request.session["user_id"] = "ann"
        return {}

    log_in.__annotations__["request"] = sys.modules["fastapi_app"].Request
    app.get("/log-in")(log_in)  # of whoever has an app
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="https://shop.example.com", timeout=30) as browser,
    ):
        assert (await browser.get("/gateway-token")).status_code == 401
        assert (await browser.post("/cart")).status_code == 401
        await browser.get("/log-in")
        token = (await browser.get("/gateway-token")).json()["token"]
        with registered(running, token, client_id="page") as client:
            assert (await browser.post("/cart")).json() == {"connections": 1}
            assert json.loads(client.recv(30)) == {"type": "cart_updated", "items": 3}


# What a browser has, and the app: a token for each time that it is asked. Timers go off at once.
BROWSER = """
const tokens = JSON.parse(process.argv[2]);
globalThis.fetch = async (path) => ({ ok: tokens.length > 0, json: async () => ({ token: tokens.shift(), path }) });
const document = { querySelector: (id) => ({ set textContent(text) { console.log(`${id} ${text}`); } }) };
const later = setTimeout;
globalThis.setTimeout = (call) => later(call, 0);
globalThis.setInterval = (call) => (later(call, 0), 0);
globalThis.WebSocket = class extends WebSocket {
  send(text) {
    console.log(JSON.parse(text).type);
    super.send(text);
  }
  set onmessage(handle) {
    super.onmessage = (message) => {
      handle(message);
      if (JSON.parse(message.data).type === "token_refresh") console.log("refreshed");
      if (JSON.parse(message.data).type === "cart_updated") this.close();
    };
  }
};
"""


def test_the_page(running: Running, example: Any, tmp_path: Path) -> None:
    """It registers, shows a newer token, shows a push, comes back, and stays away once nobody is logged in."""
    if NODE is None:
        pytest.skip("Node is not installed, and the page's script runs in it")
    module = example("flask_app")
    browser = module.app.test_client()
    with browser.session_transaction() as session:
        session["user_id"] = "ann"
    tokens = [browser.get("/gateway-token").json["token"] for _ in range(4)]
    (script,) = re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL)
    assert script.count("ws://localhost:8766/ws") == 1
    (tmp_path / "page.mjs").write_text(BROWSER + script.replace("ws://localhost:8766", running.websocket_url))
    command = [*node(tmp_path / "page.mjs"), json.dumps(tokens)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout is not None
        try:
            for _ in range(2):
                said = [page.stdout.readline().strip() for _ in range(3)]
                assert said == ["c_client_register", "token_refresh", "refreshed"]
                assert browser.post("/cart").json["connections"] >= 1
                assert page.stdout.readline() == "#cart 3\n"
            assert page.stdout.read() == "", "no token, no more connections"
            assert page.wait(60) == 0
        finally:
            page.kill()
            module.portico.close()


@pytest.mark.parametrize("name", ["fastapi_app", "flask_app"])
def test_they_are_short(name: str) -> None:
    (code,) = re.findall(rf"```python\n# {name}\.py\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for line in code.splitlines() if line.strip() and "import" not in line]
    assert len(lines) <= 21
