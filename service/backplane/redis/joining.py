"""Joining: one target that a node follows, and one join that is not answered yet; the two know each other.

State, and what follows from it alone; `following` moves it.
"""

from typing import Final

from portico.wire.messages import Event
from service.core.cluster.backplane import Joined, StreamPositions
from service.core.reply import Reply

from .payloads import Arrival
from .reading import Kept

EPOCHS_HAD: Final = 8
"""For each target: epochs of which is remembered how far a client says that it had come."""

Counts = tuple[int, int]
"""How many a push matched, and to how many it was handed."""


class Followed:
    """One target that this node has joined.

    `position` and its `epoch`: how far it has come (None: not known yet). `unknown`: somebody was let in without a
    position, and must be told. `had`: the last few epochs that this node did not know when a client named them, and the
    highest offset that a client says to have in each.
    `held` None: nothing is held back. `log`: what arrived since a reading began. `watched`: the joins that know where
    this stream is, and wait for others. `joined_at`: when the last of the `joined` connections came.
    """

    __slots__ = (
        "epoch",
        "had",
        "held",
        "held_bytes",
        "joined",
        "joined_at",
        "joins",
        "known",
        "log",
        "position",
        "stream",
        "subscribed",
        "unknown",
        "watched",
    )

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.joined = 0
        self.joined_at = 0.0
        self.subscribed = False
        self.position: int | None = None
        self.epoch = ""
        self.unknown = False
        self.had: dict[str, int] | None = None
        self.held: list[Arrival] | None = []
        self.held_bytes = 0
        self.log: list[Event] | None = None
        self.joins: list[tuple[Join, int | None]] = []
        self.known: dict[int, Counts] = {}
        self.watched: dict[Join, None] = {}

    def note_had(self, epoch: str, offset: int) -> None:
        """A client says that it has this epoch's events up to this offset. The node may learn of the epoch later.
        Clients may say anything, so several epochs are remembered, and no more than EPOCHS_HAD."""
        had = self.had = self.had or {}
        had[epoch] = max(offset, had.pop(epoch, offset))
        if len(had) > EPOCHS_HAD:
            del had[next(iter(had))]

    def hold(self) -> None:
        """From now on nothing is delivered until it is released."""
        if self.held is None:
            self.held, self.held_bytes = [], 0

    def first_held(self, word: bytes) -> Arrival | None:
        """The first durable event of an epoch that is held back."""
        return next((one for one in self.held or () if one.offset is not None and one.epoch == word), None)

    def between(self, kept: Kept, after: int, end: int, now: int) -> list[Event]:
        """What happened after one offset and up to another, read or heard meanwhile."""
        events = kept.events(after, end, now)
        after = max(after, kept.after)
        events += (event for event in self.log or () if event.offset is not None and after < event.offset <= end)
        return events

    def let_in(self, join: "Join", epoch: str) -> None:
        """Answer a join for a stream that could not be read, with a position such that nothing is missed without a
        `stream_gap`. The position is the highest offset that this node has seen or that the client names. Where clients
        come with different ones, those who may miss something in between get a `stream_gap` later. A client that has
        come further than the node has seen is `ahead`: the others are still to be given what it has had."""
        resume = join.resume
        had = None if resume is None or resume.epoch != epoch else resume.offsets.get(self.stream)
        least = max(join.seen, had or 0)
        if not epoch or not least:
            self.unknown = True
            return
        if had is not None and had > join.seen:
            join.ahead[self.stream] = had
        if self.position is None or self.epoch != epoch:
            self.unknown = self.unknown or self.position is not None
            self.position, self.epoch = least, epoch
        elif had is not None and had > self.position:
            join.offsets[self.stream] = had
            return
        elif had is None and self.position > join.seen:
            self.unknown = True
        join.offsets[self.stream] = self.position

    def forget_answered(self) -> None:
        """Let go of the joins that wait for this stream no more."""
        self.joins = [waits for waits in self.joins if not waits[0].finished and self.stream in waits[0].open]


class Join:
    """One join that has not been answered yet. `open`: streams that are still to be found out about; `seen`: an offset
    that everything published since it began exceeds (0: not known)."""

    __slots__ = ("ahead", "born", "finished", "lost", "missed", "offsets", "open", "reply", "resume", "seen", "settled")

    def __init__(self, resume: StreamPositions | None, reply: Reply[Joined], born: float, seen: int) -> None:
        self.seen = seen
        self.resume = resume
        self.reply = reply
        self.born = born
        self.open: dict[str, Followed] = {}
        self.offsets: dict[str, int] = {}
        self.ahead: dict[str, int] = {}
        self.missed: dict[str, list[Event]] = {}
        self.lost: list[str] = []
        self.settled: list[Followed] = []
        self.finished = False

    def settle(self, followed: Followed) -> None:
        """This stream is read. Events that arrive while other streams are pending are added to this join."""
        self.settled.append(followed)
        followed.watched[self] = None

    def lose(self, stream: str) -> None:
        """Events of this stream may be missing: a client that resumes it gets none of them, and is told that it is
        lost."""
        self.missed.pop(stream, None)
        if self.resume is not None and stream in self.resume.offsets and stream not in self.lost:
            self.lost.append(stream)

    def reopen(self, followed: Followed) -> None:
        """Another epoch has begun: where this stream is must be found out once more."""
        self.lose(followed.stream)
        self.offsets.pop(followed.stream, None)
        self.settled.remove(followed)
        del followed.watched[self]
        self.open[followed.stream] = followed
        followed.joins.append((self, None))

    def on_event(self, stream: str, event: Event) -> None:
        """An event arrived before this join is answered: it is part of the answer."""
        assert event.offset is not None
        self.offsets[stream] = event.offset
        if self.resume is not None and stream in self.resume.offsets and stream not in self.lost:
            self.missed.setdefault(stream, []).append(event)

    def finish(self, epoch: str, recovered: bool) -> None:
        self.finished = True
        for followed in self.settled:
            followed.watched.pop(self, None)
        self.reply(Joined(epoch, self.offsets, self.missed, self.lost, recovered and not self.lost, self.ahead))
