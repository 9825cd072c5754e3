"""Limits on who may connect: connections in all, per address, handshakes per second. 0 means no limit.

What one connection may send is the transports' affair. Source: protocol reference, "Limits".
"""

from collections import Counter
from typing import Final

from ..ports import HttpAnswer, Monotonic
from ..token_bucket import TokenBucket

RETRY_AFTER: Final = 5
"""Seconds that a refused client is asked to wait."""

_FULL: Final = "the gateway is at its limit of connections"
_FULL_FOR_ADDRESS: Final = "there are too many connections from this address"


class ConnectionLimits:
    """Counts connections, and says when there are too many."""

    def __init__(
        self,
        *,
        now: Monotonic,
        total: int,
        per_address: int,
        handshakes_per_second: float,
        refused: Counter[str] | None = None,
    ) -> None:
        # Where each refusal is counted, by the limit.
        self._refused: Counter[str] = Counter() if refused is None else refused
        self._now = now
        self._total = total
        self._per_address = per_address
        self._handshakes: TokenBucket | None = None
        if handshakes_per_second:
            self._handshakes = TokenBucket(handshakes_per_second, max(1.0, 2 * handshakes_per_second), now())
        self._open = 0
        self._by_address: Counter[str] = Counter()

    def check(self, address: str) -> HttpAnswer | None:
        """None if one more connection from `address` may come, else the answer that refuses it."""
        if self._handshakes is not None and not self._handshakes.take(1, self._now()):
            self._refused["handshakes"] += 1
            return _refuse("too many handshakes per second")
        if self._total and self._open >= self._total:
            self._refused["connections"] += 1
            return _refuse(_FULL)
        if self._per_address and self._by_address[address] >= self._per_address:
            self._refused["address"] += 1
            return _refuse(_FULL_FOR_ADDRESS)
        return None

    def came(self, address: str) -> str | None:
        """A connection was opened. Why it is one too many, where others came between its handshake and now."""
        self._open += 1
        if self._per_address:
            self._by_address[address] += 1
            if self._by_address[address] > self._per_address:
                self._refused["address"] += 1
                return _FULL_FOR_ADDRESS
        if self._total and self._open > self._total:
            self._refused["connections"] += 1
            return _FULL
        return None

    def went(self, address: str) -> None:
        """A connection is over."""
        self._open -= 1
        if self._per_address:
            self._by_address[address] -= 1
            if self._by_address[address] <= 0:
                del self._by_address[address]


def _refuse(problem: str) -> HttpAnswer:
    return HttpAnswer(
        503,
        (("content-type", "text/plain; charset=utf-8"), ("retry-after", str(RETRY_AFTER))),
        f"Not now: {problem}. Try again later, with back-off.\n".encode(),
    )
