"""The page in a real browser, against real gateways."""

import json
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from portico.wire.codes import Advice, CloseCode
from tests.gateways import BIN, MODES, Running, clean_environment, gateway

from .conftest import Start, Tab

pytestmark = [pytest.mark.live, pytest.mark.browser]

KEY = "a-key-of-the-shop-0123456789"
PRODUCTION = {"ENVIRONMENT": "production", "PORTICO_API_KEYS": KEY, "PORTICO_DRAIN_SECONDS": "0.2"}
HOSTILE = {
    "html": "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>",
    "turned": "annexe\u202egnp.exe\u2066\u200f",
    "hebrew": "שלום",
    "long": "x" * 10_000,
}


@pytest.fixture
def portico(shared: Start) -> Running:
    """A gateway in development; one for all tests that don't end it."""
    return shared()


def push(running: Running, **event: Any) -> dict[str, Any]:
    """A push by a back end."""
    answer = httpx.post(f"{running.base_url}/api/notifications", json=event, headers={"authorization": f"Bearer {KEY}"})
    assert answer.status_code == 202, answer.text
    receipt: dict[str, Any] = answer.json()
    return receipt


def received(page: Page, kind: str) -> Any:
    """The rows of the log with received frames of a type."""
    return page.locator("#log li.in").filter(has=page.get_by_text(kind, exact=True))


