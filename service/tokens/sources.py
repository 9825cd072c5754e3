"""Sources of keys: a shared secret, a file that is read again when it changes, a JWKS endpoint that is asked anew.

Whatever a source does, the keys that were last known to be good stay in force: a file that is being rewritten, an
endpoint that is gone, that answers with a login page, private keys, too much, too slowly or nothing usable, changes
nothing but a count and a line in the log. Two bounds: an endpoint's keys are given up MAX_STALE seconds after it last
gave some, and a key that it has withdrawn is refused from the next answer on, within REFRESH seconds.

A token with a key id that is not known makes the endpoint be asked at once, at most every MIN_BETWEEN seconds, so a
key that has just been rotated in works without waiting, and a stranger's invented key ids cost the endpoint nothing.
Until an answer has come that was asked for after such a token was first shown, nobody can say that its key doesn't
exist: see `JwksEndpoint.want`.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import trio

from portico.version import VERSION
from service.outgoing.fetch import NotFetched, fetch

from .keys import BadKey, KeyRing, public_keys

REFRESH: Final = 300.0
MIN_BETWEEN: Final = 10.0
RETRY: Final = 15.0
"""Seconds until an endpoint that failed is asked again."""
MAX_STALE: Final = 86_400.0
TIMEOUT: Final = 5.0
"""Seconds that a whole answer may take."""
MAX_ANSWER: Final = 256 << 10
MAX_UNKNOWN: Final = 1000
"""Key ids that are remembered as not there; of more the one that was shown first is forgotten."""
FILE_CHECK: Final = 1.0
"""Seconds between two looks at a file."""
SETTLED: Final = 0.2
"""Seconds that a file must have been as it is before it is read again."""
LONGEST_WRITING: Final = 2.0
"""Seconds after which one that goes on changing is read all the same."""
Stamp = tuple[int, int, int]
_NONE: Final = KeyRing()


class KeyEvents(Protocol):
    """Who hears how a source is doing."""

    def on_keys(self, source: str, count: int) -> None:
        """The source's keys are in force; `count` of them."""

    def on_key_trouble(self, source: str, problem: str) -> None:
        """The source could not be read; the older keys stay. `problem` is one sentence."""


async def settled(stamp: Callable[[], Stamp]) -> None:
    """Wait until nobody writes a file any more. Most programs empty a file and then write it: whoever reads it in
    between takes all keys for gone. `stamp` may raise OSError, and this doesn't. Cancelling is safe."""
    end = trio.current_time() + LONGEST_WRITING
    with suppress(OSError):
        before = stamp()
        while trio.current_time() < end:
            await trio.sleep(SETTLED)
            if before == (before := stamp()):
                return


class KeyFile:
    """Public keys in a file."""

    def __init__(self, path: Path, events: KeyEvents) -> None:
        self._path = path
        self._events = events
        self._seen: tuple[int, int, int] | None = None
        self.ring = KeyRing()

    def load(self) -> None:
        """Read the file. Raises BadKey where it can't be read or holds no usable key."""
        try:
            self._seen = self._stamp()
            text = self._path.read_bytes()
        except OSError as error:
            raise BadKey(f"The file cannot be read ({error.strerror}).") from None
        self.ring = public_keys(text)
        self._events.on_keys("file", len(self.ring))

    async def run(self) -> None:
        """Look at the file until cancelled; cancelling is safe. A bad file changes nothing and is told once."""
        while True:
            await trio.sleep(FILE_CHECK)
            try:
                if self._stamp() != self._seen:
                    await settled(self._stamp)
                    self.load()
            except BadKey as bad:
                self._events.on_key_trouble("file", str(bad))
            except OSError as error:
                if self._seen is not None:
                    self._events.on_key_trouble("file", f"The file cannot be read ({error.strerror}).")
                self._seen = None

    def _stamp(self) -> Stamp:
        stat = self._path.stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


class JwksEndpoint:
    """Public keys from a URL."""

    def __init__(self, url: str, events: KeyEvents, *, now: Callable[[], float] = trio.current_time) -> None:
        self._url = url
        self._events = events
        self._now = now
        self._ring = KeyRing()
        self._good_until = float("-inf")
        self._asked_at = float("-inf")
        self._wanted = trio.Event()
        self._unknown: dict[
            str, bool
        ] = {}  # key ids that were shown, and whether an answer has come since without them

    @property
    def ring(self) -> KeyRing:
        """The keys in force: empty before the first answer, and when the last good one is too old."""
        return self._ring if self._now() < self._good_until else _NONE

    def want(self, key_id: str | None) -> bool:
        """A token was shown whose key is not here (`key_id` None: it names none). Never waits.

        Whether the token may hold in a moment: the endpoint is asked soon, and until now nobody knows that it hasn't
        the key either. False once it has answered without it, so that whoever has a token of a key that was withdrawn
        is told to get another.
        """
        if not len(self.ring):
            self._wanted.set()
            return True
        if key_id is None:
            return False
        self._wanted.set()
        if key_id not in self._unknown and len(self._unknown) >= MAX_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]
        return not self._unknown.setdefault(key_id, False)

    async def run(self) -> None:
        """Ask until cancelled; cancelling is safe."""
        while True:
            pause = REFRESH if await self._ask() else RETRY
            with trio.move_on_after(pause):
                await self._wanted.wait()
            self._wanted = trio.Event()
            await trio.sleep(max(0.0, self._asked_at + MIN_BETWEEN - self._now()))

    async def _ask(self) -> bool:
        self._asked_at = self._now()
        asked_for = list(self._unknown)
        try:
            ring = await _fetched(self._url)
        except BadKey as bad:
            self._events.on_key_trouble("jwks", f"The answer is of no use: {bad}")
        except NotFetched as failure:
            self._events.on_key_trouble("jwks", f"There is no answer: {failure}.")
        else:
            for key_id in asked_for:
                if ring.knows(key_id):
                    self._unknown.pop(key_id, None)
                elif key_id in self._unknown:
                    self._unknown[key_id] = True
            self._ring = ring
            self._good_until = self._now() + MAX_STALE
            self._events.on_keys("jwks", len(ring))
            return True
        return False


def fetch_keys(url: str) -> KeyRing:
    """The keys of an endpoint, once. Waits; for programs that don't run trio. Raises BadKey."""
    try:
        return trio.run(_fetched, url)
    except NotFetched as failure:
        raise BadKey(f"The JWKS endpoint gives no answer: {failure}.") from None


async def _fetched(url: str) -> KeyRing:
    """Raises BadKey or NotFetched."""
    answer = await fetch(url, limit=MAX_ANSWER, timeout=TIMEOUT, agent=f"Portico/{VERSION}")
    if answer.status != 200:
        raise BadKey(f"its status is {answer.status}.")
    return public_keys(answer.body, published=True)
