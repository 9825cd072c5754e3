"""Enrolment: how a session comes to be among those that pushes are for, and leaves them.

It is in the hub at once, and this node asks the backplane for what its targets get. Until that has answered the
session is JOINING: what is sent to it meanwhile is held, so that a client that is told that it is registered misses
nothing from then on, and nothing overtakes what it missed before. In one process the backplane answers at once.
"""

from collections.abc import Callable

from portico.wire.messages import Identity, stream_of, targets_of

from ..cluster.backplane import Backplane, Joined, Resume
from ..ports import Wall
from ..reply import Reply
from .hub import Hub
from .session import NOBODY, Session, State

OnJoined = Callable[[Joined], None]
"""Sends what comes before all that was held."""


class Enrolment:
    """The way into the hub and out of it."""

    def __init__(self, hub: Hub, backplane: Backplane, *, wall: Wall, enrolled: Callable[[Session], None]) -> None:
        """`enrolled` is told of each that has joined, after everything that was held for it was sent."""
        self._hub = hub
        self._backplane = backplane
        self._wall = wall
        self._enrolled = enrolled

    def enroll(
        self, session: Session, identity: Identity, resume: Resume | None = None, then: OnJoined | None = None
    ) -> None:
        """The session is who `identity` says from now on; `then` is called when pushes to it cannot be missed any
        more, unless it is over by then, or is somebody else."""
        before = session.identity if session in self._hub else NOBODY
        had = targets_of(before) if before is not NOBODY else []
        session.move(State.JOINING)
        session.registered_at = None
        if session.held is None:
            session.held = []
        self._hub.add(session, identity)

        def joined(found: Joined) -> None:
            if session.state is not State.JOINING or session.identity is not identity:
                return
            held = session.released()
            session.move(State.REGISTERED)
            session.registered_at = self._wall()
            if then is not None:
                then(found)
            if held:
                # What a history that was read has in it is not given again. (One that was registered already, and
                # doesn't say where it left off, goes on with its old streams without a break.)
                kept = set() if resume is not None else {stream_of(target) for target in had}
                for frame, stream, offset in held:
                    if stream is None or offset is None or stream in kept or offset > found.offsets.get(stream, 0):
                        session.send(frame)
            if session.registered_at is not None and not session.over:
                self._enrolled(session)

        self._backplane.join(targets_of(identity), resume, Reply(joined))
        # After the join: a target that it had and has is joined all the time.
        if had:
            self._backplane.leave(had)

    def forget(self, session: Session) -> None:
        """The session is found no more; one that isn't there is ignored."""
        if self._hub.remove(session):
            self._backplane.leave(targets_of(session.identity))
