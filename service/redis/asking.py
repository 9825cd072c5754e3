"""Asking on the way to Redis: a few questions on a connection that is made for them, or before anything else is said.

Knows who may be asked, and for how long; not what the answers mean. What goes wrong is one of FAULTS, and `reason`
puts it in words for operators, without passwords.
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from .address import Address
from .commands import Refusal, Unreachable, Word, asking, new_reader

FAULTS: Final = (OSError, trio.BrokenResourceError, trio.TooSlowError, Refusal, Unreachable, ValueError)

Questions = Sequence[Sequence[Word]]


async def ask(address: Address, questions: Questions, *, seconds: float) -> list[object]:
    """The answers of whoever is there, by a connection of their own."""
    with trio.fail_after(seconds):
        stream = await address.dial()
        try:
            return await _ask(address, stream, questions)
        finally:
            await trio.aclose_forcefully(stream)


async def dial_if(
    address: Address, questions: Questions, check: Callable[[list[object]], None], *, seconds: float
) -> trio.abc.Stream:
    """A connection whose other end has answered so that `check` did not raise."""
    with trio.fail_after(seconds):
        stream = await address.dial()
        try:
            check(await _ask(address, stream, questions))
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    return stream


def reason(error: Exception, seconds: float) -> str:
    """Why somebody could not be asked, as a clause; `seconds` is what it had."""
    match error:
        case Refusal():
            # What Redis says of AUTH may repeat the password.
            return f"it refuses ({error.word})"
        case trio.TooSlowError():
            return f"no answer within {seconds:g} s"
        case trio.BrokenResourceError():
            return "the connection broke"
        case OSError():
            return error.strerror or str(error) or type(error).__name__
    return str(error)


async def _ask(address: Address, stream: trio.abc.Stream, questions: Questions) -> list[object]:
    login = [command for command in address.greeting("") if command[0] == b"AUTH"]
    answers = await asking(stream, new_reader())([*login, *questions])
    return answers[len(login) :]
