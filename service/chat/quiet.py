"""httpx's own log lines about requests to the API are dropped: at level debug they have headers and bytes as the API
sent them, so also the key, if the API sends it back.

Only what is logged from within `quietly` is dropped: the rest of the process may use httpx as it likes.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_LOGGERS: Final = (
    "httpx",
    "httpcore.connection",
    "httpcore.http11",
    "httpcore.http2",
    "httpcore.proxy",
    "httpcore.socks",
)
_asking: ContextVar[bool] = ContextVar("portico_chat_asking", default=False)


class _NotOurs(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _asking.get()


_filter: Final = _NotOurs()


@contextmanager
def quietly() -> Iterator[None]:
    """Nothing of httpx's is logged that is said within."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)  # once, however often it is asked for
    token = _asking.set(True)
    try:
        yield
    finally:
        _asking.reset(token)
