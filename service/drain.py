"""Drain: every connection is told to go, each at a moment of its own, those with work in hand last.

Knows when to close whom, and nothing of sockets or HTTP. Promises: everybody has been sent a Close by the end of
the window, and whoever has a request under way not before it is answered, if that is within the window.
"""

from collections.abc import Callable
from random import Random
from typing import Final

import trio

from portico.wire.codes import CloseCode
from service.core.connections.session import Session
from service.core.gateway import Gateway

LAST_CALL: Final = 1.0
"""Seconds after the window in which those that were told to go may still say goodbye."""
LOOK: Final = 0.02
"""Seconds between two looks at what has no event of its own."""


async def drain(gateway: Gateway, seconds: float, connections: Callable[[], int], random: Random | None = None) -> None:
    """Close every connection of `gateway` within `seconds`, spread evenly; over at most LAST_CALL later.

    `connections`: how many there are still on the wire. `random`: what the moments are drawn from. Cancelling
    leaves those open that were not closed yet.
    """
    retry_within_ms = round(seconds * 1000)
    gateway.announce_drain(retry_within_ms)
    farewell = (CloseCode.RESTARTING, f"retry_within_ms={retry_within_ms}")
    start = trio.current_time()
    end = start + seconds
    moments = random or Random()
    plan = [(start + moments.uniform(0, seconds), session) for session in gateway.sessions]
    plan.sort(key=_moment, reverse=True)
    busy: list[Session] = []
    while plan or busy:
        now = trio.current_time()
        while plan and plan[-1][0] <= now:
            busy.append(plan.pop()[1])
        busy = [session for session in busy if not _closed(gateway, session, farewell)]
        if now >= end:
            break
        await trio.sleep_until(min(end, now + LOOK if busy else plan[-1][0] if plan else now))
    # Also those that were at their handshake when it began.
    for session in list(gateway.sessions):
        session.close(*farewell)
    last_call = trio.current_time() + LAST_CALL
    # Polled: an event that every connection's end had to look at would cost more than it tells.
    while (gateway.sessions or connections()) and trio.current_time() < last_call:  # noqa: ASYNC110
        await trio.sleep(LOOK)


def _closed(gateway: Gateway, session: Session, farewell: tuple[CloseCode, str]) -> bool:
    """Close it, unless it has work in hand. Whether it is over."""
    if session.over:
        return True
    if gateway.busy(session):
        return False
    session.close(*farewell)
    return True


def _moment(planned: tuple[float, Session]) -> float:
    return planned[0]
