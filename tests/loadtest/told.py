"""A link without a network, for tests of who owns one."""

import json
import time
from collections import deque
from typing import Any


class Told:
    """A link on which a test says what the gateway would."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.opened = time.time()
        self.kept: deque[tuple[bool, float, bytes]] = deque(maxlen=8)

    def attach(self, owner: Any) -> None:
        self._owner = owner

    def send(self, payload: bytes, *, kept: bytes | None = None) -> None:
        self.kept.append((True, time.time(), kept or payload))
        self.sent.append(json.loads(payload))

    def send_frame(self, frame: bytes, payload: bytes) -> None:
        self.kept.append((True, time.time(), payload))
        self.sent.append(json.loads(payload))

    def says(self, *messages: object, at: float | None = None) -> None:
        """All of them now, or at that Unix time."""
        for message in messages:
            payload = message if isinstance(message, bytes) else json.dumps(message).encode()
            arrived = time.time() if at is None else at
            self.kept.append((False, arrived, payload))
            self._owner.on_message(payload, arrived, binary=payload[:1] == b"\xff")