@contextmanager
def worker(running: Running, name: str) -> Iterator[None]:
    """`portico worker`, once it serves."""
    process = subprocess.Popen(
        [str(BIN / "portico"), "worker", "--base-url", running.base_url, "--name", name],
        env=clean_environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while name not in httpx.get(f"{running.base_url}/api/workers").text:
            assert process.poll() is None, "the worker ended"
            assert time.monotonic() < deadline
            time.sleep(0.1)  # there is no event for another process being ready
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("mode", MODES)
def test_a_client_registers_and_gets_pushes_of_the_form_and_of_a_back_end(shared: Start, tab: Tab, mode: str) -> None:
    running = shared(mode=mode)
    page = tab.page
    tab.open(running.base_url)
    info = httpx.get(f"{running.base_url}/api/b-client/websocket-info").json()
    expect(page.locator("#websocket-address")).to_have_text(info["websocket_url"])
    expect(page.locator("#http-address")).to_have_text(running.base_url)
    expect(page.locator("#environment")).to_have_text("development")
    expect(page.locator("#key-field")).to_be_hidden()

    tab.register(client_id="c-page", user_id="ann")
    expect(page.locator("#client-state")).to_have_text("Registered as c-page")
    expect(received(page, "registration_success")).to_have_count(1)
    expect(page.locator("#push-value")).to_have_value("ann")
    page.get_by_label("Data, a JSON object").fill('{"items": 12345678901234567890}')
    page.get_by_role("button", name="Push").click()
    expect(page.locator("#push-result")).to_contain_text("Accepted: 1 connection matched, 1 queued.")
    # As it was typed: no rounding on the way.
    expect(received(page, "cart_updated")).to_contain_text('"items":12345678901234567890')

    assert push(running, target={"client_id": "c-page"}, type="from_outside", data={"n": 1})["queued"] == 1
    expect(received(page, "from_outside")).to_contain_text('{"type":"from_outside","n":1}')
    expect(page.locator("#log li").first).to_contain_text("from_outside")

    page.get_by_role("button", name="Heartbeat").click()
    expect(received(page, "heartbeat")).to_have_count(1)
    # The live figures follow.
    expect(page.locator("#figure-total")).to_have_text("1")
    expect(page.locator("#figure-registered")).to_have_text("1")
    expect(page.locator("#dialects li")).to_have_text("C-Client1")

    page.get_by_role("button", name="Disconnect").click()
    expect(page.locator("#client-state")).to_contain_text("Not connected")
    expect(page.locator("#close-code")).to_have_text("1000")
    expect(page.locator("#figure-total")).to_have_text("0")


def test_a_client_becomes_another_on_the_same_connection(portico: Running, tab: Tab) -> None:
    page = tab.page
    tab.open(portico.base_url)
    tab.register(client_id="c1", user_id="ann")
    page.get_by_role("textbox", name="user_id").fill("bob")
    page.get_by_text("More addresses for pushes").click()
    page.get_by_role("textbox", name="channel_id").fill("news")
    page.get_by_role("button", name="Register again").click()
    expect(received(page, "registration_success")).to_have_count(2)
    assert push(portico, target={"user_id": "ann"}, type="t")["matched"] == 0
    assert push(portico, target={"channel_id": "news"}, type="t")["matched"] == 1
    # What is too long is sent as it is: it is for the gateway to say so.
    page.get_by_role("textbox", name="client_id").fill("c" * 129)
    page.get_by_role("button", name="Register again").click()
    expect(received(page, "registration_rejected")).to_have_count(1)
    expect(page.locator("#client-state")).to_contain_text("Rejected: The field 'client_id'")
    page.get_by_role("textbox", name="client_id").fill("😀" * 128)
    page.get_by_role("button", name="Register again").click()
    expect(received(page, "registration_success")).to_have_count(3)


def test_what_is_hostile_is_only_text(portico: Running, tab: Tab) -> None:
    page = tab.page
    tab.open(portico.base_url)
    tab.register(user_id="u1")
    title = page.title()
    markup = "<img src=x onerror=document.title='owned'>"
    assert push(portico, target={"user_id": "u1"}, type=markup, data=HOSTILE)["queued"] == 1
    row = received(page, markup)
    expect(row).to_have_count(1)
    expect(row.locator("pre")).to_contain_text("<script>document.title=")
    expect(row.locator("pre")).to_contain_text("annexe\\u202egnp.exe\\u2066\\u200f")
    expect(row.locator("pre")).to_contain_text("שלום")
    expect(row.locator("pre")).to_contain_text("x" * 10_000)
    assert row.locator("img, script").count() == 0
    assert page.title() == title
    # Ten kilobytes in one word widen nothing, and scroll in their own box, by keyboard too.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = row.locator("pre").bounding_box()
    assert box is not None
    assert box["height"] < 400
    assert row.locator("pre").get_attribute("tabindex") == "0"


def test_the_log_keeps_the_last_200_frames(portico: Running, tab: Tab) -> None:
    page = tab.page
    tab.open(portico.base_url)
    tab.register(user_id="u1")
    sizes = [*[100] * 249, 20_000]
    events = [
        {"target": {"user_id": "u1"}, "type": f"event-{number}", "data": {"long": "y" * size}}
        for number, size in enumerate(sizes)
    ]
    receipts = httpx.post(f"{portico.base_url}/api/notifications", json=events).json()
    assert [receipt["queued"] for receipt in receipts] == [1] * 250
    expect(page.locator("#log li").first).to_contain_text("event-249")
    assert page.locator("#log li").count() == 200
    expect(page.locator("#log li").last).to_contain_text("event-50")
    expect(page.locator("#log li").first).to_contain_text("characters more")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#log li")).to_have_count(0)
    expect(page.get_by_text("Nothing yet.")).to_be_visible()


def test_the_workers_are_asked(portico: Running, tab: Tab) -> None:
    page = tab.page
    tab.open(portico.base_url)
    ask, result = page.get_by_role("button", name="Ask"), page.locator("#ask-result")
    ask.click()
    expect(result).to_contain_text("Failed: No available workers")
    expect(result).to_contain_text(f"portico worker --base-url {portico.base_url}")
    with worker(portico, "worker-of-the-test"):
        ask.click()
        expect(result).to_contain_text("Answered by worker-of-the-test in")
        expect(result.locator("pre")).to_have_text('"Echo: Hello World"')
        page.get_by_label("Command").fill("calculate")
        ask.click()
        expect(result.locator("pre")).to_have_text("30")
        page.get_by_label("Data, any JSON").fill('{"a": 1, "b": 0, "op": "/"}')
        ask.click()
        expect(result).to_have_text("Failed by worker-of-the-test: Division by zero.")
        page.get_by_label("Data, any JSON").fill("{")
        ask.click()
        expect(result).to_contain_text("The data is no JSON")
        expect(page.locator("#figure-workers")).to_have_text("1")


def test_what_is_wrong_is_said_in_a_sentence(portico: Running, tab: Tab) -> None:
    page = tab.page
    tab.open(portico.base_url)
    data, result = page.get_by_label("Data, a JSON object"), page.locator("#push-result")
    send = page.get_by_role("button", name="Push")
    data.fill("[1]")
    send.click()
    expect(result).to_have_text('The data must be a JSON object, such as {"items": 3}.')
    data.fill("{")
    send.click()
    expect(result).to_contain_text("The data is no JSON: ")
    data.fill("{}")
    page.locator("#push-value").fill("")
    send.click()
    expect(result).to_contain_text("The field 'target.user_id'")
    assert len(tab.complaints) == 1  # the browser's own line about a 400
    tab.complaints.clear()
    page.locator("#push-value").fill("nobody")
    send.click()
    expect(result).to_contain_text("Accepted, but nobody who is connected belongs to this target.")
    page.get_by_label("Target").select_option("all")
    expect(page.locator("#push-value")).to_be_disabled()


def test_the_curl_line_does_what_the_form_does(portico: Running, tab: Tab) -> None:
    page = tab.page
    tab.open(portico.base_url)
    tab.register(user_id="it's $HOME `id` \\")
    page.get_by_label("Type").fill("quo'ted!")
    page.get_by_label("Data, a JSON object").fill('{"text": "it\'s \\"so\\" $(id)"}')
    line = page.locator("#curl").text_content()
    assert line is not None
    words = shlex.split(line.replace("\\\n", " "))
    assert words[:4] == ["curl", "-X", "POST", f"{portico.base_url}/api/notifications"]
    body = json.loads(words[words.index("-d") + 1])
    assert body == {
        "target": {"user_id": "it's $HOME `id` \\"},
        "type": "quo'ted!",
        "data": {"text": 'it\'s "so" $(id)'},
    }
    assert push(portico, **body)["queued"] == 1
    expect(received(page, "quo'ted!")).to_have_count(1)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == line


@pytest.mark.parametrize("mode", MODES)
def test_a_restarting_gateway_is_waited_for(tmp_path: Path, start: Start, tab: Tab, mode: str) -> None:
    page = tab.page
    with gateway(tmp_path, mode=mode, settings={"PORTICO_DRAIN_SECONDS": "0.4"}) as running:
        port, websocket = (int(url.rpartition(":")[2]) for url in (running.base_url, running.websocket_url))
        tab.open(running.base_url)
        tab.register(client_id="c1", user_id="ann")
    # The gateway was told to end, and has ended.
    expect(page.locator("#close-code")).to_have_text("1012")
    expect(page.locator("#closing")).to_contain_text("the node is restarting (retry_within_ms=400).")
    expect(page.locator("#closing")).to_contain_text("at a random moment within 0.4 s")
    expect(received(page, "server_draining")).to_have_count(1)
    expect(page.locator("#readiness")).to_have_text("Not reachable")
    expect(page.locator("#notice")).to_contain_text("is it running?")
    expect(page.locator("#figure-total")).to_have_text("–")
    page.get_by_role("button", name="Push").click()
    expect(page.locator("#push-result")).to_contain_text("The gateway cannot be reached at")
    # By chance the page might wait half a minute for its next attempt.
    page.evaluate("Math.random = () => 0.05")
    page.get_by_role("button", name="Connect now").click()
    expect(page.locator("#client-state")).to_contain_text("Reconnecting")
    again: dict[str, object] = {} if mode == "integrated" else {"WEBSOCKET_PORT": websocket}
    running = start(mode=mode, port=port, settings=again)
    # By itself, after the attempt that was asked for had failed.
    expect(page.locator("#client-state")).to_contain_text("Registered as c1")
    expect(page.locator("#readiness")).to_have_text("Ready")
    expect(page.locator("#notice")).to_be_hidden()
    assert push(running, target={"user_id": "ann"}, type="after")["queued"] == 1
    expect(received(page, "after")).to_have_count(1)
    # The browser's own lines, of calls that nobody answered.
    assert all("Failed to load resource" in line or "WebSocket" in line for line in tab.complaints), tab.complaints
    tab.complaints.clear()


def test_a_client_that_is_kicked_or_replaced_stays_away(portico: Running, tab: Tab) -> None:
    page = tab.page
    tab.open(portico.base_url)
    tab.register(client_id="c1")
    assert httpx.delete(f"{portico.base_url}/api/clients/c1").json()["kicked"] == 1
    expect(page.locator("#close-code")).to_have_text("4010")
    expect(page.locator("#closing")).to_contain_text("kicked")
    expect(page.locator("#closing")).to_contain_text("should not come back")
    expect(page.locator("#client-state")).to_contain_text("Not connected")
    expect(page.get_by_role("button", name="Connect", exact=True)).to_be_enabled()
    assert httpx.get(f"{portico.base_url}/api/c-client/status").json()["total"] == 0


def test_production_wants_the_key_and_keeps_it_nowhere(shared: Start, tab: Tab) -> None:
    running = shared(settings=PRODUCTION)
    page = tab.page
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.url} {request.headers.get('authorization', '')}"))
    tab.open(running.base_url)
    tab.register(user_id="u1")
    key, result = page.get_by_label("API key"), page.locator("#push-result")
    send = page.get_by_role("button", name="Push")
    expect(key).to_be_visible()
    for given in ("", "wrong"):
        key.fill(given)
        send.click()
        expect(result).to_contain_text("Send an API key" if not given else "This is not one of the API keys")
        expect(key).to_be_focused()
    assert ["401" in line for line in tab.complaints] == [True, True]
    tab.complaints.clear()
    key.fill(KEY)
    key.press("Enter")
    expect(result).to_contain_text("Accepted: 1 connection matched")
    expect(received(page, "cart_updated")).to_have_count(1)
    assert KEY not in (page.locator("#curl").text_content() or "")
    expect(page.locator("#curl")).to_contain_text("Authorization: Bearer $PORTICO_API_KEY")
    assert all(KEY not in line or line.endswith(f"/api/notifications Bearer {KEY}") for line in sent)
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    page.reload()
    expect(page.locator("#readiness")).to_have_text("Ready")
    assert key.input_value() == ""
    assert KEY not in running.said()


