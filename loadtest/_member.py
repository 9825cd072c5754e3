"""A C-Client: registers, sends heartbeats, takes pushes, and checks every word that the gateway says.

Knows the C-Client dialect; never how the connection was made. It lives in callbacks: the greenlet that made it waits
for its registration and then for its end. What the gateway says and must not say is counted as a protocol error, with
the last messages of the connection; it is never skipped, as a check that counts without looking checks nothing.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any, Final

import msgspec
from gevent.event import AsyncResult

from loadtest import _frames
from loadtest._campaign import Campaign
from loadtest._kept import KeptPushes
from loadtest._link import Link, LinkClosedError
from loadtest._marks import PUSH_TYPE, LoadMark, Seen
from loadtest._schedule import Due

_HEARTBEAT: Final = b'{"type":"heartbeat"}'
_HEARTBEAT_FRAME: Final = _frames.frame(_frames.TEXT, _HEARTBEAT)


class RegistrationError(Exception):
    """The gateway did not register the client; the text says why."""


class HeartbeatLostError(Exception):
    """A heartbeat went unanswered for so long that a client would give the connection up."""


class UnexpectedMessageError(Exception):
    """A push or answer that should not be; the text says what it was."""


class BrokenOffError(Exception):
    """The client is to end its connection without a good-bye, and to come back after `wait` seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__("broken off")
        self.wait = wait


class NotRecoveredError(Exception):
    """The gateway says that what was missed is gone."""


class _Resume(msgspec.Struct):
    epoch: str
    offsets: dict[str, int]
    recovered: bool | None = None


class _Incoming(msgspec.Struct):
    type: str
    load: LoadMark | None = None
    padding: str | None = None
    stream: str | None = None
    offset: int | None = None
    client_id: str | None = None
    user_id: str | None = None
    connection_id: str | None = None
    node: str | None = None
    heartbeat_interval: float | None = None
    resume: _Resume | None = None
    code: str | None = None
    reason: str | None = None


_decode = msgspec.json.Decoder(_Incoming).decode
_OURS: Final = frozenset({PUSH_TYPE, "heartbeat", "registration_success", "registration_rejected", "error"})


