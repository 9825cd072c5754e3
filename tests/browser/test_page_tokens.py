"""Tokens on the two pages, in a real browser: what is shown, what is said where it doesn't hold, and that none is kept.

One gateway that wants a token of everybody, and one in production in which nobody may ask; each test has a tab of its
own.
"""

import json
import re
import time
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from joserfc.jwk import OctKey
from playwright.sync_api import Browser, Page, Response, WebSocket, expect

from service.core.connections.authentication import GRACE_AFTER_EXPIRY
from tests.certificates import make_certificate
from tests.gateways import Running, gateway
from tests.tokens.signing import signed

from .conftest import PATIENCE, Start, Tab
from .model import Model
from .talking import fresh_tab

pytestmark = [pytest.mark.live, pytest.mark.browser]

SECRET: Final = "a-secret-for-tokens-0123456789abcdef"
REQUIRED: Final = {"PORTICO_AUTH": "required", "PORTICO_JWT_SECRET": SECRET, "WORKER_PORT": "off"}
HIDDEN: Final = "••••••"


def token_for(secret: str = SECRET, **claims: object) -> str:
    """A token that is signed with this secret."""
    return signed("HS256", json.dumps(claims).encode(), OctKey.import_key(secret))


class Wire:
    """What a page sends and asks for, as the network sees it."""

    def __init__(self, page: Page) -> None:
        self.urls: list[str] = []
        self.sent: list[str] = []
        page.on("request", lambda request: self.urls.append(request.url))
        page.on("websocket", self._opened)

    def _opened(self, socket: WebSocket) -> None:
        self.urls.append(socket.url)
        socket.on("framesent", lambda payload: self.sent.append(str(payload)))


def kept(page: Page) -> Any:
    """All that the browser keeps for the page."""
    return page.evaluate("JSON.stringify({...sessionStorage, ...localStorage}) + document.cookie")


@pytest.fixture
def required(shared: Start) -> Running:
    """A gateway in which nobody is anybody without a token."""
    return shared(mode="integrated", settings=REQUIRED)


@pytest.fixture
def closed(shared: Start) -> Running:
    """A gateway in production that looks at no tokens, and has asking closed."""
    return shared(mode="integrated", settings={"ENVIRONMENT": "production", "WORKER_PORT": "off"})


def test_a_client_shows_its_token_and_what_to_do_is_said_where_it_does_not_hold(required: Running, tab: Tab) -> None:
    page, wire = tab.page, Wire(tab.page)
    tab.open(required.base_url)
    token, state, connect = (
        page.get_by_label("Token", exact=True),
        page.locator("#client-state"),
        page.locator("#connect"),
    )
    remedy = page.locator("#remedy")
    page.locator("#user-id").fill("ann's")
    connect.click()
    expect(state).to_have_text(
        "Not let in: A token is needed here: in Authorization, or as `token` in the first message."
    )
    expect(page.locator("#close-code")).to_have_text("4001")
    expect(remedy).to_contain_text("Enter a token that names this client’s user, and connect again.")
    expect(remedy.locator("code")).to_have_text("portico token make --user 'ann'\\''s'")
    expect(token).to_be_focused()  # the next thing to do, for whoever pressed the button

    token.fill("no token")
    token.press("Enter")
    expect(page.locator("#token-state")).to_have_text("The token has characters that no token has.")
    assert len(wire.sent) == 1
    for other, code, sentence in (
        (token_for(SECRET + "x", sub="ann's"), "4001", "The token doesn’t hold, or has ended"),
        (token_for(sub="bob"), "4003", "The token is for another user or role"),
        (token_for(role="requester"), "4003", "The token is for another user or role"),
    ):
        token.fill(other)
        connect.click()
        expect(page.locator("#close-code")).to_have_text(code)
        expect(remedy).to_contain_text(sentence)
    ends = int(time.time()) + 3600
    token.fill(token_for(sub="ann's", exp=ends))
    token.press("Enter")
    expect(state).to_contain_text("Registered as")
    expect(page.locator("#closing")).to_be_hidden()
    expect(page.locator("#token-state")).to_contain_text("It holds until")
    assert wire.sent[-1].count('"token":"eyJ') == 1

    # A newer one in its place, which has to be of the same user's.
    refresh = page.get_by_role("button", name="Refresh token")
    until = page.locator("#token-state").text_content() or ""
    token.fill(token_for(sub="bob", exp=ends + 9000))
    refresh.click()
    expect(page.locator("#token-state")).to_contain_text("Not taken: The token doesn't allow this user_id")
    newer = token_for(sub="ann's", exp=ends + 7200)
    token.fill(newer)
    refresh.click()
    expect(page.locator("#token-state")).to_contain_text("It holds until")
    assert page.locator("#token-state").text_content() != until
    assert json.loads(wire.sent[-1]) == {"type": "token_refresh", "token": newer}

    # The log can be shown to others, whatever a back end sends.
    event = {"session_data": {"token": "opaque-secret", "theme": "dark"}, "note": f"x {newer} y"}
    push = {"target": {"user_id": "ann's"}, "type": "auto_login", "data": event}
    assert httpx.post(f"{required.base_url}/api/notifications", json=push).status_code == 202
    row = page.locator("#log li.in").filter(has=page.get_by_text("auto_login", exact=True))
    expect(row.locator("pre")).to_contain_text(f'"token":"{HIDDEN}","theme":"dark"')
    expect(page.locator("#log li.out").first).to_contain_text(f'"token":"{HIDDEN}"')
    assert "eyJ" not in page.content()
    assert "opaque-secret" not in page.content()
    assert not any("eyJ" in url or "token=" in url for url in wire.urls)
    assert "eyJ" not in kept(page)
    assert "eyJ" not in required.said()
    page.reload()
    expect(page.locator("#readiness")).to_have_text("Ready")
    expect(token).to_have_value("")


