"""The reference worker's commands: what `portico worker` serves, and an example to copy.

Knows no connection: plain functions from a request's data to its result. Promises that nothing which
comes over the network is ever evaluated or run.
"""

import math
import os
import platform
import re
import socket
import time
from datetime import datetime
from typing import Any, Final

import trio

from .handlers import CommandFailed, Handler, current_call, send_part

MOST_PARTS: Final = 200
"""Parts of a streamed echo; a long one has more words in each."""
LONGEST_IN_WORDS: Final = 4000
"""Characters of an echo that is cut where its words end; a longer one is cut anywhere."""
WORD_PAUSE: Final = 0.05
"""Seconds between two words, so that it can be seen to stream,"""
WORDS_SECONDS: Final = 2.0
"""and about how many all of a long echo take."""

_WORD: Final = re.compile(r"\s*\S+\s?|\s+")
_STARTED: Final = time.monotonic()


async def get_time(_data: Any) -> str:
    """The local time, as `2025-10-20 15:30:45`."""
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")


async def echo(data: Any) -> str:
    """`Echo: ` and the `message` that was given. Who asks for a stream gets it word by word first, as
    `{"delta": "word "}`. Raises CommandFailed without a message.
    """
    message = data.get("message") if isinstance(data, dict) else None
    if not isinstance(message, str):
        raise CommandFailed('echo needs {"message": "some text"}.')
    answer = f"Echo: {message}"
    if _stream_wanted():
        parts = _in_words(answer)
        for part in parts:
            await send_part({"delta": part})
            await trio.sleep(min(WORD_PAUSE, WORDS_SECONDS / len(parts)))
    return answer


def _stream_wanted() -> bool:
    try:
        return current_call().stream
    except LookupError:  # called as the plain function that it is
        return False


def _in_words(text: str) -> list[str]:
    pieces = _WORD.findall(text) if len(text) <= LONGEST_IN_WORDS else text
    step = -(-len(pieces) // MOST_PARTS)
    return ["".join(pieces[at : at + step]) for at in range(0, len(pieces), step)]


async def get_system_info(_data: Any) -> dict[str, Any]:
    """Where this worker runs: host, platform, Python, processors, process and its age in seconds."""
    return {
        "hostname": socket.gethostname(),
        "platform": platform.platform(),
        "python_version": platform.python_version(),
        "cpu_count": os.cpu_count(),
        "pid": os.getpid(),
        "uptime_seconds": round(time.monotonic() - _STARTED, 3),
    }


async def calculate(data: Any) -> int | float:
    """`a op b` for the four operators. Raises CommandFailed for anything else."""
    if not isinstance(data, dict):
        raise CommandFailed('calculate needs {"a": number, "b": number, "op": "+"}.')
    a, b, operator = _number(data, "a"), _number(data, "b"), data.get("op")
    try:
        match operator:
            case "+":
                result = a + b
            case "-":
                result = a - b
            case "*":
                result = a * b
            case "/":
                result = a / b
            case _:
                raise CommandFailed("op must be one of + - * /.")
        if math.isfinite(result):
            return result
    except ZeroDivisionError:
        raise CommandFailed("Division by zero.") from None
    except OverflowError:
        pass  # an integer that is no float any more, and of no use to a JSON reader either
    raise CommandFailed("The result is too large.")


def _number(data: dict[str, Any], name: str) -> int | float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CommandFailed(f"{name} must be a number.")
    return value


async def execute_command(_data: Any) -> None:
    """Always refuses. Raises CommandFailed."""
    raise CommandFailed("execute_command is refused: this worker runs nothing that comes over the network.")


COMMANDS: Final[dict[str, Handler]] = {
    "get_time": get_time,
    "echo": echo,
    "get_system_info": get_system_info,
    "calculate": calculate,
    "execute_command": execute_command,
}
