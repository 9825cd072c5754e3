"""Delivery: a target and an event → the sessions of this node, one Frame per dialect.

Synchronous. A push to more than SLICE sessions goes out in slices, with other work in between, because 10,000 sends at
once would hold up the loop for 60 ms. Later pushes to the same target wait behind it, so order per target holds. A
session that has left the target before its slice comes gets nothing of the push.

The sends that wait are bounded: past MAX_WAITING_SENDS a push is refused where it enters the gateway. A push that
another node has accepted cannot be refused any more. If it is live, it is dropped and counted; if it is durable, the
target's clients are told by a `stream_gap` in its place.

Source: protocol reference, "HTTP API" and "What is promised".
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import Event, Target, stream_gap, stream_of

from ..cluster.backplane import Backplane
from ..connections.ahead import Ahead
from ..connections.hub import Hub
from ..connections.session import DialectHandler, Session, State
from ..counters import Counters
from ..ports import Defer

SLICE: Final = 1000
MAX_WAITING_SENDS: Final = 5_000_000
_REGISTERED: Final = State.REGISTERED  # named once: a look into the enum costs more than the comparison


class _Broadcast:
    """A push, or a `stream_gap`, that goes out slice by slice. `broken`: the stream in which there is a gap.
    `lost_up_to`: the last offset of the dropped events that the gap stands for; what is dropped at the end of a line
    shares one gap. `told`: sessions that have had it in another way."""

    __slots__ = ("at", "broken", "event", "frames", "lost_up_to", "sessions", "skip", "told")

    def __init__(
        self, event: Event | None, sessions: list[Session], skip: Session | None = None, broken: str | None = None
    ) -> None:
        self.broken = broken
        self.told: set[Session] = set()
        self.event = event
        self.sessions = sessions
        self.skip = skip
        self.frames: dict[DialectHandler, Frame | None] = {}
        self.at = 0
        self.lost_up_to: int | None = None


class GapObserver(Protocol):
    """Who is told that a target's clients were told of a gap."""

    def on_gap(self, target: Target) -> None:
        """The target's clients were told of a gap, and go on from the position in it."""


