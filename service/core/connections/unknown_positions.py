"""UnknownPositions: connections that were answered while Redis was away, until they are told where their streams are.

Their answer named no position for some streams. As soon as the backplane is in reach it is asked where those streams
are now, and each connection is told by a `stream_gap`: something may be lost up to there, and from there on it goes
on. A gap that the backplane itself has told to all of a target's connections is not told again.
Source: protocol reference, "Durable events".
"""

from collections.abc import Collection, Mapping
from functools import partial
from itertools import islice
from typing import Final, Protocol

from portico.wire.messages import Identity, Target, stream_gap, stream_of, targets_of

from ..cluster.backplane import Backplane, Joined
from ..reply import Reply
from .hub import Hub
from .session import Session

ASKED_AT_ONCE: Final = 500
"""Connections whose positions are asked for in one tick."""


class WaitingEvents(Protocol):
    """Where pushes wait that are too large to go out at once."""

    def first_waiting(self, target: Target, session: Session) -> int | None:
        """The lowest offset of the target's durable events that still wait for some session; None if none waits. 0 if
        this session is still to be told of a gap."""

    def account_for(self, session: Session, targets: Collection[Target], offsets: Mapping[str, int]) -> None:
        """An answer accounts for these targets' streams up to these offsets: older events, and gaps, that wait for the
        session are not sent to it any more."""


class _Unknown:
    """The `streams` of one connection's identity whose positions it was not told."""

    __slots__ = ("asked", "identity", "streams")

    def __init__(self, identity: Identity, streams: set[str]) -> None:
        self.identity = identity
        self.streams = streams
        self.asked = False


class UnknownPositions:
    """Who has to be told, and of which streams (the deliveries' GapObserver)."""

    def __init__(self, hub: Hub, backplane: Backplane, waiting: WaitingEvents) -> None:
        self._hub = hub
        self._backplane = backplane
        self._waiting = waiting
        self._of: dict[Session, _Unknown] = {}

    def __len__(self) -> int:
        return len(self._of)

    def note(self, session: Session, identity: Identity, streams: set[str]) -> None:
        """The session was answered without the positions of these streams."""
        self._of[session] = _Unknown(identity, streams)

    def forget(self, session: Session) -> None:
        """The session is over, or has another identity now; one that isn't there is ignored."""
        self._of.pop(session, None)

    def on_gap(self, target: Target) -> None:
        """All of a target's sessions were told a gap, with the position from which they go on."""
        if self._of:
            for session in self._hub.find(target):
                unknown = self._of.get(session)
                if unknown is not None:
                    unknown.streams.discard(stream_of(target))

    def account_for(self, session: Session, targets: Collection[Target], offsets: Mapping[str, int]) -> None:
        """An answer that is about to be given accounts for these streams up to these offsets. Gaps that wait are
        dropped: told after the answer, they would lead the client back to where the streams were before."""
        if session.held is not None:
            session.held.supersede_gaps(offsets)
        self._waiting.account_for(session, targets, offsets)

    def tick(self) -> None:
        """Ask for positions if anybody can tell. To be called every 100 ms or so."""
        if self._of and self._backplane.trouble is None:
            waiting = ((session, unknown) for session, unknown in self._of.items() if not unknown.asked)
            for session, unknown in list(islice(waiting, ASKED_AT_ONCE)):
                unknown.asked = True
                targets = targets_of(unknown.identity)
                # They are joined already, so this asks for nothing but where they are.
                self._backplane.join(targets, None, Reply(partial(self._on_joined, session, unknown)))
                self._backplane.leave(targets)

    def before_what_waits(self, session: Session, target: Target, position: int, held: int | None = None) -> int:
        """The position in a stream up to which nothing is still on its way to the session: `position`, or less. `held`:
        the offset of the first event that is held for the session, 0 for a gap. -1 if a gap is still to be told: if the
        connection is lost before that, the client has to be told when it comes back."""
        for first in (held, self._waiting.first_waiting(target, session)):
            if first is not None:
                position = min(position, first - 1)
        return position

    def _on_joined(self, session: Session, unknown: _Unknown, joined: Joined) -> None:
        if self._of.get(session) is not unknown:
            return
        if not unknown.streams <= joined.offsets.keys():
            unknown.asked = False
            return
        del self._of[session]
        targets = [target for target in targets_of(unknown.identity) if stream_of(target) in unknown.streams]
        if session.over or not targets:
            return
        offsets = {stream_of(t): self.before_what_waits(session, t, joined.offsets[stream_of(t)]) for t in targets}
        frame = session.handler.push(stream_gap(joined.epoch, offsets))
        if frame is not None:
            session.hold(frame)
