"""The page for streamed answers in a real browser, with a worker that answers as a model would.

One gateway for all; each test has a tab of its own. What a page does when that changes is in `test_following.py`,
tokens are in `test_page_tokens.py`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, expect
from websockets.sync.client import connect

from tests.gateways import Running, gateway

from .conftest import Tab
from .markdown import COST, HOSTILE, LONG, RENDER, TAGS, TEXTS
from .model import LIMIT, Model
from .talking import Talk, fresh_tab
from .test_look import LOW_CONTRAST

pytestmark = [pytest.mark.live, pytest.mark.browser]

# Two controls have no border of their own: one is a word with a picture, the other stands in a form that has it.
CONTRAST: Final = LOW_CONTRAST.replace(
    "input, select, textarea, button:not(.primary)",
    "input:not([type=radio]), select, textarea:not(#message), button:not(.primary, .quiet-button)",
)


@pytest.fixture(scope="module")
def portico(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One gateway, in which WebSockets share the port."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    with gateway(folder, mode="integrated") as running:
        yield running


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """A fresh tab; the test fails if the page complained."""
    with fresh_tab(browser) as opened:
        yield opened
    assert opened.complaints == []


def test_a_conversation_is_streamed_kept_over_a_reload_and_begun_anew(portico: Running, tab: Tab, model: Model) -> None:
    model.pieces = ["One ", "**two**", None, " three.\n\n```py\nx = 1\n", None, "```\n\nEnd"]
    with model.at(portico.worker_url):
        talk = Talk(tab, portico.base_url)
        page = tab.page
        talk.ask("Count")
        expect(talk.answer.locator(".markdown")).to_have_text("One two")
        expect(talk.answer.locator("strong")).to_have_text("two")
        expect(talk.answer).to_have_attribute("aria-busy", "true")
        expect(page.locator("#send")).to_be_hidden()
        model.go_on()
        expect(talk.answer.locator("code")).to_have_text("x = 1\n")
        model.go_on()
        talk.over()
        assert talk.answer.get_attribute("aria-busy") is None
        expect(talk.answer.locator(".details")).to_contain_text("test-model · 6 tokens · first word after")
        expect(page.locator("#spoken")).to_have_text("The answer is complete.")
        expect(page.locator("#message")).to_be_focused()

        model.pieces = ["Yes."]
        talk.ask("Really?")
        talk.over()
        assert model.asked[1]["messages"] == [
            {"role": "user", "content": "Count"},
            {"role": "assistant", "content": "One **two** three.\n\n```py\nx = 1\n```\n\nEnd"},
            {"role": "user", "content": "Really?"},
        ]
        said = talk.texts()
        assert said[0] == "Count"
        page.locator("#message").fill("half a ques")
        page.reload()
        talk.connected()
        expect(page.locator(".answer")).to_have_count(2)
        assert talk.texts() == said
        expect(page.locator("#message")).to_have_value("half a ques")
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator(".message")).to_have_count(0)
        page.reload()
        talk.connected()
        expect(page.get_by_role("heading", name="What would you like to ask?")).to_be_visible()


def test_stop_reaches_the_worker_and_the_next_question_is_answered(portico: Running, tab: Tab, model: Model) -> None:
    with model.at(portico.worker_url):
        talk = Talk(tab, portico.base_url)
        for by_key in (True, False):
            model.cancelled.clear()
            model.pieces = ["Begun", None, " and never ended."]
            talk.ask("Go")
            expect(talk.answer.locator(".markdown")).to_have_text("Begun")
            if by_key:
                tab.page.keyboard.press("Escape")
            else:
                tab.page.get_by_role("button", name="Stop").click()
            talk.over("Stopped.")
            assert model.cancelled.wait(LIMIT)
            expect(talk.answer.locator(".markdown")).to_have_text("Begun")
        model.pieces = ["All of it."]
        talk.answer.get_by_role("button", name="Try again").click()
        talk.over()
        assert talk.texts() == ["Go", "Begun", "Go", "All of it."]


def test_an_answer_ends_with_a_part_that_failed(portico: Running, tab: Tab) -> None:
    with connect(portico.worker_url) as worker:

        def heard(kind: str) -> dict[str, Any]:
            while (message := json.loads(worker.recv(LIMIT)))["type"] != kind:
                pass
            found: dict[str, Any] = message["data"] | {"request_id": message["msg_id"]}
            return found

        commands = {"client_id": "raw", "role": "worker", "commands": ["chat"]}
        worker.send(json.dumps({"type": "connect", "data": commands}))
        talk = Talk(tab, portico.base_url)
        talk.ask("Go")
        request_id = heard("request")["request_id"]
        for part in ({"result": {"delta": "Begun"}}, {"success": False, "error": "Full."}, {"result": {"delta": "On"}}):
            answer = {"request_id": request_id, "partial": True} | part
            worker.send(json.dumps({"type": "response", "data": answer}))
        talk.over("Full.")
        expect(talk.answer.locator(".markdown")).to_have_text("Begun")
        assert heard("custom")["event"] == "cancel"


def test_an_error_is_said_and_can_be_tried_again(portico: Running, tab: Tab, model: Model) -> None:
    model.error = "The model's API is busy: try again in 20 s."
    with model.at(portico.worker_url):
        talk = Talk(tab, portico.base_url)
        talk.ask("Go")
        talk.over("The model's API is busy: try again in 20 s.")
        model.error = None
        talk.answer.get_by_role("button", name="Try again").click()
        talk.over()
        assert talk.texts() == ["Go", "Hello there."]
        assert model.asked[1]["messages"] == [{"role": "user", "content": "Go"}]
    # Its worker is gone.
    talk.ask("Still there?")
    talk.over("nobody answers any more")


def test_what_is_set_goes_along_and_is_kept(portico: Running, tab: Tab, model: Model) -> None:
    with model.at(portico.worker_url, "chat", "echo"):
        talk = Talk(tab, portico.base_url)
        page = tab.page
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("System prompt").fill("Be brief.")
        page.get_by_label("Model", exact=True).fill("other-model")
        page.get_by_label("Temperature").fill("0.5")
        page.get_by_label("Most tokens").fill("99")
        expect(page.locator("#token-field")).to_be_hidden()
        page.get_by_role("button", name="Save").click()
        page.reload()
        talk.connected()
        expect(page.locator("#answerer")).to_have_text("other-model")
        talk.ask("Go")
        talk.over()
        assert model.asked == [
            {
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go"}],
                "model": "other-model",
                "temperature": 0.5,
                "max_tokens": 99,
            }
        ]
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("An echo of what you write").check()
        page.keyboard.press("Enter")
        expect(page.locator("#answerer")).to_have_text("Echo")
        talk.ask("one *two* three")
        talk.over()
        expect(talk.answer.locator("em")).to_have_text("two")


def test_without_a_model_the_page_says_what_to_set_and_finds_one_that_comes(
    portico: Running, tab: Tab, model: Model
) -> None:
    page = tab.page
    talk = Talk(tab, portico.base_url)
    expect(page.locator("#notice")).to_contain_text("OPEN_API_KEY")
    expect(page.locator("#answerer")).to_have_text("Echo")
    talk.ask("one *two* three")  # the gateway's own echo
    talk.over()
    assert talk.texts() == ["one *two* three", "Echo: one two three"]
    with model.at(portico.worker_url):
        expect(page.locator("#answerer")).to_have_text("Model")
        expect(page.locator("#notice")).to_be_hidden()
        talk.ask("Go")
        talk.over()


def test_hostile_markdown_is_inert(portico: Running, tab: Tab, model: Model) -> None:
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    # In pieces that cut everything in two.
    model.pieces = [*(HOSTILE[at : at + 7] for at in range(0, 1400, 7)), HOSTILE[1400:]]
    with model.at(portico.worker_url):
        talk = Talk(tab, portico.base_url)
        talk.ask("Go")
        talk.over()
    page = tab.page
    assert page.title() == "Streamed answers – Portico"
    found = page.evaluate(
        """() => [...document.querySelectorAll(".markdown *")].map(element =>
        [element.localName, ...[...element.attributes].map(({name, value}) => `${name}=${value}`)])"""
    )
    tags = {tag for tag, *_ in found}
    assert tags <= TAGS
    attributes = {attribute.partition("=")[0] for _, *attributes in found for attribute in attributes}
    assert attributes <= {"href", "target", "rel", "title", "class", "dir", "tabindex", "role", "aria-label", "type"}
    links = page.evaluate("[...document.querySelectorAll('.markdown a')].map(a => [a.href, a.rel, a.target])")
    assert {href for href, *_ in links} == {
        "https://plain.example/",
        "https://bare.example/x",
        "https://good.example/a?b=1",
        "mailto:a@b.example",
        "https://tracker.example/p.png",
    }
    assert {(rel, target) for _, rel, target in links} == {("noopener noreferrer", "_blank")}
    assert {url.partition("://")[2].partition("/")[0] for url in asked} == {portico.base_url.partition("://")[2]}
    assert "</code></pre><script>" in talk.answer.locator("figure code").inner_text()
    # What was kept is shown by the same rules.
    page.reload()
    talk.connected()
    talk.over()
    again = page.evaluate("[...document.querySelectorAll('.markdown a')].map(a => a.href)")
    assert set(again) == {href for href, *_ in links}
    assert page.title() == "Streamed answers – Portico"


def test_what_arrives_in_pieces_looks_as_what_arrives_at_once(portico: Running, tab: Tab) -> None:
    Talk(tab, portico.base_url)
    for text in TEXTS:
        whole = tab.page.evaluate(RENDER, [text, len(text)])
        for size in (1, 3, 10):
            assert tab.page.evaluate(RENDER, [text, size]) == whole, text
    code = json.loads(tab.page.evaluate(RENDER, [TEXTS[3], 1]))
    assert code[2][0] == "figure"
    assert "# not a heading" in json.dumps(code)


def test_a_long_answer_is_whole_and_costs_the_same_everywhere(portico: Running, tab: Tab) -> None:
    Talk(tab, portico.base_url)
    for block, most, each in LONG:
        times = 14_000 // len(block)
        start = "```\n" if block == "x = 1\n" else ""
        text, longest, looked_at = tab.page.evaluate(COST, [block, times, start])
        word = re.findall(r"[a-z]+", block)[-1]
        assert re.sub(r"\W", "", text).count(word) >= times * block.count(word)
        assert longest <= most
        assert looked_at <= (times + 2) * each + 1000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_borders_have_contrast_and_nothing_is_too_wide(
    portico: Running, browser: Browser, model: Model, scheme: Any
) -> None:
    wide = "| " + " | ".join(f"column{n}" for n in range(12)) + " |\n|" + "---|" * 12 + "\n|" + " x |" * 12
    model.pieces = [
        f"# T\n\n{'w' * 300} `{'c' * 300}`\n\n> q\n\n```sh\n{'x' * 300}\n```\n\n{wide}\n\n[l](https://e.example)"
    ]
    with fresh_tab(browser, color_scheme=scheme, reduced_motion="reduce") as tab, model.at(portico.worker_url):
        page = tab.page
        page.set_viewport_size({"width": 360, "height": 700})
        talk = Talk(tab, portico.base_url)
        talk.ask("x" * 300)
        talk.over()
        for width in (320, 360, 768, 1280):
            page.set_viewport_size({"width": width, "height": 700})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("document.getElementById('scroller').scrollWidth") <= width
        page.locator("#settings-open").click()
        seen, low = page.evaluate(CONTRAST)
        assert seen > 20
        assert low == []
        page.keyboard.press("Escape")
        for tone in ("bad", "busy", "quiet", "good"):
            page.evaluate(
                """tone => { for (const place of document.querySelectorAll("#notice, #link-state")) {
                    place.hidden = false; place.dataset.tone = tone; }
                    document.getElementById("notice-text").textContent = "Something."; }""",
                tone,
            )
            assert page.evaluate(CONTRAST)[1] == []
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("input, select, textarea, button, a, [tabindex='0']")]
            .filter(control => control.checkVisibility()
                && !control.getAttribute("aria-label") && !control.getAttribute("aria-labelledby")
                && !control.labels?.length && !control.textContent.trim()).map(control => control.outerHTML)"""
        )
        assert unnamed == []
        assert tab.complaints == []


