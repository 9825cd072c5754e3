"""Drain: every connection is told to go, each at a moment of its own, those with work in hand last.

Knows when to close whom, and nothing of sockets. Promises: everybody has been sent a Close by the end of the window,
and whoever has a request under way not before it is answered, if that is within the window.

Requests go on being answered meanwhile. A worker that nobody can replace goes last, unless nobody is left who could ask
it anything; whoever asks workers is told to go within the first part of the window (ASKING of it), in which there are
workers. In the rest workers are sent nothing more and finish what they have, and what is asked still is refused.

A connection of HTTP that is kept for the next request can be told only by the answer to that. So the drain lasts,
within its window, until there are none, at most KEPT seconds: who asks nothing for so long is closed as idle in any
case. Who waits for a worker's answer has the whole window.
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
KEPT: Final = 5.0
"""Seconds that a kept connection of HTTP has for a request whose answer says that it ends."""
ASKING: Final = 0.75
"""The part of the window in which requests are taken."""
LOOK: Final = 0.02
"""Seconds between two looks at what has no event of its own."""


async def drain(
    gateway: Gateway,
    seconds: float,
    connections: Callable[[], int],
    random: Random | None = None,
    *,
    http: Callable[[], int] = lambda: 0,
) -> None:
    """Close every connection of `gateway` within `seconds`, spread evenly; over at most LAST_CALL later.

    `connections`: how many WebSockets there are still on the wire; `http`: how many connections of HTTP, which are told
    by their answers. `random`: what the moments are drawn from. Cancelling leaves those open that were not closed yet.
    """
    retry_within_ms = round(seconds * 1000)
    gateway.announce_drain(retry_within_ms)
    farewell = (CloseCode.RESTARTING, f"retry_within_ms={retry_within_ms}")
    start = trio.current_time()
    end = start + seconds
    moments = random or Random()
    asks_until = start + ASKING * seconds
    askers = [session for session in gateway.sessions if gateway.asks_workers(session)]
    plan = [
        (moments.uniform(start, asks_until if gateway.asks_workers(session) else end), session)
        for session in gateway.sessions
    ]
    plan.sort(key=_moment, reverse=True)
    busy: list[Session] = []
    while plan or busy:
        now = trio.current_time()
        while askers and askers[-1].over:
            askers.pop()
        if now >= asks_until or not (askers or http() or gateway.remote.has_others):
            gateway.dispatcher.drain()
        while plan and plan[-1][0] <= now:
            busy.append(plan.pop()[1])
        busy = [session for session in busy if not _closed(gateway, session, farewell)]
        if now >= end:
            break
        await trio.sleep_until(min(end, now + LOOK if busy else plan[-1][0] if plan else now))
    gateway.dispatcher.drain()
    # Also those that were at their handshake when it began.
    for session in list(gateway.sessions):
        session.close(*farewell)
    kept_until = min(end, start + KEPT)
    while http() and (now := trio.current_time()) < end:
        if now >= kept_until and not gateway.dispatcher.outstanding:
            break
        await trio.sleep(LOOK)
    last_call = trio.current_time() + LAST_CALL
    # Polled: an event that every connection's end had to look at would cost more than it tells.
    while (gateway.sessions or connections()) and trio.current_time() < last_call:  # noqa: ASYNC110
        await trio.sleep(LOOK)


def _closed(gateway: Gateway, session: Session, farewell: tuple[CloseCode, str]) -> bool:
    """Close it, unless it has work in hand. Whether it is over."""
    if session.over:
        return True
    if session.worker is not None and not gateway.dispatcher.release_worker(session.worker):
        return False
    if gateway.busy(session):
        return False
    session.close(*farewell)
    return True


def _moment(planned: tuple[float, Session]) -> float:
    return planned[0]
