"""Sources of keys: a shared secret, a file that is read again when it changes, a JWKS endpoint that is asked anew.

Whatever a source does, the keys that were last known to be good stay in force: a file that is being rewritten, an
endpoint that is gone, that answers with a login page, too much, too slowly or nothing usable, changes nothing but a
count and a line in the log. Two bounds: an endpoint's keys are given up MAX_STALE seconds after it last gave some, and
a key that it has withdrawn is refused from the next answer on, within REFRESH seconds.

A token with a key id that is not known makes the endpoint be asked at once, at most every MIN_BETWEEN seconds, so a
key that has just been rotated in works without waiting, and a stranger's invented key ids cost the endpoint nothing.
"""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import httpx
import trio

from .keys import BadKey, KeyRing, public_keys

REFRESH: Final = 300.0
MIN_BETWEEN: Final = 10.0
RETRY: Final = 15.0
"""Seconds until an endpoint that failed is asked again."""
MAX_STALE: Final = 86_400.0
TIMEOUT: Final = 5.0
"""Seconds that a whole answer may take."""
MAX_ANSWER: Final = 256 << 10
FILE_CHECK: Final = 1.0
"""Seconds between two looks at a file."""
_NONE: Final = KeyRing()


class KeyEvents(Protocol):
    """Who hears how a source is doing."""

    def on_keys(self, source: str, count: int) -> None:
        """The source's keys are in force; `count` of them."""

    def on_key_trouble(self, source: str, problem: str) -> None:
        """The source could not be read; the older keys stay. `problem` is one sentence."""


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
                    self.load()
            except BadKey as bad:
                self._events.on_key_trouble("file", str(bad))
            except OSError as error:
                if self._seen is not None:
                    self._events.on_key_trouble("file", f"The file cannot be read ({error.strerror}).")
                self._seen = None

    def _stamp(self) -> tuple[int, int, int]:
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

    @property
    def ring(self) -> KeyRing:
        """The keys in force: empty before the first answer, and when the last good one is too old."""
        return self._ring if self._now() < self._good_until else _NONE

    def want(self) -> None:
        """Somebody showed a key id that is not known: ask soon. Never waits."""
        self._wanted.set()

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
        try:
            with trio.fail_after(TIMEOUT):
                # In a thread: cut short, httpx's asynchronous bodies leave generators behind that nobody closes.
                ring = public_keys(await trio.to_thread.run_sync(_fetched, self._url, abandon_on_cancel=True))
        except BadKey as bad:
            self._events.on_key_trouble("jwks", f"The answer is of no use: {bad}")
        except trio.TooSlowError:
            self._events.on_key_trouble("jwks", f"There was no whole answer within {TIMEOUT:g} s.")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._events.on_key_trouble("jwks", f"It cannot be reached ({type(error).__name__}).")
        else:
            self._ring = ring
            self._good_until = self._now() + MAX_STALE
            self._events.on_keys("jwks", len(ring))
            return True
        return False


def fetch_keys(url: str) -> KeyRing:
    """The keys of an endpoint, once. Waits. Raises BadKey."""
    try:
        return public_keys(_fetched(url))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadKey(f"The JWKS endpoint cannot be reached ({type(error).__name__}).") from None


def _fetched(url: str) -> bytes:
    end = time.monotonic() + TIMEOUT
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    with (
        httpx.Client(
            # The authorities that this machine trusts (SSL_CERT_FILE), not those that httpx brings along.
            verify=False if url.startswith("http:") else ssl.create_default_context(),
            follow_redirects=False,
            trust_env=False,
            timeout=TIMEOUT,
        ) as http,
        http.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code != 200:
            raise BadKey(f"its status is {response.status_code}.")
        answer = bytearray()
        # As it comes, not unpacked: a packed answer is none that was asked for.
        for piece in response.iter_raw():
            answer += piece
            if len(answer) > MAX_ANSWER:
                raise BadKey(f"it is longer than {MAX_ANSWER} bytes.")
            if time.monotonic() > end:
                raise BadKey("it came too slowly.")
        return bytes(answer)
