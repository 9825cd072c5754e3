"""`chat` against a little API on loopback, with each fault that such an API can have."""

import logging
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from service.chat.command import Chat, open_chat
from service.chat.completions import _Watch
from service.chat.faults import ChatFault, Ending
from service.chat.report import Answered
from service.chat.rules import ChatRules
from service.core.counters import Counters
from tests.certificates import make_certificate
from tests.chat.little_api import LittleApi
from tests.outgoing.closing import Close, closing_server

KEY = "sk-test-Aa0123456789bcdefghij"
RULES = ChatRules(base_url="", key=KEY, model="m-1", first_token_timeout=20.0, stall_timeout=20.0)


@asynccontextmanager
async def little(rules: ChatRules = RULES) -> AsyncIterator[tuple[LittleApi, Chat, list[Answered], Counters]]:
    """A little API, and `chat` by it."""
    async with trio.open_nursery() as nursery:
        api = LittleApi()
        await nursery.start(api.run)
        reports: list[Answered] = []
        counters = Counters()
        async with open_chat(replace(rules, base_url=rules.base_url or api.base_url), counters, reports.append) as chat:
            yield api, chat, reports, counters
        nursery.cancel_scope.cancel()


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def streamed(chat: Chat, params: Any) -> tuple[str, dict[str, Any]]:
    """The text of the parts, and the result."""
    parts: list[str] = []

    async def part(item: Any) -> None:
        assert list(item) == ["delta"]
        parts.append(item["delta"])

    result = await chat.answer(params, stream=True, part=part)
    return "".join(parts), result


async def nowhere(_: Any) -> None:
    raise AssertionError("nobody asked for parts")


async def test_streams_and_counts() -> None:
    async with little() as (api, chat, reports, counters):
        text, result = await streamed(chat, says("hello", temperature=0.5, max_tokens=12))
    assert text == "Hello world"
    first = result.pop("time_to_first_token_ms")
    assert isinstance(first, int)
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    assert result == {"finish_reason": "stop", "model": "m-1-2026", "usage": usage}
    [asked] = api.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "m-1",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 12,
        "temperature": 0.5,
    }
    assert b"\r\nauthorization: bearer " + KEY.lower().encode() in asked.head.lower()
    assert counters.chat_answers == {"answered": 1}
    assert counters.chat_tokens == {"prompt": 9, "completion": 4}
    assert sum(counters.chat_first_token_latency.buckets) == 1
    assert [report.ending for report in reports] == [Ending.ANSWERED]


async def test_without_a_stream_the_result_has_the_text() -> None:
    async with little() as (_, chat, _, _):
        result = await chat.answer(says("hello"), stream=False, part=nowhere)
    assert list(result) == ["content", "finish_reason", "model", "usage", "time_to_first_token_ms"]
    assert result["content"] == "Hello world"


async def test_a_connection_is_used_again() -> None:
    async with little() as (api, chat, _, _):
        for _ in range(3):
            await chat.answer(says("hello"), stream=False, part=nowhere)
    assert api.connections == 1


@pytest.mark.parametrize("close", [Close.CLEAN, Close.RESET])
async def test_a_question_on_a_kept_connection_that_is_closed_is_not_asked_again(close: Close) -> None:
    """It costs money, and the API may have begun with it."""
    body = b'{"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}]}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with closing_server(close, answer) as server:
        rules = replace(RULES, base_url=server.url)
        async with open_chat(rules, Counters(), lambda _: None) as chat:
            assert (await chat.answer(says("1"), stream=False, part=nowhere))["content"] == "yes"
            with pytest.raises(ChatFault, match="try again") as caught:
                await chat.answer(says("2"), stream=False, part=nowhere)
    assert caught.value.ending is Ending.BROKEN
    assert [connection for connection, _ in server.came] == [1, 1]


@pytest.mark.parametrize(
    ("scene", "text", "reason"),
    [
        ("comments", "née", "stop"),
        ("length", "so far", "length"),
        ("done_only", "all", "stop"),
        ("without_done", "all", "stop"),
        ("plain_json", "all at once", "stop"),
        ("filtered_midway", "It is", "content_filter"),
    ],
)
async def test_other_ways_to_answer(scene: str, text: str, reason: str) -> None:
    async with little() as (_, chat, _, _):
        came, result = await streamed(chat, says(scene))
    assert (came, result["finish_reason"]) == (text, reason)


