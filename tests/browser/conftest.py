"""A real Chromium for the tests of the page, and what they look at.

Plain tests, not async ones: Playwright's sync API has a loop of its own. The browser ends with its module, so that
no other test ever meets that loop.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.gateways import Running, gateway

CHROMIUM: Final = "/usr/bin/chromium"
_FEATURES_OFF: Final = (
    # As Playwright has them, which this takes the place of.
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "LensOverlay",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "OptimizationHints",
    "NetworkTimeServiceQuerying",
    "AimEnabled",
    "PreconnectToSearch",
    # Pages of the browser's own, one behind each window's address bar: a third of the processor time.
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "PreloadTopChromeWebUI",
)
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--disable-features={','.join(_FEATURES_OFF)}",
)
PATIENCE: Final = 30_000
"""Milliseconds for what has to come, however busy the machine is."""


@dataclass
class Tab:
    """A page of a fresh browser profile; `complaints` is what it wrote to the console, and what it threw."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def open(self, base_url: str) -> None:
        """Load the gateway's page, and wait until it has looked at the gateway."""
        self.page.goto(base_url)
        expect(self.page.locator("#readiness")).to_have_text("Ready")

    def register(self, **identity: str) -> None:
        """Connect a client, from the form."""
        for name, value in identity.items():
            self.page.locator(f"#{name.replace('_', '-')}").fill(value)
        self.page.get_by_role("button", name="Connect", exact=True).click()
        expect(self.page.locator("#client-state")).to_contain_text("Registered as")

    def hear(self, message: ConsoleMessage) -> None:
        """One line of the console."""
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium with a profile of its own, in which nothing is kept."""
    assert Path(CHROMIUM).exists(), "these tests need Chromium; as root on Debian: .ci/system chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


class Start(Protocol):
    """Starts a gateway; takes what `gateway` takes."""

    def __call__(self, **how: Any) -> Running: ...


def _wait_until_nobody_is_connected(running: Running) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    with httpx.Client(trust_env=False) as caller:
        while (found := caller.get(f"{running.base_url}/api/c-client/status").json())["total"] > 0:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)  # there is no event for what another process notices


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Gateways that several tests of a module use, each started when it is first asked for. Nobody is connected when a
    test gets one: what was the last test's is gone by then."""
    with ExitStack() as running:
        started: dict[str, Running] = {}

        def one(**how: Any) -> Running:
            name = repr(sorted({"mode": "adjacent", **how}.items(), key=lambda item: item[0]))
            if name not in started:
                started[name] = running.enter_context(gateway(tmp_path_factory.mktemp("gateway"), **how))
            _wait_until_nobody_is_connected(started[name])
            return started[name]

        yield one


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Gateways that run to the end of the test, each in a folder of its own."""
    with ExitStack() as running:

        def one(**how: Any) -> Running:
            folder = tmp_path / f"gateway-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return running.enter_context(gateway(folder, **how))

        yield one


@pytest.fixture
def tab(browser: Browser, start: Start) -> Iterator[Tab]:
    """A fresh tab; the test fails if a page complained, unless it has emptied `complaints` itself.

    It is closed before the gateways end (that is what it asks for `start` for), or it would rightly complain.
    """
    expect.set_options(timeout=PATIENCE)
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    opened = Tab(context.new_page())
    opened.page.on("console", opened.hear)
    opened.page.on("pageerror", lambda error: opened.complaints.append(f"thrown: {error}"))
    yield opened
    context.close()
    assert opened.complaints == []
