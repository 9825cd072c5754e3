"""Delivery: a target and an event → the sessions of this node, one Frame per dialect.

Synchronous. A push to more than SLICE sessions is cut into slices with everything else in between, because
10,000 sends at once would hold up the loop for 60 ms; later pushes to the same target wait behind it, so order
per target holds. What waits like that is bounded: past MAX_WAITING_SENDS a push is refused, never dropped.

Source: protocol reference, "HTTP API" and "What is promised".
"""

from collections import deque
from collections.abc import Collection
from typing import Final

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import Event, Target

from ..connections.hub import Hub
from ..connections.session import Handler, Session, State
from ..counters import Counters
from ..ports import Defer

SLICE: Final = 1000
MAX_WAITING_SENDS: Final = 5_000_000
_REGISTERED: Final = State.REGISTERED  # named once: a look into the enum costs more than the comparison


class _Broadcast:
    """A push that is on its way, slice by slice."""

    __slots__ = ("at", "event", "frames", "sessions")

    def __init__(self, event: Event, sessions: list[Session]) -> None:
        self.event = event
        self.sessions = sessions
        self.frames: dict[Handler, Frame | None] = {}
        self.at = 0


class Delivery:
    """Pushes events to whoever a target means, now, at most once."""

    def __init__(
        self,
        hub: Hub,
        counters: Counters,
        *,
        defer: Defer,
    ) -> None:
        self._hub = hub
        self._counters = counters
        self._defer = defer
        self._lines: dict[Target, deque[_Broadcast]] = {}
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Sends that stand in line for their slice."""
        return self._waiting

    def check_room(self, target: Target) -> None:
        """Raises PeerFault `unavailable` when more is waiting than may wait, with what this target would add."""
        if self._waiting and self._waiting + len(self._hub.find(target)) > MAX_WAITING_SENDS:
            raise _full()

    def deliver(self, target: Target, event: Event, skip: Session | None = None) -> tuple[int, int]:
        """Push to the sessions of this node. Returns how many sessions matched, and how many were handed the event.

        `skip` is left out. Raises PeerFault `unavailable` when more is waiting than may wait.
        """
        sessions = self._hub.find(target)
        self._counters.pushes[target.kind] += 1
        line = self._lines.get(target)
        if line is None and len(sessions) <= SLICE:
            sent = self._send(sessions, event, {}, skip)
            return len(sessions) - (skip in sessions), sent
        waiting = [session for session in sessions if session is not skip]
        if not waiting:
            return 0, 0
        if self._waiting + len(waiting) > MAX_WAITING_SENDS:
            raise _full()
        self._waiting += len(waiting)
        if line is None:
            line = self._lines[target] = deque()
            self._defer(lambda: self._next_slice(target))
        line.append(_Broadcast(event, waiting))
        return len(waiting), len(waiting)

    def _next_slice(self, target: Target) -> None:
        line = self._lines[target]
        broadcast = line[0]
        part = broadcast.sessions[broadcast.at : broadcast.at + SLICE]
        broadcast.at += SLICE
        self._waiting -= len(part)
        self._send(part, broadcast.event, broadcast.frames, None)
        if broadcast.at >= len(broadcast.sessions):
            line.popleft()
        if line:
            self._defer(lambda: self._next_slice(target))
        else:
            del self._lines[target]

    def _send(
        self,
        sessions: Collection[Session],
        event: Event,
        frames: dict[Handler, Frame | None],
        skip: Session | None,
    ) -> int:
        sent = 0
        spoken: Handler | None = None  # nearly all of a crowd speak one dialect, and are registered
        frame: Frame | None = None
        for session in sessions:
            if session is skip:
                continue
            handler = session.handler
            if handler is not spoken:
                if handler not in frames:
                    frames[handler] = _encode(session, event)
                spoken, frame = handler, frames[handler]
            if frame is None:
                continue
            if session.state is _REGISTERED:
                session.peer.send(frame)
            elif session.over:
                continue
            else:
                session.hold(frame, event.stream, event.offset)
            sent += 1
        self._counters.push_deliveries += sent
        return sent


def _full() -> PeerFault:
    return PeerFault(ErrorCode.UNAVAILABLE, "Too many pushes are waiting to go out; try again in a moment.")


def _encode(session: Session, event: Event) -> Frame | None:
    """The event in the session's dialect. A dialect that fails has no place for it: the others have."""
    try:
        return session.handler.push(event)
    except Exception as error:
        session.house.broke(session, error)
        return None
