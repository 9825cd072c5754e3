"""The JWKS endpoint: public keys from a URL that is asked anew.

Whatever it does, the keys that were last known to be good stay in force: an endpoint that is gone, that answers with a
login page, private keys, too much, too slowly or nothing usable, changes nothing but a count and a line in the log. Two
bounds: its keys are given up MAX_STALE seconds after it last gave some, and a key that it has withdrawn is refused from
the next answer on, within REFRESH seconds.

A token with a key id that is not known makes the endpoint be asked at once, at most every MIN_BETWEEN seconds, so a
key that has just been rotated in works without waiting, and a stranger's invented key ids cost the endpoint nothing.
Until an answer has come that was asked for after such a token was first shown, nobody can say that its key doesn't
exist: see `JwksEndpoint.want`.

Some endpoints put a new key in the place of the old one, under its id. So a token whose signature doesn't hold by a
key of the endpoint's makes it be asked too, within the same bound. The token is told to come again only where that
happens at once; else it is refused, so that forged ones are refusals and count as such. See `JwksEndpoint.doubt`.
"""

from collections.abc import Callable
from typing import Final

import trio

from portico.version import VERSION
from service.outgoing.fetch import NotFetched, fetch

from .keys import BadKey, KeyEvents, KeyRing, public_keys

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
_NONE: Final = KeyRing()


class JwksEndpoint:
    """Public keys from a URL."""

    def __init__(self, url: str, events: KeyEvents, *, now: Callable[[], float] = trio.current_time) -> None:
        self._url = url
        self._events = events
        self._now = now
        self._ring = KeyRing()
        self._good_until = float("-inf")
        self._asked_at = float("-inf")
        self._asking = False
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

        Returns whether the key may still come: the endpoint is asked soon, and has not answered without this key since
        it was first wanted. Once it has, this is False, so that a client whose key was withdrawn is told to get another
        token.
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

    def doubt(self, key_id: str | None) -> bool:
        """A token was shown whose signature doesn't hold by the key of this id (None: by any). Never waits.

        Returns whether another key of this id may come: the endpoint has such a key, and is being asked or is asked at
        once. False if it was asked less than MIN_BETWEEN seconds ago; it is asked again when they are over.
        """
        ring = self.ring
        if not (ring.knows(key_id) if key_id is not None else len(ring)):
            return False
        awaited = self._asking or self._now() >= self._asked_at + MIN_BETWEEN
        self._wanted.set()
        return awaited

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
        self._asking = True
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
        finally:
            self._asking = False
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
