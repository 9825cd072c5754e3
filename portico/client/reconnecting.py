"""The life of a program's connection over many links: find, connect, live, lose, wait, again.

Shared by the client, the worker and the requester, which differ only in what they do while a link
stands. Knows the reconnect advice of the close codes (`portico.wire.codes`) and nothing of a dialect.
Promises that a connection that should not come back doesn't, and that no two attempts follow one
another without a jittered delay.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from portico.wire.codes import Advice, CloseCode, advice_for

from .address import Locate
from .backoff import Attempts, Backoff, window_in
from .errors import ConnectionLost, GaveUp, SentAway, Unreachable
from .events import Connecting, Lost, Report, Retrying
from .link import Link, LinkOptions, open_link

SYSTEM_RANDOM: Final = random.SystemRandom().random
"""The default source of jitter: processes forked from one another must not share a seed."""


async def stay_connected(
    locate: Locate,
    live: Callable[[Link], Awaitable[None]],
    *,
    options: LinkOptions,
    backoff: Backoff,
    report: Report,
    source: Callable[[], float] = SYSTEM_RANDOM,
    clock: Callable[[], float] = trio.current_time,
) -> None:
    """Run `live` on one link after another until it returns by itself.

    `source`: randomness in [0, 1); `clock`: seconds, to tell how long a link has held. Raises SentAway
    where the close code says not to come back, GaveUp when `backoff.max_attempts` have failed in a row
    (the last failure is its cause), and at once what no retry helps against (BadAddress,
    HandshakeRefused, or what else `live` raises). Cancelling is safe: it closes the link.
    """
    attempts = Attempts(backoff, source)
    while True:
        report(Connecting(locate.where, attempts.failures + 1))
        started: float | None = None
        window: float | None = None
        at_least = 0.0
        try:
            address = await locate.find()
            async with open_link(address, options, report) as link:
                started = clock()
                await live(link)
                return
        except ConnectionLost as lost:
            advice = advice_for(lost.code)
            if advice is Advice.NO:
                meaning = next(known.meaning for known in CloseCode if known == lost.code)
                raise SentAway(lost.code, lost.reason, meaning) from lost
            if advice is Advice.SPREAD:
                window = window_in(lost.reason)
            failure: Exception = lost
        except Unreachable as unreachable:
            at_least = unreachable.retry_after
            failure = unreachable
        attempts.record(0.0 if started is None else clock() - started)
        report(Lost(failure))
        if attempts.exhausted:
            raise GaveUp(attempts.failures, failure) from failure
        delay = attempts.delay(window=window, at_least=at_least)
        report(Retrying(delay))
        await trio.sleep(delay)
