"""What one connection may send in a second: a bucket for messages and one for bytes.

Reads no clock. Bursts of two seconds' worth are let through. `take` says whether a message is within the allowance;
what happens to a connection that is over it is decided elsewhere (it is closed, with 4029).
"""

from typing import Final

from service.core.token_bucket import TokenBucket

BURST_SECONDS: Final = 2.0


class Allowance:
    """The two buckets. A rate of 0 means no bound."""

    __slots__ = ("_bytes", "_messages")

    def __init__(self, messages_per_second: float, bytes_per_second: float, now: float) -> None:
        self._messages = _bucket(messages_per_second, now)
        self._bytes = _bucket(bytes_per_second, now)

    def take(self, size: int, now: float) -> bool:
        """Account for one message of `size` bytes at `now`, in seconds; False if it is one too many."""
        return (self._messages is None or self._messages.take(1, now)) and (
            self._bytes is None or self._bytes.take(size, now)
        )

    def take_bytes(self, size: int, now: float) -> bool:
        """Account for bytes of a message that is not whole yet; False if they are too many."""
        return self._bytes is None or self._bytes.take(size, now)


def _bucket(rate: float, now: float) -> TokenBucket | None:
    return TokenBucket(rate, rate * BURST_SECONDS, now) if rate else None
