"""Echo for the gateway's own page, which has something to show where no worker is connected and no key is set.

It serves the command `streaming.echo`, which no worker is asked for; `echo` itself goes to workers, as all commands do.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import trio

from .in_process import Command, Part, Refusal

COMMAND: Final = "streaming.echo"
MOST_PARTS: Final = 200
"""Parts of one answer; a long text has more words in each, so that it costs what one of its size may."""
LONGEST_IN_WORDS: Final = 4000
"""Characters of a text that is cut where its words end; a longer one is cut anywhere."""
WORD_PAUSE: Final = 0.05
"""Seconds between two words, so that it can be seen to stream,"""
WORDS_SECONDS: Final = 2.0
"""and about how many all of a long text take."""

_WORD: Final = re.compile(r"\s*\S+\s?|\s+")


def parts_of(text: str) -> list[str]:
    """A text word by word, in at most MOST_PARTS pieces."""
    pieces = _WORD.findall(text) if len(text) <= LONGEST_IN_WORDS else text
    step = -(-len(pieces) // MOST_PARTS)
    return ["".join(pieces[at : at + step]) for at in range(0, len(pieces), step)]


async def echo(params: object, *, stream: bool, part: Part) -> str:
    """As the reference worker's `echo`."""
    message = params.get("message") if isinstance(params, Mapping) else None
    if not isinstance(message, str):
        raise Refusal('echo needs {"message": "some text"}.')
    answer = f"Echo: {message}"
    if stream:
        parts = parts_of(answer)
        for piece in parts:
            await part({"delta": piece})
            await trio.sleep(min(WORD_PAUSE, WORDS_SECONDS / len(parts)))
    return answer


@asynccontextmanager
async def echo_commands() -> AsyncIterator[Mapping[str, Command]]:
    """What serves COMMAND."""
    yield {COMMAND: echo}
