"""Sends the pushes whose delivery is measured, on a schedule that waits for nobody.

Knows the rates and whom there is to push to in this process. Every push carries the moment at which it was
meant to be sent: a gateway that makes the pusher wait pays for it in the figures.
"""

from __future__ import annotations

import time

import gevent
import msgspec

from loadtest._api import Api, ApiError
from loadtest._campaign import Campaign
from loadtest._member import PUSH_TYPE, LoadMark

# Of a push that was due just before the end, the pusher's own timer may be what was late.
_GRACE = 0.25


class NeverSentError(Exception):
    """The pushes before this one took so long that it was never sent."""


class Pusher:
    """One per process; `run` is the body of its greenlet."""

    def __init__(self, campaign: Campaign) -> None:
        options = campaign.options
        self._campaign = campaign
        self._padding = "x" * int(options.push_size)
        self._number = 0
        self._api = Api(campaign.host, options.api_key, options.step_timeout)
        start = time.time()
        # By whether it goes to all: when the next is due, and how long until the one after.
        self._schedule = {
            to_all: [start + campaign.processes / rate * campaign.random.random(), campaign.processes / rate]
            for to_all, rate in ((False, options.push_rate), (True, options.broadcast_rate))
            if rate
        }

    def run(self) -> None:
        """Push until the test is being ended; may be killed at any point."""
        if not self._schedule:
            return
        with self._api:
            while True:
                to_all = min(self._schedule, key=lambda kind: self._schedule[kind][0])
                due = self._schedule[to_all][0]
                gevent.sleep(max(0.0, due - time.time()))
                held_at = self._campaign.held_at
                if held_at is not None:
                    self._give_up(held_at)
                    return
                self._schedule[to_all][0] += self._schedule[to_all][1]
                self._push(to_all, due)

    def _push(self, to_all: bool, due: float) -> None:
        members = self._campaign.members
        if not to_all and not members:
            return
        tally = self._campaign.tally
        user = None if to_all else self._campaign.random.choice(members).user_id
        now = time.time()
        # Counted even if the gateway refuses it: a push that nobody gets is not delivered, whatever the reason.
        if to_all:
            tally.broadcasts.append(now)
        else:
            tally.aimed_sent += 1
        self._number += 1
        load = LoadMark(self._campaign.run, self._campaign.name, self._number, due, now, user)
        notification: dict[str, object] = {
            # Of this test only: the gateway takes an id that it knows for the same push once more.
            "id": f"{self._campaign.name}-{self._campaign.run}-{self._number}",
            "target": {"all": True} if user is None else {"user_id": user},
            "type": PUSH_TYPE,
            "data": {"load": msgspec.to_builtins(load), "padding": self._padding},
        }
        try:
            with self._campaign.step("push", time.monotonic() - (now - due)):
                self._api.push(notification)
        except ApiError:
            # It is in the statistics; the next push is another chance.
            return

    def _give_up(self, held_at: float) -> None:
        """Report as failed what should have been sent by now."""
        for to_all, (due, interval) in self._schedule.items():
            if not to_all and not self._campaign.members:
                continue
            while due < held_at - _GRACE:
                self._campaign.report(
                    "push", held_at - due, error=NeverSentError("never sent: earlier pushes took too long")
                )
                due += interval
