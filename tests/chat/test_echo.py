"""The gateway's own echo, and the reference worker's, which are alike."""

from typing import Any

import pytest
import trio

from portico.client import reference_worker
from service.chat.echo import MOST_PARTS, WORDS_SECONDS, echo, parts_of
from service.chat.in_process import Refusal


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Echo: hello  there\nyou ", ["Echo: ", "hello ", " there\n", "you "]),
        ("Echo: ", ["Echo: "]),
        ("Echo:  ", ["Echo: ", " "]),
    ],
)
def test_word_by_word(text: str, parts: list[str]) -> None:
    assert parts_of(text) == parts


@pytest.mark.parametrize("text", ["a " * 2_000_000, "wort " * 700, "x" * 5000, "  \n " * 999])
def test_a_long_text_has_few_parts_and_is_whole(text: str) -> None:
    parts = parts_of(text)
    assert len(parts) <= MOST_PARTS
    assert "".join(parts) == text
    assert reference_worker._in_words(text) == parts


async def test_it_streams_and_then_answers_as_ever(autojump_clock: trio.testing.MockClock) -> None:
    parts: list[Any] = []

    async def part(item: Any) -> None:
        parts.append(item)

    message = "one two " * 300
    assert await echo({"message": message}, stream=True, part=part) == f"Echo: {message}"
    assert "".join(item["delta"] for item in parts) == f"Echo: {message}"
    assert trio.current_time() <= WORDS_SECONDS + 0.1
    parts.clear()
    assert await echo({"message": "x"}, stream=False, part=part) == "Echo: x"
    assert parts == []


@pytest.mark.parametrize("params", [None, [], {}, {"message": 7}])
async def test_without_a_message(params: Any) -> None:
    async def part(item: Any) -> None:
        raise AssertionError

    with pytest.raises(Refusal, match="echo needs"):
        await echo(params, stream=True, part=part)
