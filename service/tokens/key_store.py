"""KeyStore: every key in force, whichever sources it comes from, and the one check of tokens against them.

A secret and public keys may be used together: each checks its own algorithms only.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from .jwks_endpoint import JwksEndpoint
from .keys import KeyEvents, KeyRing, public_keys, secret_key
from .tokens import TokenVerifier
from .watched_file import WatchedFile


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Where keys come from, and what tokens must say. `leeway` in seconds, for clocks that differ."""

    secret: str | None = None
    key_file: Path | None = None
    jwks_url: str | None = None
    issuer: str | None = None
    audience: Collection[str] = ()
    leeway: float = 30.0


class KeyStore:
    """The keys of one node. Raises BadKey where a secret or file cannot be used; an endpoint may come later. `more`:
    keys that somebody else has read already."""

    def __init__(
        self, rules: TokenRules, events: KeyEvents, *, wall: Callable[[], float], more: KeyRing | None = None
    ) -> None:
        self._fixed = KeyRing() if rules.secret is None else secret_key(rules.secret)
        if more is not None:
            self._fixed = self._fixed.with_more(more)
        self._in_file: KeyRing | None = None
        self._file = None if rules.key_file is None else WatchedFile(rules.key_file, "file", self._use_file, events)
        self._endpoint = None if rules.jwks_url is None else JwksEndpoint(rules.jwks_url, events)
        if self._file is not None:
            self._file.load()
        self.verifier = TokenVerifier(
            self.ring,
            wall=wall,
            issuer=rules.issuer,
            audience=rules.audience,
            leeway=rules.leeway,
            on_unknown_key=self._on_unknown_key,
            on_doubt=self._on_doubt,
        )
        self._made_of: tuple[KeyRing | None, KeyRing | None] = (None, None)
        self._ring = self._fixed

    def ring(self) -> KeyRing:
        """The keys of the moment."""
        parts = (self._in_file, None if self._endpoint is None else self._endpoint.ring)
        if parts[0] is not self._made_of[0] or parts[1] is not self._made_of[1]:
            self._ring = self._fixed
            for part in parts:
                if part is not None:
                    self._ring = self._ring.with_more(part)
            self._made_of = parts
        return self._ring

    @property
    def trouble(self) -> str | None:
        """Why no token can be checked; None where some can."""
        return None if len(self.ring()) else "no keys to check tokens with have been read yet"

    async def run(self) -> None:
        """Keep the keys fresh until cancelled; cancelling is safe."""
        async with trio.open_nursery() as nursery:
            if self._file is not None:
                nursery.start_soon(self._file.run)
            if self._endpoint is not None:
                nursery.start_soon(self._endpoint.run)
            await trio.sleep_forever()

    def _use_file(self, text: bytes) -> int:
        self._in_file = public_keys(text)
        return len(self._in_file)

    def _on_unknown_key(self, key_id: str | None) -> bool:
        return self._endpoint is not None and self._endpoint.want(key_id)

    def _on_doubt(self, key_id: str | None) -> bool:
        return self._endpoint is not None and self._endpoint.doubt(key_id)


class KeyLog:
    """Tells the log how the sources of keys are doing: once for each change."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log
        self._last: dict[str, str | int] = {}

    def on_keys(self, source: str, count: int) -> None:
        """Keys are in force."""
        if self._last.get(source) != count:
            self._last[source] = count
            self._log.info("keys are in force", source=source, keys=count)

    def on_key_trouble(self, source: str, problem: str) -> None:
        """The older keys stay."""
        if self._last.get(source) != problem:
            self._last[source] = problem
            self._log.warning("keys could not be read; the older ones stay", source=source, problem=problem)
