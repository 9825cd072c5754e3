"""What the observer is told, and what it says: a line of JSON each.

Knows plain values; shared by the load test, which runs on gevent, and the observer, which doesn't.
"""

from __future__ import annotations

import msgspec

from loadtest._figures import Attempts
from loadtest._server import Sample


class Task(msgspec.Struct):
    """What it is to watch.

    Attributes:
        host: the gateway's base URL.
        metrics: where its processes give their metrics; None: at their usual places; empty: don't ask.
    """

    host: str
    api_key: str | None
    token: str | None
    metrics: list[str] | None
    timeout: float


class About(msgspec.Struct):
    """What a gateway says of itself."""

    websocket_url: str
    environment: str
    nodes: list[str]


class Observation(msgspec.Struct):
    """One second.

    Attributes:
        at: the Unix time at which it began.
        steps: what was measured and meant to begin in it.
        samples: what each process said of itself in it, or None where it did not answer, by address.
        about: told once.
    """

    at: float
    steps: dict[str, Attempts] = {}
    samples: list[tuple[str, Sample | None]] = []
    about: About | None = None
