"""A file of keys: read at the start, and again when it changes.

A file that can't be used (gone, too large, no regular file, with something wrong in it) changes nothing: what was last
read well stays in force, and `events` hears what is wrong, at each look where the file can't be read. Looking costs one
`stat` a second. One that has changed is read when nobody writes it any more: most programs empty a file and then write
it, and whoever reads it in between takes all keys for gone.

Knows no keys: what the file says is `use`'s affair.
"""

from collections.abc import Callable
from contextlib import suppress
from errno import EFBIG
from pathlib import Path
from typing import Final

import trio

from service.regular_file import read_regular_file

from .keys import BadKey, KeyEvents

MAX_FILE: Final = 256 << 10
CHECK: Final = 1.0
"""Seconds between two looks at a file."""
SETTLED: Final = 0.2
"""Seconds that a file must have been as it is before it is read again."""
LONGEST_WRITING: Final = 2.0
"""Seconds after which a file that goes on changing is read all the same."""


class WatchedFile:
    """`use` gets the bytes of the file at `path`, puts the keys in them in force, and returns how many there are; it
    raises BadKey for what can't be used, and then changes nothing. `events` hears of both, under the name `source`."""

    def __init__(self, path: Path, source: str, use: Callable[[bytes], int], events: KeyEvents) -> None:
        self._path = path
        self._source = source
        self._use = use
        self._events = events
        self._seen: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Read the file. Raises BadKey where it can't be used; then nothing has changed."""
        try:
            self._seen = self._stamp()
            raw = read_regular_file(self._path, MAX_FILE)
        except OSError as error:
            if error.errno != EFBIG:  # as long as that stays as it is, it need not be read again
                self._seen = None
            raise BadKey(f"The file cannot be read ({error.strerror}).") from None
        self._events.on_keys(self._source, self._use(raw))

    async def run(self) -> None:
        """Look at the file until cancelled; cancelling is safe."""
        while True:
            await trio.sleep(CHECK)
            await self._settled()
            self.look()

    def look(self) -> None:
        """Read the file if it has changed."""
        try:
            if self._stamp() != self._seen:
                self.load()
        except BadKey as bad:
            self._events.on_key_trouble(self._source, str(bad))
        except OSError as error:
            self._seen = None
            self._events.on_key_trouble(self._source, f"The file cannot be read ({error.strerror}).")

    async def _settled(self) -> None:
        """Wait until nobody writes the file any more. Cancelling is safe."""
        end = trio.current_time() + LONGEST_WRITING
        with suppress(OSError):  # `look` says so
            if (before := self._stamp()) == self._seen:
                return
            while trio.current_time() < end:
                await trio.sleep(SETTLED)
                if before == (before := self._stamp()):
                    return

    def _stamp(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size
