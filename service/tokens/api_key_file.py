"""The file of API keys: what it says is in force, and nothing else. (When it is read: see `watched_file`.)"""

from pathlib import Path
from typing import Final

from service.core.api_keys import ApiKeys, BadKeyLine, parse_file

from .keys import BadKey, KeyEvents
from .watched_file import WatchedFile

SOURCE: Final = "api_keys_file"


def api_key_file(path: Path, keys: ApiKeys, events: KeyEvents) -> WatchedFile:
    """What keeps `keys` as the file at `path` has them. `events` hears how it is doing."""

    def use(raw: bytes) -> int:
        try:
            found = parse_file(raw.decode())
        except UnicodeDecodeError:
            raise BadKey("The file is not UTF-8 text.") from None
        except BadKeyLine as bad:
            raise BadKey(str(bad)) from None
        keys.replace(found)
        return len(found)

    return WatchedFile(path, SOURCE, use, events)
