"""`portico tail`: server-sent events, filtered, against a server that sends what the test wants."""

import json
from functools import partial
from typing import Any

import pytest
import trio

from service.cli.tail import Filter
from tests.cli.running import portico
from tests.portico.client.fake_gateway import fake_http

EVENTS: list[dict[str, Any]] = [
    {"id": "1", "event": "registered", "timestamp": 1732000000.5, "node": "n", "user_id": "u1", "client_id": "c1"},
    {"id": "2", "event": "left", "timestamp": 1732000001.5, "node": "n", "user_id": "u1", "client_id": "c1"},
    {"id": "3", "event": "registered", "timestamp": 1732000002.5, "node": "n", "user_id": "\x1b[31m\u2028Ann"},
    {"id": "4", "event": "message", "timestamp": 1732000003.5, "node": "n", "message": {"type": "ping", "n": 4}},
]


def sent(events: list[dict[str, Any]]) -> bytes:
    """As a server sends them: with comments, other fields, line ends of both kinds, and one that is no JSON."""
    parts = [b": hello\r\n\r\n", b"data: {\n\n", b"data: [1]\n\n"]
    for event in events:
        text = json.dumps(event, ensure_ascii=False).encode()
        parts.append(b"id: 7\nevent: " + event["event"].encode() + b"\ndata: " + text + b"\r\n\r\n")
    return b"".join(parts)


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ([], ["1", "2", "3", "4"]),
        (["event=registered"], ["1", "3"]),
        (["event=registered", "user_id=u1"], ["1"]),
        (["ann"], ["3"]),
        (["type=ping", "n=4"], ["4"]),
        (["user_id=nobody"], []),
    ],
)
def test_events_are_filtered(filters: list[str], ids: list[str]) -> None:
    assert [event["id"] for event in EVENTS if all(Filter(one).holds(event) for one in filters)] == ids


async def test_events_are_read_to_the_end_of_the_stream_and_those_left_out_are_counted() -> None:
    asked: list[str] = []

    def answer(path: str) -> tuple[int, bytes]:
        asked.append(path)
        return 200, sent(EVENTS) + b'event: left_out\ndata: {"count":7}\n\n'

    async with fake_http(answer) as base_url:
        words = ["tail", "event=registered", "type=x", "--json", "--base-url", base_url]
        code, out, err = await portico(*words)
        assert (code, out, "has ended the events" in err) == (3, "", True)
        code, out, err = await portico("tail", "event=registered", "--json", "--base-url", base_url)
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["1", "3"]
    assert "7 events were left out" in err
    # The gateway is told what it can filter by.
    assert asked == ["/api/events?event=registered"] * 2


async def test_events_are_lines_that_nothing_raw_is_in() -> None:
    async with fake_http(lambda _: (200, sent(EVENTS[2:]))) as base_url:
        code, out, _ = await portico("tail", "--count", "1", "--base-url", base_url)
    assert code == 0
    assert out.rstrip("\n").isprintable()
    assert r'registered      {"user_id":"\u001b[31m\u2028Ann"}' in out


async def test_a_gateway_without_live_events_and_one_that_wants_a_key_say_so() -> None:
    answers = {
        404: ("not_found", "no live events"),
        401: ("unauthorized", "--api-key"),
    }
    for status, (code, said) in answers.items():
        error = {"error": {"code": code, "message": "m", "field": None}}
        async with fake_http(partial(lambda status, error, _: (status, error), status, error)) as base_url:
            with trio.fail_after(60):
                ended, out, err = await portico("tail", "--base-url", base_url)
        assert (ended, out) == (1 if status == 404 else 3, "")
        assert said in err