@pytest.mark.parametrize("clipboard", ["of a secure page", "of any page", "none"])
def test_what_is_copied_is_in_the_clipboard_and_said(portico: Running, tab: Tab, model: Model, clipboard: str) -> None:
    page = tab.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.add_init_script("window.kept = navigator.clipboard")
    if clipboard != "of a secure page":
        page.add_init_script("Object.defineProperty(Navigator.prototype, 'clipboard', { value: undefined })")
    if clipboard == "none":
        page.add_init_script("document.execCommand = () => false")
    said = "Not copied" if clipboard == "none" else "Copied"
    model.pieces = ["Do *this*:\n\n```py\nprint(1)\n  # 2\n```\n"]
    with model.at(portico.worker_url):
        talk = Talk(tab, portico.base_url)
        talk.ask("How?")
        talk.over()
        code, answer = page.locator("figcaption button.copy"), page.locator(".row button.copy")
        for button, text in ((code, "print(1)\n  # 2\n"), (answer, model.pieces[0])):
            page.evaluate("kept.writeText('before')")
            button.click()
            # Its name is what is read out.
            expect(button).to_have_accessible_name(said)
            expect(button).to_be_focused()
            assert page.evaluate("kept.readText()") == ("before" if clipboard == "none" else text)
        expect(answer).to_have_accessible_name("Copy the answer")