class Member:
    """One connection of a C-Client.

    Attributes:
        over: set to how it ended, unless the client ends it itself.
    """

    __slots__ = (
        "_acknowledged", "_asked", "_beat_due", "_campaign", "_connection_id", "_interval", "_left_at", "_link",
        "_measured", "_node", "_pending", "_registered_at", "_resumed", "_seen", "_timeout", "client_id", "over",
        "slot", "user_id",
    )  # fmt: skip

    def __init__(self, campaign: Campaign, link: Link, client_id: str, user_id: str, *, measured: bool = True) -> None:
        self._campaign = campaign
        self._link = link
        self._interval: float = campaign.options.heartbeat_interval
        self._timeout: float = campaign.options.step_timeout
        self._pending: deque[float] = deque()
        self._seen: dict[str, Seen] = {}
        self._acknowledged: AsyncResult[_Incoming] | None = None
        self._asked = 0
        self._resumed = False
        self._beat_due: Due | None = None
        self._connection_id: str | None = None
        self._node: str | None = None
        self._registered_at = float("inf")
        self._left_at = float("inf")
        self.client_id = client_id
        self.user_id = user_id
        self.slot = -1
        self._measured = measured
        self.over: AsyncResult[None] = AsyncResult()
        link.attach(self)

    # What the greenlet does

    def register(self, token: str | None = None) -> float:
        """Register, resuming where this user has a position; the Unix time at which the answer was there.

        Raises:
            RegistrationError: refused, unanswered, or answered with something else.
            NotRecoveredError: registered, but what was missed is gone.
            LinkClosedError: the connection ended.
        """
        kept = self._campaign.kept.get(self.user_id)
        resume = kept.resume() if kept is not None else None
        message: dict[str, object] = {
            "type": "c_client_register",
            "client_id": self.client_id,
            "user_id": self.user_id,
            "username": self.user_id,
        }
        if resume is not None:
            message["resume"] = resume
        shown = msgspec.json.encode(message)
        if token is not None:
            message["token"] = token
        self._resumed = resume is not None
        self._acknowledged = AsyncResult()
        self._asked += 1
        self._link.send(msgspec.json.encode(message), kept=shown)
        if not self._acknowledged.wait(self._timeout) and not self._acknowledged.ready():
            raise RegistrationError(f"no answer in {self._timeout:g} s")
        answer = self._acknowledged.get()
        if answer.type == "registration_rejected":
            remedy = "; --token gives one" if answer.reason == "unauthorized" and token is None else ""
            raise RegistrationError(f"rejected: {str(answer.reason)[:80]!a}{remedy}")
        if answer.type == "error":
            raise RegistrationError(f"answered by the error {str(answer.code)[:80]!a}")
        if resume is not None and answer.resume is not None and answer.resume.recovered is False:
            raise NotRecoveredError("what was missed is gone")
        return self._registered_at

    def stay(self) -> None:
        """Live until the connection ends.

        Raises:
            LinkClosedError: it ended.
            HeartbeatLostError: it might as well have.
        """
        self.over.get()

    def start_heartbeats(self) -> None:
        """From now on send heartbeats, the first at a random moment: who starts together must not beat together."""
        if self._interval:
            first = time.time() + self._campaign.random.uniform(0, self._interval)
            self._beat_due = self._campaign.schedule.at(first, self._beat)

    def leave(self) -> None:
        """Be on the way out: what is sent to it from now on is not owed to it, what was sent before is."""
        if self._left_at == float("inf"):
            self._left_at = time.time()
            self._campaign.left(self._left_at, owed=self._measured)
        self._campaign.withdraw(self)
        self._stop_beats()

    def gone(self) -> None:
        """The connection is over: nothing more is expected of it."""
        if self._registered_at < float("inf"):
            self.leave()
        if self._connection_id is not None:
            self._campaign.connection_ids.discard(self._connection_id)

    def unanswered(self) -> int:
        """How many heartbeats are under way."""
        return len(self._pending)

    def abandon(self, error: Exception) -> None:
        """Report the heartbeats under way as failed."""
        now = time.time()
        while self._pending:
            self._campaign.report("heartbeat", self._pending.popleft(), now, error=error)

    def break_off(self, wait: float) -> None:
        """Have it end its connection without a good-bye, and come back after so many seconds."""
        if not self.over.ready():
            self.over.set_exception(BrokenOffError(wait))

    # What happens in the loop

    def on_message(self, payload: bytes, arrived: float, *, binary: bool) -> None:
        """A message from the gateway."""
        if binary:
            self._fault("a binary message", arrived)
            return
        if not self._asked:
            self._fault("a message before the registration", arrived)
        try:
            incoming = _decode(payload)
        except msgspec.MsgspecError:
            self._unreadable(payload, arrived)
            return
        kind = incoming.type
        if kind == PUSH_TYPE:
            self._on_push(incoming, payload, arrived)
        elif kind == "heartbeat":
            if self._pending:
                due = self._pending.popleft()
                self._campaign.report("heartbeat", due, arrived, len(payload))
                if self._node is not None:
                    self._campaign.answered(self._node, due, arrived)
            else:
                self._fault("a heartbeat answered twice, or unasked", arrived)
        elif kind in ("registration_success", "registration_rejected"):
            self._on_registration(incoming, arrived)
        elif kind == "error":
            self._on_error(incoming, payload, arrived)
        elif kind == "stream_gap":
            self._fault("a gap in a stream", arrived)

    def on_closed(self, error: LinkClosedError) -> None:
        """The connection is over."""
        self._end(error)

    def _end(self, error: Exception) -> None:
        self._stop_beats()
        self.abandon(error)
        if self._acknowledged is not None and not self._acknowledged.ready():
            self._acknowledged.set_exception(error)
        if not self.over.ready():
            self.over.set_exception(error)

    def _stop_beats(self) -> None:
        if self._beat_due is not None:
            self._beat_due.cancel()
            self._beat_due = None

    def _beat(self, due: float) -> None:
        now = time.time()
        if self._campaign.held_at is not None:
            return
        if self._pending and now - self._pending[0] >= self._timeout:
            self._end(HeartbeatLostError(f"no answer to a heartbeat in {self._timeout:g} s"))
            return
        # Noted by the schedule, not by the clock: whatever made us late is part of what a user waits for.
        self._pending.append(due)
        self._beat_due = self._campaign.schedule.at(due + self._interval, self._beat)
        self._link.send_frame(_HEARTBEAT_FRAME, _HEARTBEAT)
        self._campaign.strain.send_late.record(now - due)

    def _on_registration(self, incoming: _Incoming, arrived: float) -> None:
        acknowledged = self._acknowledged
        if acknowledged is None or acknowledged.ready():
            if self._asked:
                self._fault("a registration answered twice", arrived)
            return
        if incoming.type == "registration_success":
            if (incoming.client_id, incoming.user_id) != (self.client_id, self.user_id):
                self._fault("a registration_success with other ids", arrived)
            if not incoming.connection_id or not incoming.node or incoming.heartbeat_interval is None:
                self._fault("a registration_success without its fields", arrived)
            elif incoming.connection_id in self._campaign.connection_ids:
                self._fault("a connection_id that another connection has", arrived)
            else:
                self._connection_id = incoming.connection_id
                self._campaign.connection_ids.add(incoming.connection_id)
            if incoming.node:
                self._node = sys.intern(incoming.node)
            if self._registered_at == float("inf"):
                self._registered_at = arrived
                self._campaign.join(arrived, owed=self._measured)
            if incoming.resume is not None:
                kept = self._campaign.kept_of(self.user_id)
                kept.on_registered(incoming.resume.epoch, incoming.resume.offsets)
                if self._resumed and incoming.resume.recovered is None:
                    self._fault("a resume answered without recovered", arrived)
            elif self._resumed:
                self._fault("a resume answered without resume", arrived)
        acknowledged.set(incoming)

    def _on_error(self, incoming: _Incoming, payload: bytes, arrived: float) -> None:
        error = UnexpectedMessageError(f"answered by the error {str(incoming.code)[:80]!a}")
        if self._acknowledged is not None and not self._acknowledged.ready():
            self._acknowledged.set(incoming)
        elif self._pending:
            self._campaign.report("heartbeat", self._pending.popleft(), arrived, len(payload), error)
        else:
            self._fault("an error without a cause", arrived)

    def _on_push(self, incoming: _Incoming, payload: bytes, arrived: float) -> None:
        load, campaign = incoming.load, self._campaign
        if load is None:
            self._fault("a push without its data", arrived)
            return
        if load.run != campaign.run or campaign.finished or not self._measured:
            return
        if incoming.padding is None or len(incoming.padding) != load.size or incoming.padding.strip("x"):
            self._fault("a push whose data is cut or changed", arrived)
        if load.sequence is not None:
            self._on_durable(incoming, load, payload, arrived)
            return
        if incoming.stream is not None or incoming.offset is not None:
            self._fault("a live push with a stream or offset", arrived)
        # By the master's clock, as the push says it.
        offset = campaign.clock_offset
        if load.user is None:
            # It was under way while we registered, or was sent after we said good-bye: nobody owed it to us.
            if load.sent < self._registered_at + offset or load.sent > self._left_at + offset:
                return
            kind, step = "broadcast", "broadcast"
        else:
            kind, step = "aimed", "delivery"
        count = campaign.count(kind, load.stage)
        if load.user is not None and load.user != self.user_id:
            count.misdirected += 1
            error = UnexpectedMessageError("a push for another user")
            campaign.report(step, load.intended - offset, arrived, len(payload), error)
            return
        seen = self._seen.get(load.pusher + kind)
        if seen is None:
            seen = self._seen[load.pusher + kind] = Seen()
        self._delivered(count, step, seen.receive(load.number, load.after), load, len(payload), arrived)

    def _on_durable(self, incoming: _Incoming, load: LoadMark, payload: bytes, arrived: float) -> None:
        assert load.sequence is not None
        count = self._campaign.count("durable", load.stage)
        if load.user != self.user_id:
            count.misdirected += 1
            error = UnexpectedMessageError("a push for another user")
            self._campaign.report("durable", load.intended, arrived, len(payload), error)
            return
        kept: KeptPushes = self._campaign.kept_of(self.user_id)
        found, wrong = kept.receive(load.sequence, incoming.stream, incoming.offset)
        if wrong is not None:
            self._fault(wrong, arrived)
        self._delivered(count, "durable", found, load, len(payload), arrived)

    def _delivered(self, count: Any, step: str, found: str, load: LoadMark, size: int, arrived: float) -> None:
        campaign = self._campaign
        intended = load.intended - campaign.clock_offset
        error: Exception | None = None
        if found == "doubled":
            count.doubled += 1
            error = UnexpectedMessageError("a push for the second time")
        else:
            count.delivered += 1
            if load.user is not None:
                campaign.awaited.pop((step, load.number), None)
            if found == "reordered":
                count.reordered += 1
                error = UnexpectedMessageError("a push out of order")
            elif step == "durable" and intended < self._registered_at:
                # Sent while the user was away: it is here, and how long that took says nothing.
                return
        campaign.report(step, intended, arrived, size, error)

    def _unreadable(self, payload: bytes, arrived: float) -> None:
        """What is not JSON, or has not the form of what we know. Somebody else's push may look in any way."""
        try:
            content = msgspec.json.decode(payload)
        except msgspec.MsgspecError:
            self._fault("a message that is not JSON", arrived)
            return
        kind = content.get("type") if isinstance(content, dict) else None
        if not isinstance(kind, str):
            self._fault("a message without a type", arrived)
        elif kind in _OURS:
            self._fault(f"a {kind} of a wrong form", arrived)

    def _fault(self, kind: str, arrived: float) -> None:
        self._campaign.fault(kind, self.client_id, arrived, transcript(self._link))


def transcript(link: Link) -> list[str]:
    """The last messages on a link, oldest first."""
    return [
        f"{'>' if ours else '<'} {time.strftime('%H:%M:%S', time.localtime(at))}.{int(at * 1000) % 1000:03} "
        + payload.decode("utf-8", "backslashreplace")
        for ours, at, payload in link.kept
    ]
