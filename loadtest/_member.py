"""A C-Client: registers, then sends heartbeats and takes pushes until its connection ends.

Knows the C-Client dialect; never how the connection was made. One greenlet does all of it: it waits for
messages until the next heartbeat is due, so ten thousand connections are ten thousand greenlets, not more.
"""

from __future__ import annotations

import time
from collections import deque

import msgspec

from loadtest._campaign import Campaign
from loadtest._link import Link, LinkClosedError

PUSH_TYPE = "load_test_push"
"""The event type of the pushes that measure."""

_LONGEST_WAIT = 60.0


class RegistrationError(Exception):
    """The gateway did not register the client; the text says why."""


class HeartbeatLostError(Exception):
    """A heartbeat went unanswered for so long that a client would give the connection up."""


class UnexpectedMessageError(Exception):
    """A push or answer that should not be; the text says what it was."""


class LoadMark(msgspec.Struct, frozen=True):
    """What a push carries to be measured by.

    Attributes:
        run: the test it belongs to.
        pusher: the process that sent it.
        number: counts that pusher's pushes upwards.
        intended: the Unix time at which it should have been sent.
        sent: the Unix time at which it was.
        user: whom it is for; None for all.
    """

    run: str
    pusher: str
    number: int
    intended: float
    sent: float
    user: str | None


class _Incoming(msgspec.Struct):
    type: str = ""
    load: LoadMark | None = None
    code: str | None = None
    reason: str | None = None


_decode = msgspec.json.Decoder(_Incoming).decode


class Member:
    """One registered connection."""

    __slots__ = (
        "_campaign", "_interval", "_last", "_link", "_next_beat", "_pending", "_registered_at", "_timeout",
        "slot", "user_id",
    )  # fmt: skip

    def __init__(self, campaign: Campaign, link: Link, user_id: str) -> None:
        self._campaign = campaign
        self._link = link
        self._interval: float = campaign.options.heartbeat_interval
        self._timeout: float = campaign.options.step_timeout
        self._pending: deque[float] = deque()
        self._last: dict[tuple[str, bool], int] = {}
        # Anywhere in the interval: clients that start together must not beat together.
        self._next_beat = (
            time.monotonic() + campaign.random.uniform(0, self._interval) if self._interval else float("inf")
        )
        self.user_id = user_id
        self.slot = -1
        self._registered_at = campaign.join(self)

    def stay(self) -> None:
        """Heartbeat and take pushes for as long as the connection lives.

        Raises:
            LinkClosedError: it ended.
            HeartbeatLostError: it might as well have.
        """
        try:
            while True:
                wake = min(self._next_beat, time.monotonic() + _LONGEST_WAIT)
                if self._pending:
                    wake = min(wake, self._pending[0] + self._timeout)
                for message in self._link.receive(wake):
                    self._take(message)
                now = time.monotonic()
                self._beat(now)
                if self._pending and now - self._pending[0] >= self._timeout:
                    raise HeartbeatLostError(f"no answer to a heartbeat in {self._timeout:g} s")
        except (LinkClosedError, HeartbeatLostError) as error:
            self.abandon(error)
            raise

    def linger(self, seconds: float) -> None:
        """Take, for some seconds, pushes that were sent before this connection left. Never raises an Exception."""
        deadline = time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                for message in self._link.receive(deadline):
                    self._take(message)
        except LinkClosedError:
            return

    def unanswered(self) -> int:
        """How many heartbeats are under way."""
        return len(self._pending)

    def abandon(self, error: Exception) -> None:
        """Report the heartbeats under way as failed."""
        now = time.monotonic()
        while self._pending:
            self._campaign.report("heartbeat", now - self._pending.popleft(), error=error)

    def _beat(self, now: float) -> None:
        while self._next_beat <= now:
            if self._campaign.held_at is not None:
                self._next_beat = float("inf")
                return
            # Noted by the schedule, not by the clock: whatever made us late is part of what a user waits for.
            self._pending.append(self._next_beat)
            self._next_beat += self._interval
            self._link.send(b'{"type":"heartbeat"}')

    def _take(self, message: bytes) -> None:
        try:
            incoming = _decode(message)
        except msgspec.MsgspecError:
            # Somebody else's push may look in any way; what is ours can be read.
            return
        if incoming.type == "heartbeat":
            if self._pending:
                elapsed = time.monotonic() - self._pending.popleft()
                self._campaign.report("heartbeat", elapsed, len(message))
        elif incoming.type == PUSH_TYPE and incoming.load is not None:
            if incoming.load.run == self._campaign.run:
                self._measure(incoming.load, len(message))
        elif incoming.type == "error" and self._pending:
            elapsed = time.monotonic() - self._pending.popleft()
            error = UnexpectedMessageError(f"answered by the error {str(incoming.code)[:80]!a}")
            self._campaign.report("heartbeat", elapsed, len(message), error)

    def _measure(self, load: LoadMark, size: int) -> None:
        to_all = load.user is None
        if to_all and load.sent < self._registered_at:
            # It was under way while we registered, so nobody owed it to us.
            return
        elapsed = time.time() - load.intended
        fault: str | None = None
        stream = (load.pusher, to_all)
        if not to_all and load.user != self.user_id:
            fault = "a push for another user"
        elif load.number <= self._last.get(stream, -1):
            fault = "a push for the second time, or out of order"
        if fault is not None:
            self._campaign.report("delivery", elapsed, size, UnexpectedMessageError(fault))
            return
        self._last[stream] = load.number
        if not self._campaign.finished:
            if to_all:
                self._campaign.tally.broadcast_delivered += 1
            else:
                self._campaign.tally.aimed_delivered += 1
        self._campaign.report("delivery", elapsed, size)


def register(link: Link, client_id: str, user_id: str, timeout: float) -> None:
    """Register on an open link, waiting at most `timeout` seconds for the answer.

    Raises:
        RegistrationError: refused, unanswered, or answered with something else.
        LinkClosedError: the connection ended.
    """
    deadline = time.monotonic() + timeout
    link.send(
        msgspec.json.encode(
            {"type": "c_client_register", "client_id": client_id, "user_id": user_id, "username": user_id}
        )
    )
    while messages := link.receive(deadline):
        for message in messages:
            try:
                incoming = _decode(message)
            except msgspec.MsgspecError as error:
                raise RegistrationError("answered with something that cannot be read") from error
            match incoming.type:
                case "registration_success":
                    return
                case "registration_rejected":
                    raise RegistrationError(f"rejected: {str(incoming.reason)[:80]!a}")
                case "error":
                    raise RegistrationError(f"answered by the error {str(incoming.code)[:80]!a}")
    raise RegistrationError(f"no answer in {timeout:g} s")
