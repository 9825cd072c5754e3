"""When to come back after a connection was lost: arithmetic over a source of randomness.

Knows no clock and no network: the caller says what happened, and gets the seconds to wait. Promises full jitter (any
moment between now and the bound is as likely as any other, so that a thousand clients that were cut off together don't
come back together), a bound, and a fresh start after a connection that held.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

# A gateway that asks for more than this is misread or mistaken; nobody should be kept away so long.
LONGEST_WINDOW: Final = 600.0

_WINDOW = re.compile(r"\bretry_within_ms=(\d{1,12})(?!\d)")
_LARGEST_EXPONENT: Final = 64


@dataclass(frozen=True, slots=True)
class Backoff:
    """How patiently to come back.

    A delay is random, between 0 and a bound in seconds: `first` after one failure, `factor` (at least 1) times as
    much after each further one, and never more than `longest`. `stable_after`: seconds that a connection must have
    held for the count to start again; `max_attempts`: failures in a row after which to give up, None for never;
    `random`: floats in [0, 1), by default the system's, since processes that were forked from one another must not
    share a seed.

    Raises ValueError.
    """

    first: float = 0.5
    longest: float = 30.0
    factor: float = 2.0
    stable_after: float = 10.0
    max_attempts: int | None = None
    random: Callable[[], float] = field(default=random.SystemRandom().random, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.longest:
            raise ValueError("A back-off's first delay must lie between 0 and its longest.")
        if self.factor < 1:
            raise ValueError("A back-off's factor must be at least 1.")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ValueError("A back-off must allow at least one attempt.")


def window_in(reason: str) -> float | None:
    """The seconds within which a restarting node asks us back (`retry_within_ms=N`), if it says."""
    found = _WINDOW.search(reason)
    return min(int(found.group(1)) / 1000, LONGEST_WINDOW) if found else None


class Attempts:
    """The failures in a row of one program's connection, and the delay that follows from them."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self.failures = 0

    def record(self, lived: float = 0.0) -> None:
        """Note an attempt that failed, or a connection that was lost after `lived` seconds."""
        if lived >= self._backoff.stable_after > 0:
            self.failures = 0
        else:
            self.failures += 1

    @property
    def exhausted(self) -> bool:
        """Whether as many attempts as allowed have failed in a row."""
        limit = self._backoff.max_attempts
        return limit is not None and self.failures >= limit

    def delay(self, *, window: float | None = None, at_least: float = 0.0) -> float:
        """Seconds to wait before the next attempt.

        `window`: come back at a random moment within so many seconds, whatever failed before;
        `at_least`: seconds that the other side asked for, which jitter is added to.
        """
        if window is not None:
            return self._backoff.random() * window
        exponent = min(max(self.failures - 1, 0), _LARGEST_EXPONENT)
        bound = min(self._backoff.longest, self._backoff.first * self._backoff.factor**exponent)
        return min(at_least, LONGEST_WINDOW) + self._backoff.random() * bound
