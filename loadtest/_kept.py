"""One user's durable pushes: what was sent, what came, over all the connections that the user has in turn.

Knows sequence numbers and positions; never sockets. It promises to tell apart what came twice, what came behind a later
one, what is missing, and a position that doesn't fit the receipt.
"""

from __future__ import annotations

from typing import Any


class KeptPushes:
    """Attributes:
    in_flight: a push of this user's is being sent: the next one waits, as only then their order is known.
    sequence: of the last one that was sent.
    epoch, offsets: the position to resume from; no epoch before the first registration that gave one.
    """

    __slots__ = ("_last", "_missing", "_receipts", "epoch", "in_flight", "offsets", "sequence", "user")

    def __init__(self, user: str) -> None:
        self.user = user
        self.in_flight = False
        self.sequence = 0
        self.epoch: str | None = None
        self.offsets: dict[str, int] = {}
        self._last = 0
        self._missing: set[int] = set()
        self._receipts: dict[int, int] = {}

    @property
    def stream(self) -> str:
        """The name of the user's stream."""
        return f"user:{self.user}"

    def resume(self) -> dict[str, Any] | None:
        """What to register with, to get what was missed."""
        return {"epoch": self.epoch, "offsets": self.offsets} if self.epoch and self.offsets else None

    def on_registered(self, epoch: str, offsets: dict[str, int]) -> None:
        """A registration's answer gave this position; positions never go back."""
        if epoch != self.epoch:
            self.offsets = {}
        self.epoch = epoch
        for stream, offset in offsets.items():
            self.offsets[stream] = max(offset, self.offsets.get(stream, offset))

    def on_receipt(self, sequence: int, stream: object, offset: object) -> str | None:
        """The gateway says that it kept it there; what is wrong about that."""
        if stream != self.stream or not isinstance(offset, int):
            return "a receipt without the stream and offset of a durable push"
        known = self._receipts.pop(sequence, None)
        if known is None:
            self._receipts[sequence] = offset
        elif known != offset:
            return "a receipt with another offset than the push"
        return None

    def receive(self, sequence: int, stream: object, offset: object) -> tuple[str, str | None]:
        """What a durable push is that came: `new`, `doubled` or `reordered`; and what is wrong about its position."""
        wrong: str | None = None
        if stream != self.stream or not isinstance(offset, int):
            wrong = "a durable push without its stream and offset"
        else:
            self.offsets[self.stream] = max(offset, self.offsets.get(self.stream, 0))
            known = self._receipts.pop(sequence, None)
            if known is None:
                self._receipts[sequence] = offset
            elif known != offset:
                wrong = "a receipt with another offset than the push"
        if sequence > self._last:
            self._missing.update(range(self._last + 1, sequence))
            self._last = sequence
            return "new", wrong
        if sequence in self._missing:
            self._missing.discard(sequence)
            return "reordered", wrong
        self._receipts.pop(sequence, None)
        return "doubled", wrong
