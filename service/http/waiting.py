"""Waiting: how a handler gets what the core tells by a callback."""

from collections.abc import Callable
from typing import TypeVar

import trio

from portico.wire.faults import PeerFault
from service.core.reply import Reply

T = TypeVar("T")


async def answer_of(ask: Callable[[Reply[T | PeerFault]], None]) -> T:
    """What `ask` tells the callback that it is given; returns at once, with no other task between, where that was told
    at once. Raises PeerFault. Cancelling is safe, and takes back nothing of what was asked."""
    answers: list[T | PeerFault] = []
    heard: trio.Event | None = None

    def done(answer: T | PeerFault) -> None:
        answers.append(answer)
        if heard is not None:
            heard.set()

    reply = Reply(done)
    try:
        ask(reply)
        if not answers:
            heard = trio.Event()
            await heard.wait()
    finally:
        reply.withdraw()
    (answer,) = answers
    if isinstance(answer, PeerFault):
        raise answer
    return answer
