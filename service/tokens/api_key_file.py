"""The file of API keys: read at the start, and again when it changes.

A file that can't be used (gone, not text, a line that is wrong) changes nothing: the keys that were last read well stay
in force, and the log says so, once for each thing that is wrong. Looking costs one `stat` a second. One that has
changed is read when nobody writes it any more (`settled`).
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from service.core.api_keys import ApiKey, ApiKeys, BadKeyLine, parse_file

from .keys import BadKey
from .sources import FILE_CHECK, KeyEvents, Stamp, settled

MAX_FILE: Final = 256 << 10
SOURCE: Final = "api_keys_file"


class ApiKeyFile:
    """Keeps `keys` as the file at `path` has them. `events` hears how it is doing."""

    def __init__(self, path: Path, keys: ApiKeys, events: KeyEvents) -> None:
        self._path = path
        self._keys = keys
        self._events = events
        self._seen: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Read the file. Raises BadKey where it can't be used; then nothing has changed."""
        try:
            self._seen = self._stamp()
            found = _read(self._path)
        except OSError as error:
            raise BadKey(f"The file cannot be read ({error.strerror}).") from None
        self._keys.replace(found)
        self._events.on_keys(SOURCE, len(found))

    async def run(self) -> None:
        """Look at the file until cancelled; cancelling is safe."""
        while True:
            await trio.sleep(FILE_CHECK)
            with suppress(OSError):  # `look` says so
                if self._stamp() != self._seen:
                    await settled(self._stamp)
            self.look()

    def look(self) -> None:
        """Read the file if it has changed."""
        try:
            if self._stamp() != self._seen:
                self.load()
        except BadKey as bad:
            self._events.on_key_trouble(SOURCE, str(bad))
        except OSError as error:
            self._seen = None
            self._events.on_key_trouble(SOURCE, f"The file cannot be read ({error.strerror}).")

    def _stamp(self) -> Stamp:
        stat = self._path.stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _read(path: Path) -> tuple[ApiKey, ...]:
    with path.open("rb") as file:
        raw = file.read(MAX_FILE + 1)
    if len(raw) > MAX_FILE:
        raise BadKey(f"The file is larger than {MAX_FILE} bytes.")
    try:
        return parse_file(raw.decode())
    except UnicodeDecodeError:
        raise BadKey("The file is not UTF-8 text.") from None
    except BadKeyLine as bad:
        raise BadKey(str(bad)) from None
