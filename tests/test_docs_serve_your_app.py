"""The apps of "Serve your own app", as they stand there, in a gateway that is started as it says."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.gateways import ROOT, Running, clean_environment, free_ports, gateway
from tests.test_docs_tutorial import node

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs/how-to/serve-your-app.md").read_text()
KEY = "a-key-of-sixteen-characters-or-more"


# A browser's part: two windows, each with a document of its own. Waiting before coming back is left out.
WINDOWS = """
import { readFileSync } from "node:fs";

const [base, session] = process.argv.slice(2);
const cookies = { value: session };
const show = globalThis.fetch;
const ask = async (path, options = {}) => {
  const answer = await show(base + path, { redirect: "manual", ...options, headers: { cookie: cookies.value } });
  for (const made of answer.headers.getSetCookie()) cookies.value = made.split(";")[0];
  return answer;
};

const codes = [];
const sockets = [];
let registered = 0;
class Socket extends WebSocket {
  constructor(url) {
    super(url);
    sockets.push(this);
    this.addEventListener("message", ({ data }) => { registered += JSON.parse(data).type === "registration_success"; });
    this.addEventListener("close", ({ code }) => codes.push(code));
  }
}
const windows = [0, 1].map(() => {
  const parts = { "#cart": { textContent: 0 }, form: {} };
  const names = ["document", "location", "fetch", "WebSocket", "setTimeout"];
  const soon = (task) => setTimeout(task, 10);
  new Function(...names, readFileSync("live.js", "utf8"))(
    { querySelector: (name) => parts[name] }, { origin: base }, ask, Socket, soon);
  return parts;
});
const until = async (holds) => {
  for (const end = Date.now() + 60_000; !holds() && Date.now() < end; ) await new Promise((go) => setTimeout(go, 20));
};
const shown = () => windows.map((parts) => parts["#cart"].textContent).join(" ");
const buy = (items) => {
  windows[0].form.onsubmit({ preventDefault() {} });
  return until(() => windows.every((parts) => parts["#cart"].textContent === items));
};

await until(() => registered === 2);
await buy(1);
console.log(shown());

// Each loses its connection, as when a token ends, and has to come back.
for (const socket of sockets) socket.close();
await until(() => registered === 4);
await buy(2);
console.log(shown());

codes.length = 0;
await ask("/logout", { method: "POST" });
await until(() => codes.length === 2);
console.log("closed by " + codes.join(", "));
process.exit(0);
"""


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
        # Its page, in two windows: each changes by a push, comes back after a loss, and stays away after a log-out.
        browser.cookies.clear()
        browser.post("/login", data={"user_id": "bob"})
        assert windows(tmp_path, running, browser) == ["1 1", "2 2", "closed by 4010, 4010"]


def windows(folder: Path, running: Running, browser: httpx.Client) -> list[str]:
    """What live.js does in two windows of a browser that is logged in as bob."""
    (folder / "live.js").write_text(browser.get("/live.js").text)
    (folder / "windows.mjs").write_text(WINDOWS)
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    command = [*node(folder / "windows.mjs"), running.base_url, cookie]
    ended = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.splitlines()


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