MASKED: Final = (
    # (a frame, or its beginning; what is shown of it)
    ('{"a": 12345678901234567890,"token" : "abc"}', f'{{"a": 12345678901234567890,"token" : "{HIDDEN}"}}'),
    ('{"\\u0074oken":"a\\"b","x":1}', f'{{"\\u0074oken":"{HIDDEN}","x":1}}'),
    ('{"accessToken":["a",{"k":"b"}],"x":"y"}', f'{{"accessToken":["{HIDDEN}",{{"k":"{HIDDEN}"}}],"x":"y"}}'),
    ('{"max_tokens":3,"type":"token_refresh"}', '{"max_tokens":3,"type":"token_refresh"}'),
    ('{"d":"{\\"token\\":\\"abc\\"}"}', f'{{"d":"{{\\"token\\":\\"{HIDDEN}\\"}}"}}'),
    ('{"u":"ws://h/ws?token=abc&x=1"}', f'{{"u":"ws://h/ws?token={HIDDEN}&x=1"}}'),
    ("no JSON: eyJhbGciOiJI.eyJzdWIi.sig-_ end", f"no JSON: {HIDDEN} end"),
    ('{"x":"eyJhbGciOiJIUzI1', f'{{"x":"{HIDDEN}'),
    ('{"token":"cut o', f'{{"token":"{HIDDEN}"'),
)


def test_secrets_are_masked_wherever_they_are_and_nothing_else_is_changed(required: Running, tab: Tab) -> None:
    tab.open(required.base_url)
    shown = tab.page.evaluate(
        "async texts => { const {masked} = await import('/pages/masking.js'); return texts.map(masked); }",
        [text for text, _ in MASKED],
    )
    assert shown == [masked for _, masked in MASKED]


def test_a_clients_token_that_ends_is_told_and_another_one_goes_on(required: Running, tab: Tab) -> None:
    page = tab.page
    tab.open(required.base_url)
    # Whose grace is nearly over: within the leeway of clocks it is taken still. Later it is refused, in the same words.
    page.get_by_label("Token", exact=True).fill(token_for(sub="u1", exp=int(time.time() - GRACE_AFTER_EXPIRY) + 2))
    page.locator("#connect").click()
    expect(page.locator("#client-state")).to_have_text(re.compile("Not let in: the token has expired", re.IGNORECASE))
    expect(page.locator("#remedy")).to_contain_text("The token doesn’t hold, or has ended")
    page.get_by_label("Token", exact=True).fill(token_for(sub="u1", exp=int(time.time()) + 30))
    page.locator("#connect").click()
    expect(page.locator("#client-state")).to_contain_text("Registered as")
    expect(page.locator("#token-state")).to_contain_text("Enter a newer one and refresh it")