class Delivery:
    """Pushes events to the sessions that a target means, now, at most once (the backplane's PushObserver)."""

    def __init__(self, hub: Hub, backplane: Backplane, ahead: Ahead, counters: Counters, *, defer: Defer) -> None:
        self._hub = hub
        self._backplane = backplane
        self._ahead = ahead
        self._counters = counters
        self._defer = defer
        self._lines: dict[Target, deque[_Broadcast]] = {}
        self._waiting = 0
        self._gap_observer: GapObserver | None = None

    def watch(self, observer: GapObserver) -> None:
        """Have somebody told of gaps; once."""
        self._gap_observer = observer

    @property
    def waiting(self) -> int:
        """Sends that stand in line for their slice."""
        return self._waiting

    # What the backplane tells

    def refusal(self, target: Target) -> PeerFault | None:
        """Why no push to this target can be taken now (`unavailable`: too much is waiting), or None."""
        if self._waiting and self._waiting + len(self._hub.find(target)) > MAX_WAITING_SENDS:
            return _full()
        return None

    def on_push(self, target: Target, event: Event) -> tuple[int, int]:
        """A push, from whatever node. Returns how many sessions matched, and how many were handed the event."""
        sessions = self._hub.find(target)
        if event.offset is not None:
            sessions = self._ahead.without(sessions, event)
        self._counters.pushes[target.kind] += 1
        if len(sessions) <= SLICE and target not in self._lines:
            return len(sessions), self._send(sessions, event, {}, None)
        if not sessions:
            return 0, 0
        if self._waiting + len(sessions) > MAX_WAITING_SENDS:
            self._drop(target, event, sessions)
            return len(sessions), 0
        self._stand_in_line(target, _Broadcast(event, list(sessions)))
        return len(sessions), len(sessions)

    def on_gap(self, target: Target, epoch: str, offset: int) -> None:
        """Events of a target's stream may be gone: its clients are told, and go on from `offset` in `epoch`."""
        self._counters.streams_broken += 1
        gap = stream_gap(epoch, {stream_of(target): offset})
        sessions = self._ahead.affected(self._hub.find(target), stream_of(target), epoch, offset)
        if len(sessions) <= SLICE and target not in self._lines:
            self._send(sessions, gap, {}, None, broken=stream_of(target))
        elif sessions:
            # Not bounded: without this notice the loss would be silent.
            self._stand_in_line(target, _Broadcast(gap, list(sessions), broken=stream_of(target)))
        if self._gap_observer is not None:
            self._gap_observer.on_gap(target)

    # For the core's own

    def deliver(self, target: Target, event: Event, skip: Session | None = None) -> tuple[int, int]:
        """Push to the sessions of this node, but for `skip`. Returns how many sessions matched, and how many were
        handed the event. Raises PeerFault `unavailable` when more is waiting than may wait."""
        if skip is None:
            refusal = self.refusal(target) if target in self._lines or len(self._hub.find(target)) > SLICE else None
            if refusal is not None:
                raise refusal
            return self.on_push(target, event)
        sessions = self._hub.find(target)
        self._counters.pushes[target.kind] += 1
        others = len(sessions) - (skip in sessions)
        if len(sessions) <= SLICE and target not in self._lines:
            return others, self._send(sessions, event, {}, skip)
        if self._waiting + len(sessions) > MAX_WAITING_SENDS:
            raise _full()
        if others:
            self._stand_in_line(target, _Broadcast(event, list(sessions), skip))
        return others, others

    def first_waiting(self, target: Target, session: Session) -> int | None:
        """The lowest offset of the target's durable events that still wait for some session; None if none waits. 0 if
        this session is still to be told of a gap."""
        first: int | None = None
        for broadcast in self._lines.get(target, ()):
            event = broadcast.event
            if broadcast.broken is not None:
                if session not in broadcast.told and session in broadcast.sessions[broadcast.at :]:
                    return 0
            elif first is None and event is not None:
                first = event.offset
        return first

    def account_for(self, session: Session, targets: Collection[Target], offsets: Mapping[str, int]) -> None:
        """An answer accounts for these targets' streams up to these offsets: older events, and gaps, that wait for the
        session are not sent to it any more."""
        for target in targets if self._lines else ():
            line = self._lines.get(target)
            offset = offsets.get(stream_of(target))
            if line is None or offset is None:
                continue
            for broadcast in line:
                event = broadcast.event
                durable = event is not None and event.offset is not None and event.offset <= offset
                if durable or broadcast.broken is not None:
                    broadcast.told.add(session)

    # In line

    def _stand_in_line(self, target: Target, broadcast: _Broadcast) -> None:
        self._waiting += len(broadcast.sessions)
        line = self._lines.get(target)
        if line is None:
            line = self._lines[target] = deque()
            self._defer(lambda: self._next_slice(target))
        line.append(broadcast)

    def _drop(self, target: Target, event: Event, sessions: Collection[Session]) -> None:
        """There is no room for it."""
        self._counters.pushes_dropped += 1
        if event.offset is None:
            return
        line = self._lines.get(target)
        last = line[-1] if line else None
        if last is not None and last.lost_up_to is not None and not last.at:
            # One gap for all events dropped at this place in the line, for all sessions that the target has now.
            self._waiting += len(sessions) - len(last.sessions)
            last.sessions = list(sessions)
            last.told.clear()
        else:
            self._counters.streams_broken += 1
            last = _Broadcast(None, list(sessions), broken=stream_of(target))
            self._stand_in_line(target, last)
        last.lost_up_to = event.offset

    def _next_slice(self, target: Target) -> None:
        line = self._lines[target]
        broadcast = line[0]
        if broadcast.event is None:
            assert broadcast.lost_up_to is not None
            broadcast.event = stream_gap(self._backplane.epoch, {stream_of(target): broadcast.lost_up_to})
        part = broadcast.sessions[broadcast.at : broadcast.at + SLICE]
        broadcast.at += SLICE
        self._waiting -= len(part)
        there = self._hub.find(target)
        if target.kind != "all":  # every session belongs to `all` until it ends
            part = [session for session in part if session in there]
        if broadcast.told:
            part = [session for session in part if session not in broadcast.told]
        self._send(part, broadcast.event, broadcast.frames, broadcast.skip, broken=broadcast.broken)
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
        frames: dict[DialectHandler, Frame | None],
        skip: Session | None,
        *,
        broken: str | None = None,
    ) -> int:
        """`broken`: the event is a `stream_gap` of this stream."""
        sent = 0
        spoken: DialectHandler | None = None  # nearly all of a crowd speak one dialect, and are registered
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
                session.hold(frame, broken or event.stream, event.offset)
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
        session.owner.on_error(session, error)
        return None
