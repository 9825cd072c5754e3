"""One process's part of a load test: what runs in it, what it measured, and whether it is ending.

Knows steps, connections and the tally; never sockets. Every measurement passes through here, so that each
is counted once, in locust's statistics, and none is after the end.
"""

# Locust says that it is typed, but its event hooks are not.
# mypy: untyped-calls-exclude=locust

from __future__ import annotations

import contextlib
import random
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Final, Protocol

from locust.env import Environment

from loadtest._tally import Tally

REQUEST_TYPES: Final = {
    "discover": "HTTP",
    "connect": "WS",
    "register": "WS",
    "heartbeat": "WS",
    "push": "HTTP",
    "delivery": "WS",
}
"""Each step's type in locust's statistics."""


class UnansweredError(Exception):
    """What was asked got no answer while the test lasted."""


class Member(Protocol):
    """A registered connection."""

    user_id: str
    slot: int

    def unanswered(self) -> int:
        """How many heartbeats are under way."""

    def abandon(self, error: Exception) -> None:
        """Report the heartbeats under way as failed."""


class Campaign:
    """One process's part of a load test.

    Attributes:
        tally: what the verdict needs besides locust's statistics.
        run: marks this test's pushes; the same in all its processes.
        processes: how many processes share the work.
        members: the connections registered now, in no order.
        held_at: the Unix time at which the end began (nothing new is to be sent), None before.
        finished: nothing is measured any more.
        random: this process's own, as forked processes would otherwise draw the same numbers.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._in_flight: dict[object, tuple[str, float]] = {}
        self.random = random.Random()
        self.name = self.mark()
        self.run = self.name
        self.processes = 1
        self.tally = Tally()
        self.members: list[Member] = []
        self.held_at: float | None = None
        self.finished = False
        self._clients = 0

    @property
    def options(self) -> Namespace:
        """The command line's options."""
        options: Namespace | None = self._environment.parsed_options
        assert options is not None
        return options

    @property
    def host(self) -> str:
        """The gateway's base URL."""
        return self._environment.host or ""

    def mark(self) -> str:
        """A name that nothing else has: of a process, or of one test."""
        return f"{self.random.getrandbits(40):010x}"

    def begin(self) -> None:
        """A test starts: forget the one before."""
        self.tally = Tally()
        self._in_flight.clear()
        self.held_at = None
        self.finished = False

    def next_client(self) -> str:
        """A client's name that no other client of any process has."""
        self._clients += 1
        return f"load-{self.name}-{self._clients}"

    def report(self, step: str, seconds: float, size: int = 0, error: Exception | None = None) -> None:
        """Count one attempt at a step in locust's statistics, unless the end has passed.

        Args:
            step: its name.
            seconds: from when it was meant to begin to its end.
            size: bytes received.
            error: why it failed, if it did.
        """
        if not self.finished:
            self._environment.events.request.fire(
                request_type=REQUEST_TYPES[step],
                name=step,
                response_time=max(0.0, seconds) * 1000,
                response_length=size,
                exception=error,
                context={},
            )

    @contextlib.contextmanager
    def step(self, step: str, intended: float | None = None) -> Iterator[None]:
        """Time what is done inside, and count it as failed if an Exception leaves it.

        Args:
            step: its name.
            intended: when it was meant to begin (time.monotonic), if not now.
        """
        start = time.monotonic() if intended is None else intended
        token = object()
        self._in_flight[token] = (step, start)
        try:
            yield
        except Exception as error:
            self.report(step, time.monotonic() - start, error=error)
            raise
        else:
            self.report(step, time.monotonic() - start)
        finally:
            self._in_flight.pop(token, None)

    def join(self, member: Member) -> float:
        """A connection was registered just now: count it, and say at which Unix time."""
        now = time.time()
        if not self.finished:
            self.tally.registered.append(now)
        member.slot = len(self.members)
        self.members.append(member)
        return now

    def leave(self, member: Member) -> None:
        """A registered connection is no more."""
        if not self.finished:
            self.tally.ended.append(time.time())
        last = self.members.pop()
        if last is not member:
            self.members[member.slot] = last
            last.slot = member.slot

    def disconnected(self, reason: str) -> None:
        """A registered connection ended without our wishing it."""
        if not self.finished:
            self.tally.disconnects[reason] = self.tally.disconnects.get(reason, 0) + 1

    def hold(self) -> None:
        """Begin the end: from now on nothing new is sent, and answers are still taken."""
        if self.held_at is None:
            self.held_at = time.time()

    def unanswered(self) -> int:
        """How many steps and heartbeats are under way."""
        return len(self._in_flight) + sum(member.unanswered() for member in self.members)

    def finish(self) -> None:
        """End it: what is still under way has failed, and nothing counts from now on."""
        if self.finished:
            return
        # Left out of the statistics, the slowest answers of all would flatter them.
        error = UnansweredError("unanswered when the test ended")
        now = time.monotonic()
        for step, start in self._in_flight.values():
            self.report(step, now - start, error=error)
        for member in self.members:
            member.abandon(error)
        self.finished = True
