"""How Python's garbage collector is set for a process that holds many connections. Knows nothing of the gateway.

Connections are freed by reference counting; the collector is there for the cycles that HTTP requests and
exceptions leave. Its full collections look at every object there is, with the world standing still: at 10,000 clients
three times as long as anything else that the gateway does at a time. So what is there at the start is never looked
at again, and full collections are rare.

Nor is anything collected while the gateway is imported: nearly all of it stays, and looking through what there is again
and again as it grows is a sixth of a start.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

YOUNG: Final = 10_000
"""Container objects that are made, less those that are freed, between two collections of the young."""
MIDDLE: Final = 20
FULL: Final = 50


@contextmanager
def without_collections() -> Iterator[None]:
    """While the block imports, nothing is collected; afterwards what it has imported is set aside."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def settle_collector() -> None:
    """To be called once, when the process has imported everything."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, FULL)