def test_the_front_page_asks_workers_with_a_requesters_token(required: Running, tab: Tab) -> None:
    page, wire = tab.page, Wire(tab.page)
    tab.open(required.base_url)
    token, ask = page.get_by_label("Requester’s token"), page.get_by_role("button", name="Ask", exact=True)
    note, result = page.locator("#ask-note"), page.locator("#ask-result")
    expect(note).to_contain_text("a JWT with the role requester")
    expect(note.locator("code")).to_have_text("portico token make --role requester")
    ask.click()
    expect(token).to_be_focused()
    token.fill("no token")
    expect(note).to_have_text("The token has characters that no token has.")
    token.fill(token_for(sub="ann"))
    token.press("Enter")
    expect(result).to_contain_text("The token may be wrong, over, or for another role.")
    assert ["WebSocket" in line for line in tab.complaints] == [True]  # the browser's own line about a 403
    tab.complaints.clear()
    token.fill(token_for(role="requester"))
    expect(note).to_be_hidden()
    ask.click()
    expect(result).to_contain_text("Failed: No available workers")
    assert not any("eyJ" in url or "token=" in url for url in wire.urls)
    assert "eyJ" not in kept(page) + page.content()


def test_where_tokens_count_for_those_who_show_one_the_field_is_out_of_the_way(shared: Start, tab: Tab) -> None:
    running = shared(mode="integrated", settings={**REQUIRED, "PORTICO_AUTH": "optional"})
    page = tab.page
    tab.open(running.base_url)
    token = page.get_by_label("Token", exact=True)
    expect(page.locator("#token-part")).to_be_visible()
    expect(token).to_be_hidden()
    expect(page.locator("#ask-note")).to_be_hidden()
    tab.register(user_id="ann")
    page.get_by_text("Token", exact=True).first.click()
    token.fill(token_for(sub="bob"))
    page.get_by_role("button", name="Register again").click()
    expect(page.locator("#client-state")).to_contain_text("Not let in: The token doesn't allow this user_id")
    expect(page.locator("#close-code")).to_have_text("4003")
    token.fill(token_for(sub="ann"))
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("#client-state")).to_contain_text("Registered as")


def test_where_asking_is_closed_the_pages_say_what_to_set_and_offer_nothing(closed: Running, tab: Tab) -> None:
    page = tab.page
    page.goto(f"{closed.base_url}/streaming/socket")
    expect(page.get_by_role("heading", name="Asking is closed here")).to_be_visible()
    for setting in ("PORTICO_AUTH=optional", "PORTICO_JWT_SECRET", "PORTICO_OPEN_REQUESTERS=true"):
        expect(page.locator("#notice code", has_text=setting)).to_be_visible()
    expect(page.locator("#ideas")).to_be_hidden()
    page.locator("#message").fill("Is anybody there?")
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_have_value("Is anybody there?")
    expect(page.locator("#send")).to_be_disabled()
    expect(page.locator(".message")).to_have_count(0)
    page.get_by_role("button", name="Settings").click()
    expect(page.locator("#settings")).to_be_visible()
    expect(page.locator("#token-field")).to_be_hidden()  # nobody looks at one
    tab.open(closed.base_url)
    expect(page.locator("#token-part")).to_be_hidden()
    expect(page.locator("#ask-note")).to_contain_text("PORTICO_OPEN_REQUESTERS=true")
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_disabled()


def test_once_asking_is_opened_the_page_goes_on_by_itself(required: Running, tab: Tab) -> None:
    page = tab.page
    shut = {**httpx.get(f"{required.base_url}/streaming/info").json(), "access": "closed", "access_hint": "Closed."}
    page.route("**/streaming/info", lambda route: route.fulfill(json=shut))
    page.goto(f"{required.base_url}/streaming/socket")
    expect(page.locator("#link-state")).to_have_text("Not connected")
    page.unroute_all(behavior="wait")
    expect(page.locator("#link-state")).to_have_text("Needs a token")
    expect(page.get_by_role("heading", name="Asking needs a token here")).to_be_visible()


