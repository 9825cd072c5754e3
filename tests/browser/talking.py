"""The page for streamed answers, as somebody who talks on it sees it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from .conftest import PATIENCE, Tab


class Talk:
    """The page, as somebody who talks on it sees it."""

    def __init__(self, tab: Tab, base_url: str) -> None:
        self.tab = tab
        self.page: Page = tab.page
        self.page.goto(f"{base_url}/streaming/socket")
        self.connected()

    def connected(self) -> None:
        expect(self.page.locator("#link-state")).to_contain_text("Connected")

    def ask(self, text: str) -> None:
        self.page.locator("#message").fill(text)
        expect(self.page.locator("#send")).to_be_enabled()
        self.page.keyboard.press("Enter")

    @property
    def answer(self) -> Locator:
        """The last one."""
        return self.page.locator(".answer").last

    def over(self, note: str = "") -> None:
        """The last answer is over, with this note."""
        expect(self.answer.locator(".row")).to_be_visible()
        if note:
            expect(self.answer.locator(".note-of-answer")).to_contain_text(note)
        else:
            expect(self.answer.locator(".note-of-answer")).to_have_count(0)

    def texts(self) -> list[str]:
        """What was said, one after the other."""
        return [text.strip() for text in self.page.locator(".question p, .answer .markdown").all_inner_texts()]


@contextmanager
def fresh_tab(browser: Browser, **how: Any) -> Iterator[Tab]:
    """A tab of a fresh profile; whoever asks looks at its complaints."""
    expect.set_options(timeout=PATIENCE)
    context = browser.new_context(**how)
    context.set_default_timeout(PATIENCE)
    opened = Tab(context.new_page())
    opened.page.on("console", opened.hear)
    opened.page.on("pageerror", lambda error: opened.complaints.append(f"thrown: {error}"))
    yield opened
    context.close()
