"""`python -m tests.browser.pictures`: makes the pictures of the page for streamed answers in `docs/images` anew.

A gateway, a worker that plays the model, and Debian's Chromium, as in the tests."""

import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.gateways import ROOT, gateway

from .conftest import CHROMIUM, FLAGS, PATIENCE
from .model import Model

FOLDER: Final = ROOT / "docs" / "images"
QUESTION: Final = "How do I retry a call with back-off, and which ways to push are there?"
BEGINNING: Final = """Wait a **random** time that grows with every failure, so that clients which failed together \
don’t come back together:

```python
async def retry(call, attempts=5):
    for n in range(attempts):
        try:
            return await call()
        except OSError:
            await trio.sleep(random() * 2**n)
    raise TimeoutError("gave up")
```

"""
END: Final = """Three ways to push:

| Way | Direction | Latency |
|---|---|--:|
| Polling | client asks | seconds |
| Server-sent events | server to client | milliseconds |
| WebSocket | both | milliseconds |

A WebSocket is the one that can also *stop* an answer half-way. See [RFC 6455](https://www.rfc-editor.org/rfc/rfc6455).
"""


def main() -> None:
    """Make them all."""
    FOLDER.mkdir(exist_ok=True)
    expect.set_options(timeout=PATIENCE)
    model = Model()
    model.name, model.tokens = "gpt-4.1-mini", 212
    with (
        tempfile.TemporaryDirectory() as folder,
        gateway(Path(folder)) as running,
        model.at(running.worker_url),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        model.pieces = [None, BEGINNING, None, "There are three ways to push. The one that can also", None]
        picture(browser, running.base_url, model, "streaming-light", 1180, 800, dark=False)
        model.pieces = [None, BEGINNING, None, END]
        picture(browser, running.base_url, model, "streaming-dark", 1180, 800, dark=True)
        picture(browser, running.base_url, model, "streaming-phone", 360, 740, dark=False)
        browser.close()


def picture(browser: Browser, base_url: str, model: Model, name: str, width: int, height: int, *, dark: bool) -> None:
    """One of them."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        device_scale_factor=2 if width < 500 else 1,
    )
    page = context.new_page()
    page.goto(f"{base_url}/streaming/socket")
    expect(page.locator("#link-state")).to_contain_text("Connected")
    name_model(page)
    page.locator("#message").fill(QUESTION)
    page.keyboard.press("Enter")
    for _ in range(2):
        page.wait_for_timeout(600)  # as long as a model takes
        model.go_on()
    if model.pieces[-1] is None:
        expect(page.locator(".answer")).to_contain_text("can also")
    else:
        expect(page.locator(".answer .row").last).to_be_visible()
    page.screenshot(path=FOLDER / f"{name}.png")
    context.close()


def name_model(page: Page) -> None:
    """A name in the bar, as where the gateway has its own model."""
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Model", exact=True).fill("gpt-4.1-mini")
    page.get_by_role("button", name="Save").click()
    page.locator("#message").focus()


if __name__ == "__main__":
    main()
