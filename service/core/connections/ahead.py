"""Ahead: connections whose client has had more of a stream, by another node, than this node has read.

For example, a client has had event 7 of its user by another node. It connects to this node, which has no Redis and has
read up to 5. When Redis is back, this node reads 6 and 7 for its other clients, and must not send them to this one,
whatever it registers as in between. No answer to it may name position 5 either: the client keeps what the last answer
says, and would then take 6 and 7 for new.

A stream that a later `resume` names is noted anew. Notes of an epoch that is over don't count. STREAMS streams of a
session are noted at most; the one that was named longest ago is forgotten first.
Source: protocol reference, "Durable events".
"""

from collections.abc import Collection, Mapping
from typing import Final

from portico.wire.messages import Event

from ..cluster.backplane import Backplane, Joined, StreamPositions
from .session import Session

STREAMS: Final = 32
"""How many streams of one session are noted."""


class _Had:
    """One session's notes: by stream of this epoch, the offset up to which the client has had it; oldest note first."""

    __slots__ = ("epoch", "offsets")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.offsets: dict[str, int] = {}


class Ahead:
    """Which sessions are ahead of this node, and of which streams."""

    def __init__(self, backplane: Backplane) -> None:
        self._backplane = backplane
        self.sessions: Final[dict[Session, _Had]] = {}

    def __len__(self) -> int:
        return len(self.sessions)

    @property
    def streams(self) -> int:
        """How many streams are noted, over all sessions."""
        return sum(len(had.offsets) for had in self.sessions.values())

    def note(self, session: Session, resume: StreamPositions | None, joined: Joined) -> None:
        """A session has joined: note where it is ahead of this node, and forget older notes on what `resume` names.
        To be called if `joined.ahead` has streams, or the session has notes."""
        had = self.sessions.get(session)
        if had is None or had.epoch != joined.epoch:
            had = self.sessions[session] = _Had(joined.epoch)
        if resume is not None and resume.epoch == joined.epoch:
            for stream in resume.offsets:
                had.offsets.pop(stream, None)
        had.offsets |= joined.ahead
        while len(had.offsets) > STREAMS:
            del had.offsets[next(iter(had.offsets))]
        if not had.offsets:
            del self.sessions[session]

    def forget(self, session: Session) -> None:
        """The session is over; one without notes is ignored."""
        self.sessions.pop(session, None)

    def offsets(self, session: Session, epoch: str) -> Mapping[str, int]:
        """The streams of this epoch in which the session is ahead, each with the offset up to which it has had it."""
        had = self.sessions.get(session)
        return had.offsets if had is not None and had.epoch == epoch else {}

    def without(self, sessions: Collection[Session], event: Event) -> Collection[Session]:
        """The sessions of a target that have not had this durable event yet; they are no longer ahead in its stream."""
        if not self.sessions:
            return sessions
        assert event.stream is not None
        assert event.offset is not None
        return self._behind(sessions, event.stream, event.offset, self._backplane.epoch)

    def affected(self, sessions: Collection[Session], stream: str, epoch: str, offset: int) -> Collection[Session]:
        """The sessions of a target to be told of a gap up to `offset`: all but those that have had everything up to
        there."""
        return self._behind(sessions, stream, offset, epoch) if self.sessions else sessions

    def _behind(self, sessions: Collection[Session], stream: str, offset: int, epoch: str) -> Collection[Session]:
        behind = []
        for session in sessions:
            had = self.sessions.get(session)
            if had is not None:
                if had.epoch == epoch and offset <= had.offsets.get(stream, -1):
                    continue
                if had.offsets.pop(stream, None) is not None and not had.offsets:
                    del self.sessions[session]
            behind.append(session)
        return behind