class _Foreign(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><link rel=icon href='data:,'><title>elsewhere</title>")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def foreign_site() -> Iterator[str]:
    """A web site on another host than any gateway here."""
    with ThreadingHTTPServer(("127.0.0.2", 0), _Foreign) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.2:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


TRY = """async ([socket, api]) => {
  const opened = new Promise(resolve => {
    const link = new WebSocket(socket);
    link.onopen = () => resolve("open");
    link.onclose = ({code}) => resolve(`closed ${code}`);
  });
  const read = fetch(api).then(answer => answer.text()).catch(() => "unreadable");
  return [await opened, await read];
}"""


@pytest.mark.parametrize("mode", MODES)
def test_pages_of_another_origin_are_refused_in_production(shared: Start, tab: Tab, mode: str) -> None:
    api = "/api/b-client/websocket-info"
    with foreign_site() as site:
        listed = {"PORTICO_ALLOWED_ORIGINS": site}
        for settings in (PRODUCTION, {**PRODUCTION, **listed}):
            running = shared(mode=mode, settings=settings)
            tab.page.goto(site)
            opened, read = tab.page.evaluate(TRY, [running.websocket_url, running.base_url + api])
            if settings is PRODUCTION:
                assert (opened, read) == ("closed 1006", "unreadable")
                assert any("WebSocket" in line and "403" in line for line in tab.complaints), tab.complaints
                tab.complaints.clear()
            else:
                assert opened == "open"
                assert "websocket_url" in read


def test_the_policy_lets_nothing_else_run_or_load(portico: Running, tab: Tab) -> None:
    page = tab.page
    tab.open(portico.base_url)
    violated = page.evaluate(
        """async () => {
          const seen = [];
          document.addEventListener("securitypolicyviolation", event => seen.push(event.effectiveDirective));
          const tries = [
            () => { document.body.innerHTML = "<p>"; },
            () => { document.createElement("script").text = "document.title = 1"; },
            () => { new Image().src = "http://127.0.0.2:9/x.png"; },
            () => { new WebSocket("ws://127.0.0.2:9/"); },
            () => fetch("http://127.0.0.2:9/").catch(() => {}),
          ];
          for (const attempt of tries) { try { await attempt(); } catch { /* refused */ } }
          while (seen.length < 5) await new Promise(resolve => setTimeout(resolve, 20));
          return seen.sort();
        }"""
    )
    assert set(violated) == {"require-trusted-types-for", "img-src", "connect-src"}
    assert page.title() == "Portico"
    expect(page.locator("#notice")).to_contain_text("reload this page")
    tab.complaints.clear()


def has_ipv6() -> bool:
    """Whether this machine has a loopback address of IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("mode", MODES)
def test_the_page_may_connect_where_csp_cannot_name_the_host(start: Start, tab: Tab, mode: str) -> None:
    running = start(mode=mode, host="::1")
    tab.open(running.base_url)
    tab.register(client_id="six")
    shown = tab.page.locator("#websocket-address")
    expect(shown).to_contain_text(running.websocket_url)


def test_figures_are_not_asked_for_while_nobody_looks(portico: Running, tab: Tab) -> None:
    page = tab.page
    page.clock.install()
    tab.open(portico.base_url)
    asked: list[str] = []
    with page.expect_request("**/api/c-client/status"):
        pass  # it looks again by itself
    hide = """hidden => {
      Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.wait_for_load_state("networkidle")
    page.evaluate(hide, True)
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(60_000)  # thirty looks
    page.evaluate("fetch('/livez')")  # what was asked before this is known by now
    assert [url for url in asked if not url.endswith("/livez")] == []
    with page.expect_request("**/api/c-client/status"):
        page.evaluate(hide, False)


def test_the_close_codes_are_those_of_the_gateway(portico: Running, tab: Tab) -> None:
    tab.open(portico.base_url)
    codes, waits = tab.page.evaluate(
        """async () => {
          const {CLOSE_CODES, delay} = await import("/pages/closing.js");
          const waits = [
            [1012, "retry_within_ms=20000", 1], [1012, "", 3],
            [1006, "", 1], [1006, "", 99], [4010, "", 1], [3999, "", 2],
          ];
          return [CLOSE_CODES, waits.map(([code, reason, failures]) => delay(code, reason, failures, () => 0.5))];
        }"""
    )
    back = {Advice.NO: "no", Advice.SPREAD: "spread"}
    assert {int(number): tuple(said) for number, said in codes.items()} == {
        int(code): (code.meaning, back.get(code.advice, "yes")) for code in CloseCode
    }
    assert waits == [10_000, 1000, 250, 15_000, None, 500]
