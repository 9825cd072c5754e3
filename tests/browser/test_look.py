"""How the page looks and is used: contrast, narrow screens, names for what has none on the screen, the keyboard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.gateways import Running, gateway

from .conftest import Tab
from .talking import fresh_tab

pytestmark = [pytest.mark.live, pytest.mark.browser]

LOW_CONTRAST = """() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ratio = (a, b) => {
    const [low, high] = [light(a), light(b)].sort((p, q) => p - q);
    return (high + 0.05) / (low + 0.05);
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const found = numbers(getComputedStyle(at).backgroundColor);
      if (found.length === 3) return found;
      if (found[3] !== 0) throw new Error("a ground that shines through");
    }
    throw new Error("no ground");
  };
  const low = [];
  let seen = 0;
  for (const element of document.querySelectorAll("body *")) {
    if (!element.checkVisibility() || element.matches(":disabled, script, option, meter")) continue;
    const style = getComputedStyle(element);
    const text = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (text || element.matches("input, select, textarea")) {
      seen += 1;
      const found = ratio(numbers(style.color), ground(element));
      if (found < 4.5) low.push(`${element.outerHTML.slice(0, 80)} ${found.toFixed(2)}`);
    }
    if (element.matches("input, select, textarea, button:not(.primary)")) {
      const found = ratio(numbers(style.borderTopColor), ground(element.parentElement));
      if (found < 3) low.push(`border of ${element.outerHTML.slice(0, 80)} ${found.toFixed(2)}`);
    }
  }
  return [seen, low];
}"""


@pytest.fixture(scope="module")
def portico(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One gateway for all: nothing here changes it for the next."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    with gateway(folder) as running:
        yield running


@pytest.fixture(scope="module")
def everything(browser: Browser, portico: Running) -> Iterator[Page]:
    """The page with every kind of state and result at once; one for all tests that only look at it."""
    with fresh_tab(browser, reduced_motion="reduce") as tab:
        page = tab.page
        tab.open(portico.base_url)
        page.get_by_text("More addresses for pushes").click()
        tab.register(user_id="u1")
        page.get_by_role("button", name="Push").click()
        expect(page.locator("#push-result")).to_contain_text("Accepted")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#ask-result")).to_contain_text("portico worker")
        page.get_by_role("button", name="Disconnect").click()
        expect(page.locator("#close-code")).to_have_text("1000")
        page.evaluate(SHOW_THE_REST)
        yield page
    assert tab.complaints == []


SHOW_THE_REST = """async () => {
  (await import("/pages/push-panel.js")).needKey();
  (await import("/pages/overview.js")).notice("Something is wrong.", "page");
  const said = {
    "token-state": `It holds until ${"w".repeat(200)}`,
    "ask-note": "Its operator makes one.",
    "remedy-text": "Enter a token.",
    "remedy-command": `portico token make --user ${"w".repeat(200)}`,
  };
  for (const [id, text] of Object.entries(said)) document.getElementById(id).textContent = text;
  for (const id of [...Object.keys(said), "token-part", "ask-token-part", "remedy"]) {
    document.getElementById(id).hidden = false;
    document.getElementById(id).open = true;
  }
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_borders_have_contrast(everything: Page, scheme: Any) -> None:
    everything.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    for tone in ("good", "busy", "bad", "quiet"):
        everything.evaluate(
            "tone => document.querySelectorAll('[data-tone]').forEach(place => { place.dataset.tone = tone; })", tone
        )
        seen, low = everything.evaluate(LOW_CONTRAST)
        assert seen > 70
        assert low == []


@pytest.mark.parametrize("width", [320, 390, 768, 1000, 1280, 2200])
def test_nothing_is_wider_than_the_screen(everything: Page, width: int) -> None:
    everything.set_viewport_size({"width": width, "height": 800})
    assert everything.evaluate("document.documentElement.scrollWidth") <= width
    # Side by side where there is room for it, else one below the other.
    client, push = (everything.get_by_role("region", name=name).bounding_box() for name in ("Connect a client", "Push"))
    assert client is not None
    assert push is not None
    assert (push["x"] > client["x"]) == (width >= 1000)


def test_all_that_can_be_used_has_a_name(everything: Page) -> None:
    controls = everything.locator("input, select, textarea, button, a, [tabindex='0']")
    assert controls.count() > 20
    unnamed = everything.evaluate(
        """() => [...document.querySelectorAll("input, select, textarea, button, a, [tabindex='0']")]
        .filter(control => {
          const named = control.getAttribute("aria-label") || control.getAttribute("aria-labelledby");
          return !named && !control.labels?.length && !control.textContent.trim();
        }).map(control => control.outerHTML)"""
    )
    assert unnamed == []
    assert everything.locator("h1").count() == 1
    assert everything.locator("html").get_attribute("lang") == "en"
    for name in ("Connect a client", "Push", "Ask the workers", "This gateway"):
        expect(everything.get_by_role("region", name=name)).to_be_visible()


def test_the_keyboard_is_enough(portico: Running, tab: Tab) -> None:
    page = tab.page
    tab.open(portico.base_url)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the client")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("textbox", name="client_id")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#client-state")).to_contain_text("Registered as browser-")
    for name in ("user_id", "username"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("textbox", name=name)).to_be_focused()
    page.keyboard.press("Tab")  # more addresses
    for name in ("Register again", "Heartbeat", "Disconnect"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=name)).to_be_focused()
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
    page.keyboard.press("Enter")
    # What had the focus cannot be used any more, so it goes on to what can.
    expect(page.get_by_role("button", name="Connect", exact=True)).to_be_focused()
