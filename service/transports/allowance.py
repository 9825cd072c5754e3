"""What one connection may send in a second: a token bucket for messages and one for bytes.

Reads no clock. Bursts of two seconds' worth are let through; a connection that is over is told so by
`take`, and what happens to it is not decided here.
"""

from typing import Final

BURST_SECONDS: Final = 2.0


class Allowance:
    """The two buckets. A rate of 0 means no bound."""

    __slots__ = ("_at", "_bytes", "_bytes_rate", "_messages", "_messages_rate")

    def __init__(self, messages_per_second: float, bytes_per_second: float, now: float) -> None:
        self._messages_rate = messages_per_second
        self._bytes_rate = bytes_per_second
        self._messages = messages_per_second * BURST_SECONDS
        self._bytes = bytes_per_second * BURST_SECONDS
        self._at = now

    def take(self, size: int, now: float) -> bool:
        """Account for one message of `size` bytes at `now`, in seconds; False if it is one too many."""
        if now > self._at:
            passed, self._at = now - self._at, now
            self._messages = min(self._messages + passed * self._messages_rate, self._messages_rate * BURST_SECONDS)
            self._bytes = min(self._bytes + passed * self._bytes_rate, self._bytes_rate * BURST_SECONDS)
        self._messages -= 1
        # A message may be bigger than two seconds' worth: it is let through when nothing is owed, and then
        # paid off by the ones that follow.
        enough = (not self._messages_rate or self._messages >= 0) and (not self._bytes_rate or self._bytes > 0)
        self._bytes -= size
        return enough
