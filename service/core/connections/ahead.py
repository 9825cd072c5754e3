"""Ahead: connections that have come further, by another node, than this node could read.

For example, a node has no Redis, and a client comes to it that has had event 7 of its user by another node, while this
one has come to 5. When Redis is back the node reads 6 and 7 for its other clients; this one has had them. So it is not
given them, whoever it registers as in between: a client keeps what the last answer says, and an answer that led it
back to 5 would have it take 6 and 7 for new.

What a client says by `resume` counts more than what it said before. An epoch that is over says nothing any more. Of a
session STREAMS are remembered; of more, the one that it named longest ago goes first.
Source: protocol reference, "Durable events".
"""

from collections.abc import Collection, Mapping
from typing import Final

from portico.wire.messages import Event

from ..cluster.backplane import Backplane, Joined, Resume
from .session import Session

STREAMS: Final = 32
"""Streams of one session of which it is remembered how far it has come."""


class _Had:
    """Up to which offsets a session has had this epoch's streams, in the order in which it named them."""

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
        """How many are remembered, of all sessions."""
        return sum(len(had.offsets) for had in self.sessions.values())

    def note(self, session: Session, resume: Resume | None, joined: Joined) -> None:
        """The session has joined. What it named itself is where it is; of that it may be ahead of this node. For
        those that are in `sessions`, or are now ahead."""
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
        """The session is over; one that isn't there is ignored."""
        self.sessions.pop(session, None)

    def offsets(self, session: Session, epoch: str) -> Mapping[str, int]:
        """Up to where it has had streams in this epoch in which it is ahead."""
        had = self.sessions.get(session)
        return had.offsets if had is not None and had.epoch == epoch else {}

    def without(self, sessions: Collection[Session], event: Event) -> Collection[Session]:
        """Those of a target's sessions that have not had a durable event yet. Who is not further than it, is no more
        ahead."""
        if not self.sessions:
            return sessions
        assert event.stream is not None
        assert event.offset is not None
        return self._behind(sessions, event.stream, event.offset, self._backplane.epoch)

    def affected(self, sessions: Collection[Session], stream: str, epoch: str, offset: int) -> Collection[Session]:
        """Those of a target's sessions to which a gap up to there is to be told: not who has had all of that."""
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