def test_over_tls_under_hypercorn_with_a_token_that_no_address_has(tmp_path: Path, browser: Browser) -> None:
    # In production asking is closed to those who prove nothing, and this page can.
    settings = {**REQUIRED, "PORTICO_AUTH": "optional", "ENVIRONMENT": "production", "PORTICO_HSTS": 600}
    with (
        gateway(tmp_path, server="hypercorn", certificate=make_certificate(tmp_path), settings=settings) as running,
        fresh_tab(browser, ignore_https_errors=True) as tab,
    ):
        page, wire = tab.page, Wire(tab.page)
        answers: list[Response] = []
        page.on("response", lambda answer: answers.append(answer))
        tab.open(running.base_url)
        expect(page.locator("#ask-note")).to_contain_text("portico token make --role requester")
        page.goto(f"{running.base_url}/streaming/socket")
        expect(page.locator("#link-state")).to_contain_text("Needs a token")
        expect(page.locator("#notice")).to_contain_text("a JWT with the role requester")
        expect(page.locator("#ideas")).to_be_hidden()
        others = (token_for(SECRET + "x", role="requester"), token_for(sub="ann"))
        for text in ("no token", *others, token_for(role="requester")):
            page.get_by_role("button", name="Settings").click()
            page.get_by_label("Token", exact=True).fill(text)
            page.keyboard.press("Enter")
            if text == "no token":
                expect(page.locator("#notice")).to_contain_text("characters that no token has")
            elif text in others:
                expect(page.locator("#notice")).to_contain_text("wrong, over, or for another role.")
                expect(page.get_by_role("button", name="Enter a token")).to_be_visible()
        expect(page.locator("#link-state")).to_contain_text("Connected")
        assert not any("eyJ" in url or "token=" in url for url in wire.urls)
        assert f"{running.websocket_url}/api/websocket" in wire.urls
        assert "eyJ" not in kept(page)
        assert "eyJ" not in running.said()
        found = [answer.headers for answer in answers]
        assert len(found) > 30
        assert {headers.get("x-content-type-options") for headers in found} == {"nosniff"}
        assert {headers.get("strict-transport-security") for headers in found} == {"max-age=600"}
        assert all("WebSocket" in line for line in tab.complaints)  # the browser's own lines about a 401 and a 403
        page.goto("about:blank")


def test_a_token_that_expires_is_told_and_another_one_goes_on(required: Running, browser: Browser) -> None:
    model = Model()
    model.pieces = ["Begun"]
    with (
        model.at(f"{required.websocket_url}/worker", token=token_for(role="worker", sub="model")),
        fresh_tab(browser) as tab,
    ):
        page = tab.page
        page.goto(f"{required.base_url}/streaming/socket")
        page.get_by_role("button", name="Enter a token").click()
        token, notice = page.get_by_label("Token", exact=True), page.locator("#notice-text")
        expect(token).to_be_focused()
        # Whose grace is nearly over: within the leeway of clocks it is taken still.
        for seconds in (2, 10, 20):  # on a busy machine the first may be over before there is a connection
            token.fill(token_for(role="requester", exp=int(time.time() - GRACE_AFTER_EXPIRY) + seconds))
            page.keyboard.press("Enter")
            expect(notice).to_have_text(
                re.compile(r"\(4001\)|no connection come about"), timeout=seconds * 1000 + PATIENCE
            )
            if "4001" in (notice.text_content() or ""):
                break
            page.get_by_role("button", name="Settings").click()
        expect(notice).to_contain_text("the token has expired (4001). Enter another token to go on.")
        expect(page.locator("#link-state")).to_have_text("Needs a token")
        # The same again is tried again: whoever enters it is told so once more, instead of nothing.
        page.get_by_role("button", name="Enter a token").click()
        with page.expect_request("**/streaming/info"):
            page.keyboard.press("Enter")
        page.get_by_role("button", name="Settings").click()
        token.fill(token_for(role="requester"))
        page.keyboard.press("Enter")
        expect(page.locator("#link-state")).to_have_text("Connected")
        page.locator("#message").fill("Go")
        page.keyboard.press("Enter")
        expect(page.locator(".answer .markdown")).to_have_text("Begun")
        page.goto("about:blank")
