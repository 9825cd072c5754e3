"""The pages while the deployment behind their address changes: it dies and comes back, moves to several processes and
back to one, or names a host to which they may not connect."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.backplane.redis_server import RedisServer
from tests.gateways import gateway
from tests.split.deployment import NodeProcess

from .conftest import Start, Tab
from .model import Model
from .talking import Talk, fresh_tab

pytestmark = [pytest.mark.live, pytest.mark.browser]


@pytest.fixture
def model() -> Model:
    return Model()


@dataclass
class Followers:
    """Both pages in tabs of their own, and the sockets that each has opened."""

    talking: Tab
    front: Tab
    sockets: list[str]
    front_sockets: list[str]

    def hurry(self) -> None:
        """By chance a page might wait longer than the test: half a minute, once many attempts have failed."""
        for tab in (self.talking, self.front):
            tab.page.evaluate("Math.random = () => 0.05")

    def came_to(self, where: str) -> None:
        """The front page's client is registered again, at this address, and the page says which it is."""
        expect(self.front.page.locator("#client-state")).to_have_text("Registered as c1")
        expect(self.front.page.locator("#websocket-address")).to_contain_text(where)
        expect(self.front.page.locator("#readiness")).to_have_text("Ready")
        assert where in self.front_sockets[-1]


@contextmanager
def followers(browser: Browser) -> Iterator[Followers]:
    """The two tabs."""
    with fresh_tab(browser) as talking, fresh_tab(browser) as front:
        found = Followers(talking, front, [], [])
        talking.page.on("websocket", lambda opened: found.sockets.append(opened.url))
        front.page.on("websocket", lambda opened: found.front_sockets.append(opened.url))
        yield found


def test_a_lost_connection_cuts_one_answer_and_the_pages_follow_a_move_to_several_processes_and_back(
    tmp_path: Path, browser: Browser, model: Model
) -> None:
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    api = NodeProcess(tmp_path, "api", "api", {"REDIS_URL": redis.url})
    node = NodeProcess(tmp_path, "ws-1", "websocket", {"REDIS_URL": redis.url})
    port = api.port
    here = f"ws://127.0.0.1:{port}/api/websocket"
    try:
        node.start()  # nobody is sent there before the API node is up
        with followers(browser) as following:
            page = following.talking.page
            model.pieces = ["Begun", None]
            with gateway(tmp_path, mode="integrated", port=port, exit_code=None) as first, model.at(first.worker_url):
                following.front.open(first.base_url)
                following.front.register(client_id="c1")
                talk = Talk(following.talking, first.base_url)
                talk.ask("Go")
                expect(talk.answer.locator(".markdown")).to_have_text("Begun")
                os.killpg(first.process.pid, signal.SIGKILL)
                talk.over("The answer was cut off.")
                expect(page.locator("#link-state")).to_contain_text("Reconnecting")
                expect(page.locator("#link-countdown")).to_contain_text("in ")
                following.hurry()
            talk.ask("And then?")
            expect(talk.answer.locator(".hint")).to_contain_text("Waiting for")
            model.pieces = ["Back."]
            with gateway(tmp_path, mode="integrated", port=port) as second, model.at(second.worker_url):
                talk.over()
                assert talk.texts() == ["Go", "Begun", "And then?", "Back."]
                following.came_to(here)
            assert set(following.sockets) == {here}
            api.start()
            for process in (node, api):
                process.wait_ready()
            with model.at(f"ws://127.0.0.1:{node.port}/worker"):
                talk.connected()
                assert following.sockets[-1].startswith(f"ws://127.0.0.1:{node.port}")
                talk.answer.get_by_role("button", name="Ask again").click()
                talk.over()
                assert talk.texts() == ["Go", "Begun", "And then?", "Back."]
                following.came_to(f"ws://127.0.0.1:{node.port}")
            for process in (node, api):
                assert process.end() == 0
            expect(page.locator("#link-state")).to_contain_text("Reconnecting")
            talk.ask("And back?")
            expect(talk.answer.locator(".hint")).to_contain_text("Waiting for")
            model.pieces = ["In one process."]
            with gateway(tmp_path, mode="integrated", port=port) as third, model.at(third.worker_url):
                talk.over()
                assert talk.texts() == ["Go", "Begun", "And then?", "Back.", "And back?", "In one process."]
                assert following.sockets[-1] == here
                following.came_to(here)
            assert len(model.asked) == 4
            # Nothing was asked for that a page may not connect to.
            for tab in (following.talking, following.front):
                assert [line for line in tab.complaints if "Security" in line] == []
    finally:
        for process in (api, node):
            process.kill()
        redis.kill()


def test_where_the_page_may_not_connect_it_is_loaded_anew_once(shared: Start, tab: Tab, model: Model) -> None:
    portico = shared(mode="integrated")
    page = tab.page
    loads: list[str] = []
    page.on("load", lambda loaded: loads.append(loaded.url))
    with model.at(portico.worker_url):
        talk = Talk(tab, portico.base_url)
        talk.ask("Go")
        talk.over()
        # The socket is elsewhere now: at a host that the policy of this page doesn't know, nor that of the next one.
        moved = {"websocket_url": portico.websocket_url.replace("127.0.0.1", "localhost") + "/api/websocket"}
        info = {**httpx.get(f"{portico.base_url}/streaming/info").json(), "socket": "elsewhere"}
        page.route("**/api/b-client/websocket-info", lambda route: route.fulfill(json=moved))
        page.route("**/streaming/info", lambda route: route.fulfill(json=info))
        page.locator("#message").fill("half a ques")
        with page.expect_event("load"):
            page.evaluate("dispatchEvent(new Event('pagehide'))")
            page.evaluate(
                """async () => { const { Requester } = await import("/pages/requester.js");
                const nobody = () => {};
                new Requester({state: nobody, info: nobody, answer: nobody, lost: nobody}).start(""); }"""
            )
        expect(page.locator("#notice")).to_contain_text("to which this page may not connect")
        assert len(loads) == 2
        assert talk.texts() == ["Go", "Hello there."]
        expect(page.locator("#message")).to_have_value("half a ques")
        # What was cut off by nothing but a reload of the page can go on once there is a way.
        page.unroute_all(behavior="wait")
        talk.ask("And now?")
        talk.over()
    assert all("Content Security Policy" in line for line in tab.complaints)
    tab.complaints.clear()
