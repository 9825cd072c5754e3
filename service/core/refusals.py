"""Refusals: who was turned away, and why: counted by cause, told, and slowed down where somebody guesses.

Every refusal of a caller comes by here: of an origin, a host, a key, a token, a limit. One metric counts them by cause;
the audit log and the journal are told cause and address, each within its own rate.

An address from which GUESSES wrong keys or tokens came is slowed down: from then on one more is looked at every
SECONDS_PER_GUESS, and in between API keys and handshake keys from there don't count, so that a right guess looks like a
wrong one. Others behind the same address (of IPv6, the same /64) go on: a key that was right from there
before is let through, and so is a token whose signature holds, which nobody can guess. Behind a trusted proxy the
address is the client's. Failures are forgotten as time passes.

The table is bounded: of more than ADDRESSES the one that failed longest ago begins anew.
Source: protocol reference, "Limits".
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from portico.wire.codes import CloseCode, ErrorCode

from .api_keys import ApiKey, ApiKeys, bearer, digest_of
from .audit import Audit
from .hosts import network
from .ports import Monotonic
from .proof import Caused

GUESSES: Final = 20
SECONDS_PER_GUESS: Final = 5.0
ADDRESSES: Final = 20_000

_GUESSED: Final = frozenset(
    {
        "algorithm", "api_key", "audience", "claims", "issuer", "malformed", "signature", "too_long", "unknown_key",
        "worker_secret",
    }
)  # fmt: skip
"""Causes that count as a guess. To show nothing, or what has expired or was taken back, is no guess."""


class SlowedDown(Caused):
    """Too many wrong keys or tokens came from this address (4029)."""

    def __init__(self, wait: float) -> None:
        super().__init__(
            ErrorCode.RATE_LIMITED,
            "There were too many wrong keys or tokens from this address; try again later.",
            close=CloseCode.RATE_LIMITED,
            retry_after=wait,
        )
        self.cause = "slowed_down"


class Refusals:
    """The one place that refusals are told to. `tell(cause, address)` writes a line about one; it may not raise."""

    def __init__(self, audit: Audit, tell: Callable[[str, str], None], *, now: Monotonic) -> None:
        self._audit = audit
        self._tell = tell
        self._now = now
        self.counted: Final[Counter[str]] = Counter()
        """Refusals, by cause."""
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how many there were, and when
        self._proven: OrderedDict[tuple[str, bytes], None] = OrderedDict()  # which secrets were right, from where

    def on_refused(self, cause: str, address: str) -> None:
        """Somebody was refused."""
        self.on_fault(cause, address)
        self._tell(cause, address)

    def on_fault(self, cause: str, address: str) -> None:
        """As `on_refused`, but without a line: a connection's message was refused, for which the journal has one."""
        self.counted[cause] += 1
        self._audit.on_refused(cause, address)
        if cause in _GUESSED:
            self._on_guess(network(address))

    def wait(self, address: str) -> float:
        """Seconds until another guess from this address is looked at; 0: it is now."""
        if not self._failures:
            return 0.0
        found = self._failures.get(network(address))
        return 0.0 if found is None else max(0.0, (self._left(*found) - GUESSES + 1) * SECONDS_PER_GUESS)

    def check(self, address: str, secret: str) -> None:
        """Whether a secret from this address may be compared now. Raises SlowedDown, closing."""
        wait = self.wait(address)
        if wait and (network(address), digest_of(secret)) not in self._proven:
            raise SlowedDown(wait)

    def key_of(self, keys: ApiKeys, authorization: str | None, address: str) -> ApiKey | None:
        """The API key that an Authorization header bears; None while the address is slowed down, unless it was right
        from there before."""
        secret = bearer(authorization)
        if secret is None or (self.wait(address) and (network(address), digest_of(secret)) not in self._proven):
            return None  # not even compared: a right guess would take longer than a wrong one
        key = keys.find(secret)
        if key is not None:
            self._on_proven(network(address), key.digest)
        return key

    def on_proven(self, address: str, secret: str) -> None:
        """A secret from this address was right."""
        self._on_proven(network(address), digest_of(secret))

    def _on_proven(self, name: str, digest: bytes) -> None:
        proven = (name, digest)
        if proven in self._proven:
            self._proven.move_to_end(proven)
            return
        if len(self._proven) >= ADDRESSES:
            self._proven.popitem(last=False)
        self._proven[proven] = None

    def _on_guess(self, name: str) -> None:
        found = self._failures.pop(name, None)
        if found is None and len(self._failures) >= ADDRESSES:
            self._failures.popitem(last=False)
        failed = 1.0 if found is None else self._left(*found) + 1
        # Bounded: many guesses at the same time must not slow the address down for hours.
        self._failures[name] = (min(failed, 2.0 * GUESSES), self._now())

    def _left(self, failed: float, at: float) -> float:
        return max(0.0, failed - (self._now() - at) / SECONDS_PER_GUESS)
