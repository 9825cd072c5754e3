"""Importing the gateway without rich.

structlog and httpx import rich, and with it Pygments, wherever they are installed: for tracebacks in a form that the
gateway never shows, and for a command of httpx's own. The console's tables need rich, so it is installed; a gateway
process would carry some 10 MB of it for nothing. structlog imports greenlet likewise, which other programs bring along,
and trio's tasks are none.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_HIDDEN: Final = ("rich", "pygments", "greenlet")


@contextmanager
def without_rich() -> Iterator[None]:
    """While the block imports, there is no rich. Later imports of it, such as an extension's own, find it as usual."""
    hidden = [name for name in _HIDDEN if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # None is how Python is told that there is no such module
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
