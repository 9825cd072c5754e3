"""`python -m tests.loadtest.pictures`: makes the pictures of locust's page in `docs/images` anew.

A gateway with 200 clients of the load test, and Debian's Chromium, which presses Stop. What the verdict says is what
was measured: on a busy machine it may well be that the load was the bottleneck.
"""

import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

from tests.browser.conftest import CHROMIUM, FLAGS, PATIENCE
from tests.gateways import ROOT, gateway
from tests.loadtest.locust_run import free_port, started

FOLDER: Final = ROOT / "docs" / "images"
USERS: Final = 200
HELD: Final = 30_000
"""Milliseconds of a run, of which the ramp is the first four."""


def main() -> None:
    """Make them both."""
    FOLDER.mkdir(exist_ok=True)
    expect.set_options(timeout=PATIENCE)
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        gateway(Path(folder)) as running,
        started(
            *("--web-host", "127.0.0.1", "--web-port", str(port), "--host", running.base_url),
            *("-u", str(USERS), "-r", "50", "--autostart", "--thresholds", "loadtest/thresholds.toml"),
        ),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        take(open_page(browser, f"http://127.0.0.1:{port}/"))
        browser.close()


def open_page(browser: Browser, address: str) -> Page:
    """Locust's page, once it is served."""
    page = browser.new_page(viewport={"width": 1180, "height": 900}, color_scheme="light", reduced_motion="reduce")
    for _ in range(60):
        try:
            page.goto(address)
            return page
        except Error as error:
            if "ERR_CONNECTION_REFUSED" not in str(error):
                raise
            page.wait_for_timeout(500)
    raise TimeoutError(f"nobody is at {address}")


def take(page: Page) -> None:
    """During the run, and after Stop."""
    expect(page.locator("header")).to_contain_text("running", ignore_case=True)
    page.wait_for_timeout(HELD)
    page.screenshot(path=FOLDER / "load-test-running.png")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#portico-verdict")).to_contain_text("Load test:", timeout=2 * PATIENCE)
    page.wait_for_timeout(2_500)  # until the page has asked for the figures once more
    expect(page.locator("#portico-verdict pre")).to_be_visible()
    page.screenshot(path=FOLDER / "load-test-verdict.png")
    page.locator("#portico-verdict summary").click()
    expect(page.locator("#portico-verdict pre")).to_be_hidden()


if __name__ == "__main__":
    main()
