"""TokenBucket: how much of something may be taken per second, with bursts.

Knows amounts and moments, and reads no clock. The rule: while there is at least 1 in the bucket, any amount may be
taken, and what was taken beyond what was there is owed. So one message of 5 MB passes where 1 MB a second are allowed,
and nothing passes after it until that is paid off: over time no more than the rate gets through. A refusal takes
nothing.
"""


class TokenBucket:
    """A bucket that fills at `rate` per second up to `burst`; full at first. All moments in seconds on one clock."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Take `amount` at `now`; False, and nothing taken, while there is less than 1."""
        tokens = self._tokens
        if now > self._at:
            tokens = min(self._burst, tokens + (now - self._at) * self._rate)
            self._tokens, self._at = tokens, now
        if tokens < 1:
            return False
        self._tokens = tokens - amount
        return True
