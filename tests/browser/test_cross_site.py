"""What a web page of another site can do to a gateway that its visitor develops with: nothing.

In a real Chromium, whose resolver leads the attacker's name to this machine, so that it can also be rebound."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from websockets.sync.client import ClientConnection, connect

from tests.gateways import Running, gateway

from .conftest import CHROMIUM, FLAGS

pytestmark = [pytest.mark.live, pytest.mark.browser]

LIMIT = 30.0
KITTENS = "<title>kittens</title>"
ATTACK = """async ({http, sockets}) => {
    const seen = {};
    const attempt = async (name, path, how) => {
        try {
            const answer = await fetch(http + path, how);
            seen[name] = answer.type === "opaque" ? "opaque" : answer.status;
        } catch (error) { seen[name] = "blocked"; }
    };
    const push = JSON.stringify({target: {all: true}, type: "auto_login", data: {}});
    await attempt("read", "/api/clients", {});
    await attempt("workers", "/api/workers", {});
    await attempt("push", "/api/notifications", {method: "POST", body: push,
                                                 headers: {"content-type": "application/json"}});
    await attempt("push as text", "/api/notifications", {method: "POST", body: push, mode: "no-cors",
                                                         headers: {"content-type": "text/plain"}});
    await attempt("kick", "/api/clients/victim", {method: "DELETE"});
    const become = (name, url, first) => new Promise((done) => {
        const socket = new WebSocket(url);
        const told = [];
        socket.onopen = () => first && socket.send(JSON.stringify(first));
        socket.onmessage = (event) => told.push(JSON.parse(event.data));
        socket.onclose = (event) => { seen[name] = event.code; seen[name + " told"] = told; done(); };
        setTimeout(() => socket.close(), 5000);
    });
    for (const base of sockets) {
        await become("worker by path " + base, base + "/worker", null);
        await become("worker " + base, base + "/",
                     {type: "connect", data: {client_id: "evil", role: "worker", commands: ["echo"]}});
        await become("old worker " + base, base + "/", {type: "handshake", data: {handshake_key: ""}});
    }
    return seen;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium to which every name of the attacker's is this machine."""
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, rules])
        yield running
        running.close()


@pytest.fixture(scope="module")
def portico(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway in development, without keys."""
    with gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The attacker's own web server."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(KITTENS.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://evil.example:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def registered(running: Running) -> Iterator[ClientConnection]:
    """The victim: a client of the developer's."""
    with connect(running.websocket_url, proxy=None) as socket:
        socket.send(json.dumps({"type": "c_client_register", "client_id": "victim", "user_id": "ann"}))
        assert json.loads(socket.recv(LIMIT))["type"] == "registration_success"
        yield socket


@pytest.mark.parametrize("how", ["cross-site", "rebound"])
def test_a_page_of_another_site_takes_nothing(browser: Browser, portico: Running, site: str, how: str) -> None:
    rebound = portico.base_url.replace("127.0.0.1", "evil.example")
    sockets = [portico.websocket_url, portico.worker_url]
    if how == "rebound":
        sockets = [url.replace("127.0.0.1", "evil.example") for url in sockets]
    with registered(portico) as victim:
        page = browser.new_page()
        # Loaded while the name still led to the attacker's server, which has the same port.
        page.route(f"{rebound}/kittens", lambda route: route.fulfill(body=KITTENS, content_type="text/html"))
        page.goto(site if how == "cross-site" else f"{rebound}/kittens")
        http = portico.base_url if how == "cross-site" else rebound
        seen: dict[str, Any] = page.evaluate(ATTACK, {"http": http, "sockets": sockets})
        page.close()
        assert seen["read"] in (403, "blocked")
        assert seen["workers"] in (403, "blocked")
        assert seen["push"] in (403, "blocked")
        assert seen["push as text"] in (403, "opaque", "blocked")
        assert seen["kick"] in (403, "blocked")
        codes = {name: code for name, code in seen.items() if "worker" in name and "told" not in name}
        codes.pop("workers")
        assert set(codes.values()) <= {4003, 1006}, codes
        # Nothing of it had any effect.
        assert httpx.get(f"{portico.base_url}/api/workers", trust_env=False).json()["workers"] == []
        victim.send(json.dumps({"type": "heartbeat"}))
        assert json.loads(victim.recv(LIMIT))["type"] == "heartbeat"


def test_the_gateways_own_page_goes_on_working(browser: Browser, portico: Running) -> None:
    page = browser.new_page()
    page.goto(portico.base_url)
    expect(page.locator("#readiness")).to_have_text("Ready")
    with registered(portico):
        status = page.evaluate("() => fetch('/api/clients').then((answer) => answer.status)")
        assert status == 200
    page.close()


def test_a_page_of_another_port_of_this_machine_may_too(browser: Browser, portico: Running, site: str) -> None:
    page = browser.new_page()
    page.goto(site.replace("evil.example", "localhost"))
    clients = f"{portico.base_url}/api/clients"
    assert page.evaluate("(url) => fetch(url).then((answer) => answer.status)", clients) == 200
    page.close()