FAULTS = [
    ("bad_key", Ending.KEY_REFUSED, r"refused the key \(HTTP 401\): set OPEN_API_KEY"),
    ("forbidden", Ending.KEY_REFUSED, r"refused the key \(HTTP 403\)"),
    ("bad_request", Ending.BAD_REQUEST, r"can't take the request \(HTTP 400\), and says: Unknown field 'x'"),
    ("busy", Ending.BUSY, r"is busy: try again later\."),
    ("busy 20", Ending.BUSY, r"is busy: try again in 20 s\."),
    ("busy 0.2", Ending.BUSY, r"is busy: try again in 1 s\."),
    ("busy soon", Ending.BUSY, r"is busy: try again later\."),
    ("busy 99999999999999999999", Ending.BUSY, r"try again in 86400 s\."),
    ("no_credit", Ending.BUSY, "no credit left"),
    ("broken", Ending.API_ERROR, r"has a problem \(HTTP 502\): try again later\."),
    ("overloaded", Ending.API_ERROR, r"has a problem \(HTTP 503\): try again in 7 s\."),
    ("unknown_model", Ending.UNKNOWN_MODEL, "doesn't know the model 'm-1': set PORTICO_CHAT_MODEL"),
    ("ollama_unknown_model", Ending.UNKNOWN_MODEL, "doesn't know the model 'm-1'"),
    ("wrong_place", Ending.API_ERROR, r"no chat at the address .* \(HTTP 404\): check OPEN_API_BASE_URL"),
    ("too_long", Ending.TOO_LONG, "too long for the model"),
    ("vllm_too_long", Ending.TOO_LONG, "too long for the model"),
    ("filtered_before", Ending.FILTERED, "content filter"),
    ("filtered_at_once", Ending.FILTERED, "content filter"),
    ("redirect", Ending.API_ERROR, "redirect"),
    ("web_page", Ending.MALFORMED, "web page"),
    ("disguised_page", Ending.MALFORMED, "web page"),
    ("no_events", Ending.MALFORMED, "sent no answer"),
    ("malformed", Ending.MALFORMED, "sent what is no answer of a model"),
    ("not_json", Ending.MALFORMED, "sent what is no answer of a model"),
    ("empty", Ending.MALFORMED, "sent no answer"),
    ("done_at_once", Ending.MALFORMED, "an answer without content"),
    ("huge_line", Ending.MALFORMED, "an event that is too large"),
    ("huge_json", Ending.MALFORMED, "an answer that is too large"),
    ("compressed", Ending.MALFORMED, "compressed"),
    ("error_event", Ending.API_ERROR, "has a problem"),
    ("cut", Ending.BROKEN, "broke off"),
    ("ends_early", Ending.BROKEN, "broke off"),
    ("hangs_up", Ending.BROKEN, "closed the connection without an answer"),
    ("no_http", Ending.MALFORMED, "no HTTP"),
]


def all_of(error: BaseException) -> str:
    """What an exception, and all that hang on it, could show of themselves."""
    shown = []
    one: BaseException | None = error
    while one is not None:
        shown.append(repr(one) + str(one) + repr(vars(one)))
        one = one.__cause__ or one.__context__
    return " ".join(shown)


@pytest.mark.parametrize(("scene", "ending", "sentence"), FAULTS)
async def test_each_fault_is_a_sentence_without_the_key(
    scene: str, ending: Ending, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with little() as (api, chat, reports, counters):
        with trio.fail_after(30), pytest.raises(ChatFault, match=sentence) as caught:
            await streamed(chat, says(scene))
        said = str(caught.value)
        assert caught.value.ending is ending
        assert said.isprintable()
        assert said.endswith((".", "manual"))
        assert counters.chat_answers == {ending.value: 1}
        assert [report.ending for report in reports] == [ending]
        assert len(api.asked) == 1
        assert api.written < 32 * 2**20
        with trio.fail_after(30):
            await chat.answer(says("hello"), stream=False, part=nowhere)  # and it goes on
    shown = all_of(caught.value) + caplog.text
    for piece in (KEY, KEY.upper(), KEY[:-3], KEY[3:15]):
        assert piece not in shown


async def test_what_came_before_a_fault_is_passed_on() -> None:
    async with little() as (_, chat, _, _):
        parts: list[Any] = []

        async def part(item: Any) -> None:
            parts.append(item)

        with pytest.raises(ChatFault):
            await chat.answer(says("cut"), stream=True, part=part)
    assert parts == [{"delta": "And th"}]


async def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=1000), usegmt=True)
    async with little() as (_, chat, _, _):
        with pytest.raises(ChatFault) as caught:
            await streamed(chat, says(f"busy {date}"))
    found = re.search(r"try again in (\d+) s\.", str(caught.value))
    assert found is not None
    assert 900 < int(found[1]) <= 1001


