"""The whole way in a real browser: the page, the gateway's own `chat`, and an API like OpenAI's, with its faults.

What the first word of a question names is what the API does (`tests.chat.little_api`)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, expect

from tests.chat.little_api import LittleApi, little_api
from tests.gateways import Running, gateway

from .model import LIMIT
from .talking import Talk, fresh_tab

pytestmark = [pytest.mark.live, pytest.mark.browser]

KEY: Final = "sk-a-key-of-this-test-0123456789"
FAULTS: Final = (
    # (what the API does, what had come before, what is said)
    ("bad_key", "", "set OPEN_API_KEY to one that it knows"),
    ("busy 20", "", "The model's API is busy: try again in 20 s."),
    ("broken", "", "has a problem (HTTP 502): try again later."),
    ("unknown_model", "", "set PORTICO_CHAT_MODEL to one that it has."),
    ("stalls", "And then", "nothing more came from the model's API for 1 s."),
    ("cut", "And th", "The answer broke off"),
    ("malformed", "Well", "check that OPEN_API_BASE_URL leads to an API like OpenAI's."),
    ("no_http", "", "sent what is no HTTP"),
)


@contextmanager
def deployment(folder: Path) -> Iterator[tuple[Running, LittleApi]]:
    """A gateway with a key, and its API."""
    with little_api() as api:
        settings = {"OPEN_API_KEY": KEY, "OPEN_API_BASE_URL": api.base_url, "PORTICO_CHAT_STALL_TIMEOUT": 1}
        with gateway(folder, settings=settings) as running:
            yield running, api


def test_a_conversation_with_a_model_and_all_that_can_go_wrong(tmp_path: Path, browser: Browser) -> None:
    with deployment(tmp_path) as (running, api), fresh_tab(browser) as tab:
        talk = Talk(tab, running.base_url)
        page = tab.page
        talk.ask("hello")
        talk.over()
        expect(talk.answer.locator(".markdown")).to_have_text("Hello world")
        expect(talk.answer.locator(".details")).to_contain_text("tokens · first word after")
        for act, before, sentence in FAULTS:
            talk.ask(act)
            talk.over(sentence)
            expect(talk.answer.locator(".markdown")).to_have_text(before)
            expect(talk.answer.get_by_role("button", name="Try again")).to_be_visible()
        talk.ask("length")
        talk.over("reached the most tokens")
        talk.ask("talkative")  # nor so much that the page has had enough of it first
        expect(talk.answer.locator(".markdown")).to_contain_text("wort wort")
        page.keyboard.press("Escape")
        talk.over("Stopped.")
        talk.ask("hello")  # answered after the API's connection was closed
        talk.over()
        deadline = time.monotonic() + LIMIT
        while not api.asked[-2].closed:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # the API is in another thread
        assert KEY not in running.said()
        assert KEY not in page.content()
        assert tab.complaints == []
