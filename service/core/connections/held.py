"""Held: what waits for a session that is joining, in the order in which it goes out.

Three kinds of things wait: registrations that are not answered yet; the replay of what an answered one missed; and
pushes, each behind what was there when it came. Knows sizes and order only. Bounded in messages and in bytes; a replay
is not counted, since the history has its events anyway. What an answer accounts for is not sent after it: durable
events up to its offsets, and the gaps from before it.
"""

from collections import deque
from collections.abc import Container, Iterable
from typing import Final, NamedTuple, Protocol

from portico.wire.frame import Frame
from portico.wire.messages import Event

MAX_HELD: Final = 10_000
MAX_HELD_BYTES: Final = 16 << 20
"""Messages that may be held for a session, and their bytes. With more the session is closed, and its client may come
back and resume. A single message may have any size."""


class HeldMessage(NamedTuple):
    """A message that waits. A durable event has `stream` and `offset`; a `stream_gap` has `stream` only."""

    frame: Frame
    stream: str | None
    offset: int | None


class Registering(Protocol):
    """One registration that is not answered yet; what is held behind it waits for that."""

    @property
    def complete(self) -> bool:
        """Whether it can be answered."""


class Replay:
    """The events that a client missed and has not been sent yet."""

    __slots__ = ("events",)

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = deque(events)


class Held:
    """What waits for one session."""

    __slots__ = ("answered", "epoch", "given", "items", "messages", "size", "unanswered", "waits_for_room")

    def __init__(self) -> None:
        self.items: deque[HeldMessage | Registering | Replay] = deque()
        self.messages = 0
        self.size = 0  # bytes
        self.unanswered = 0  # registrations
        self.answered = False  # whether any registration was
        self.epoch = ""  # of the last answer
        # Of each stream: the offset after which, and that up to which, the answers so far have given all events.
        self.given: dict[str, tuple[int, int]] = {}
        self.waits_for_room = False  # the peer was asked to tell when it has room

    def expect(self, registering: Registering) -> None:
        """What is held from now on goes out after this registration's answer."""
        self.items.append(registering)
        self.unanswered += 1

    def replay(self, events: Iterable[Event]) -> None:
        """These go out before everything else that is held."""
        self.items.appendleft(Replay(events))

    def on_answered(self, epoch: str) -> None:
        """A registration was answered in this epoch. What was given in another one is over."""
        if epoch != self.epoch:
            self.given.clear()
        self.epoch, self.answered = epoch, True

    def account_for(self, stream: str, after: int, offset: int) -> None:
        """An answer gives all events of a stream after the offset `after` and up to `offset`: note it, so that none of
        them is given again, whichever registration it is held behind."""
        known = self.given.get(stream)
        self.given[stream] = (after, offset) if known is None else (min(after, known[0]), max(offset, known[1]))

    def given_up_to(self, stream: str, epoch: str) -> int:
        """The offset up to which the answers so far have given a stream of this epoch; -1 if they gave none of it."""
        return self.given[stream][1] if epoch == self.epoch and stream in self.given else -1

    def begins(self, stream: str, after: int, epoch: str) -> int:
        """The offset after which a replay begins: `after`, or the end of what earlier answers gave from there on."""
        known = self.given.get(stream) if epoch == self.epoch else None
        return max(after, known[1]) if known is not None and known[0] <= after else after

    def supersede_gaps(self, streams: Container[str]) -> None:
        """Drop the held gaps of these streams: an answer that is about to be given says where the streams are and what
        is lost of them, and an older gap behind it would lead the client back."""
        kept: deque[HeldMessage | Registering | Replay] = deque()
        for item in self.items:
            if isinstance(item, HeldMessage) and item.offset is None and item.stream in streams:
                self.messages -= 1
                self.size -= len(item.frame.payload)
            else:
                kept.append(item)
        self.items = kept

    def owes(self, message: HeldMessage) -> bool:
        """Whether a message that was held is to be sent."""
        _, stream, offset = message
        return self.answered and (stream is None or offset is None or offset > self._given(stream))

    def first_offsets(self) -> dict[str, int]:
        """By stream, the offset of the first durable event that is held and was not given yet. 0 where a gap of the
        stream is held: until it is told nobody knows what the client has."""
        first: dict[str, int] = {}
        for item in self.items:
            if not isinstance(item, HeldMessage) or item.stream is None:
                continue
            if item.offset is None:
                first[item.stream] = 0
            elif item.offset > self._given(item.stream):
                first.setdefault(item.stream, item.offset)
        return first

    def add(self, message: HeldMessage) -> bool:
        """Hold a message; False where it is one too many."""
        self.messages += 1
        self.size += len(message.frame.payload)
        if self.messages > MAX_HELD or (self.size > MAX_HELD_BYTES and self.messages > 1):
            return False
        self.items.append(message)
        return True

    def take(self) -> None:
        """Take out what is first."""
        item = self.items.popleft()
        if isinstance(item, HeldMessage):
            self.messages -= 1
            self.size -= len(item.frame.payload)
        elif not isinstance(item, Replay):
            self.unanswered -= 1

    def _given(self, stream: str) -> int:
        return self.given_up_to(stream, self.epoch)