@pytest.mark.parametrize(
    ("scene", "first", "sentence"),
    [
        ("silent", 0.3, r"gave no answer within 0\.3 s"),
        ("only_comments", 0.3, r"gave no answer within 0\.3 s"),
        ("stalls", 20.0, r"The answer stopped: nothing more came from the model's API for 0\.2 s"),
    ],
)
async def test_nothing_hangs(scene: str, first: float, sentence: str) -> None:
    async with little(replace(RULES, first_token_timeout=first, stall_timeout=0.2)) as (api, chat, _, counters):
        with trio.fail_after(30), pytest.raises(ChatFault, match=sentence):
            await streamed(chat, says(scene))
        assert counters.chat_answers == {"timeout": 1}
        with trio.fail_after(30):
            await api.until(lambda: api.asked[0].closed)


@pytest.mark.parametrize("scene", ["silent", "stalls", "endless"])
async def test_cancelling_closes_the_connection_at_once(scene: str) -> None:
    async with little() as (api, chat, reports, _):
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(streamed, chat, says(scene))
                await api.until(lambda: bool(api.asked))
                nursery.cancel_scope.cancel()
            await api.until(lambda: api.asked[0].closed)
        assert [report.ending for report in reports] == [Ending.CANCELLED]


async def test_a_slow_listener_is_felt_by_the_api() -> None:
    """What waits here is bounded, and what the API could send is what the sockets take."""
    async with little(replace(RULES, first_token_timeout=20.0, stall_timeout=20.0)) as (api, chat, _, _):
        sizes: list[int] = []
        first = trio.Event()
        go_on = trio.Event()

        async def part(item: Any) -> None:
            sizes.append(len(item["delta"]))
            if len(sizes) == 1:
                first.set()
                await go_on.wait()
            elif len(sizes) == 3:
                nursery.cancel_scope.cancel()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: chat.answer(says("endless"), stream=True, part=part))
                await first.wait()
                written = -1
                while written != api.written:  # until the sockets are full
                    written = api.written
                    await trio.sleep(0.3)
                go_on.set()
    assert written < 16 * 2**20
    assert 16 * 2**10 < sizes[1] < 40 * 2**10  # what waited came as one


async def test_a_slow_listener_is_no_stall_of_the_apis(autojump_clock: trio.testing.MockClock) -> None:
    watch = _Watch(1.0, 2.0)
    with watch.scope:
        watch.on_life()
        with watch.paused():
            await trio.sleep(100)
        await trio.sleep(1.9)
        watch.on_life()
        await trio.sleep(2.1)
    assert watch.scope.cancelled_caught
    assert trio.current_time() == pytest.approx(103.9)


async def test_an_error_of_the_listener_ends_it() -> None:
    async with little() as (api, chat, _, counters):

        async def part(_: Any) -> None:
            raise OSError("gone")

        with trio.fail_after(30):
            with pytest.raises(OSError, match="gone"):
                await chat.answer(says("endless"), stream=True, part=part)
            await api.until(lambda: api.asked[0].closed)
    assert counters.chat_answers == {"internal": 1}


async def refused(base_url: str, **rules: Any) -> str:
    async with little(replace(RULES, base_url=base_url, **rules)) as (_, chat, _, _):
        with trio.fail_after(30), pytest.raises(ChatFault) as caught:
            await streamed(chat, says("hello"))
        assert caught.value.ending is Ending.UNREACHABLE
        return str(caught.value)


async def test_nobody_listens() -> None:
    with trio.socket.socket() as held:
        await held.bind(("127.0.0.1", 0))
        said = await refused(f"http://127.0.0.1:{held.getsockname()[1]}/v1")
    assert said == (
        "The model's API cannot be reached (the connection is refused): check OPEN_API_BASE_URL, and that the API runs "
        "there."
    )


async def test_a_name_that_nobody_knows() -> None:
    assert "its name is not known" in await refused("http://no-such-api.invalid/v1")


async def test_tls_faults() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        assert "TLS fails" in await refused(f"https://127.0.0.1:{port}/v1")
        nursery.cancel_scope.cancel()


async def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.file, certificate.key)
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
            with pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()

        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [trio.SSLListener(listener, context)])
        said = await refused(f"https://127.0.0.1:{port}/v1")
        nursery.cancel_scope.cancel()
    assert "its certificate is not trusted" in said
    assert "SSL_CERT_FILE" in said


async def test_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.socket.socket() as held:
        await held.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{held.getsockname()[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert "cannot be reached" in await refused("http://api.example.com/v1")
