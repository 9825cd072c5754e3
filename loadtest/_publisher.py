"""Sends the pushes whose delivery is measured, on an open schedule: at their times, whatever became of those before.

Knows the rates and whom there is to push to in this process. Every push has a greenlet and a connection of its own, out
of a pool: a gateway that takes a quarter of a second for each is measured at a quarter of a second, and one that stands
still at as long as it does. What finds no connection in the pool waits, and is timed from when it was due; so does a
durable push while all its users have one under way, as their order is known only one by one. What is waiting when the
end begins is still sent: only the gateway can be the reason for which it is not sent until the test has ended.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import gevent
import msgspec
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore
from gevent.pool import Group

from loadtest._api import Api, ApiAnswer, ApiError
from loadtest._campaign import Campaign
from loadtest._kept import KeptPushes
from loadtest._marks import PUSH_TYPE, LoadMark, Numbers

CONNECTIONS: Final = 256
"""The most connections of one process's pool."""
_TRIES: Final = 8


class NeverSentError(Exception):
    """The pushes before this one took so long that it was never sent."""


class Publisher:
    """One per process and test."""

    def __init__(self, campaign: Campaign) -> None:
        options = campaign.options
        self._campaign = campaign
        self._padding = "x" * int(options.push_size)
        self._batch = int(options.batch_size)
        self._idle: list[Api] = []
        self._room = BoundedSemaphore(CONNECTIONS)
        self._under_way = Group()
        self._turns: deque[AsyncResult[KeptPushes | None]] = deque()
        self._numbers = {step: Numbers() for step in ("delivery", "broadcast", "durable")}
        self._sent = 0
        for rate, send in (
            (options.push_rate, self._single),
            (options.broadcast_rate, self._broadcast),
            (options.durable_rate, self._durable),
            (options.batch_rate, self._many),
        ):
            if rate:
                self._repeat(campaign.processes / rate, send)

    def close(self) -> None:
        """Send nothing more; what is under way is given up."""
        self._under_way.kill(block=False)
        for api in self._idle:
            api.close()

    def give_up(self) -> None:
        """Report as failed what should have been sent by now."""
        waiting, now = self._campaign.waiting, time.time()
        for due in waiting.values():
            self._campaign.report("push", due, now, error=NeverSentError("never sent: earlier pushes took too long"))
        waiting.clear()

    def _repeat(self, interval: float, push: Callable[[float], None]) -> None:
        def on_due(due: float) -> None:
            if self._campaign.held_at is not None:
                return
            self._campaign.schedule.at(due + interval, on_due)
            # So late is the load; from here on the gateway may be what it waits for.
            self._campaign.strain.send_late.record(time.time() - due)
            greenlet = gevent.Greenlet(self._in_time, due, push)
            self._campaign.waiting[greenlet] = due
            self._under_way.start(greenlet)

        # Anywhere in the interval: the processes must not push together.
        self._campaign.schedule.at(time.time() + interval * self._campaign.random.random(), on_due)

    def _in_time(self, due: float, push: Callable[[float], None]) -> None:
        try:
            push(due)
        finally:
            self._campaign.waiting.pop(gevent.getcurrent(), None)

    def _is_due(self) -> bool:
        """Whether the push of this greenlet, which has just got a connection, was not given up while it waited."""
        return self._campaign.waiting.pop(gevent.getcurrent(), None) is not None

    def _single(self, due: float) -> None:
        with self._room:
            if self._is_due() and (user := self._somebody()) is not None:
                self._send(due, "push", "delivery", [user])

    def _broadcast(self, due: float) -> None:
        with self._room:
            if self._is_due():
                self._send(due, "push", "broadcast", [None])

    def _many(self, due: float) -> None:
        with self._room:
            if not self._is_due():
                return
            users = [user for _ in range(self._batch) if (user := self._somebody()) is not None]
            if users:
                self._send(due, "batch", "delivery", list(users))

    def _durable(self, due: float) -> None:
        kept = self._take_turn()
        if kept is None:
            return
        try:
            with self._room:
                if self._is_due():
                    self._send(due, "push", "durable", [kept.user])
        finally:
            self._end_turn(kept)

    def _take_turn(self) -> KeptPushes | None:
        """Wait for any user that has no durable push under way, and mark it as having one; None if there are no users.

        Call `_end_turn` when the push is over.
        """
        campaign = self._campaign
        while True:
            for _ in range(_TRIES):
                user = campaign.random.choice(campaign.keepers) if campaign.keepers else self._somebody()
                if user is None:
                    return None
                kept = campaign.kept_of(user)
                if not kept.in_flight:
                    kept.in_flight = True
                    return kept
            turn: AsyncResult[KeptPushes | None] = AsyncResult()
            self._turns.append(turn)
            given: KeptPushes | None = turn.get()
            if given is not None:
                return given

    def _end_turn(self, kept: KeptPushes) -> None:
        """The user's push is over: give the user to the push that has waited longest, unless the user has left."""
        campaign = self._campaign
        stays = kept.user in campaign.keepers if campaign.keepers else campaign.is_there(kept.user, time.time())
        kept.in_flight = bool(self._turns) and stays
        if self._turns:
            self._turns.popleft().set(kept if stays else None)

    def _somebody(self) -> str | None:
        members = self._campaign.members
        return self._campaign.random.choice(members).user_id if members else None

    def _send(self, due: float, step: str, kind: str, users: list[str | None]) -> None:
        campaign = self._campaign
        api = (
            self._idle.pop()
            if self._idle
            else Api(campaign.reactor, campaign.host, campaign.options.api_key, campaign.options.step_timeout)
        )
        stage = campaign.stage_of(due)
        now = time.time()
        numbers = self._numbers[kind]
        marks = [self._mark(kind, numbers, stage, due, now, user) for user in users]
        # Counted even if the gateway refuses it: a push that nobody gets is not delivered, whatever the reason.
        if kind == "broadcast":
            campaign.tally.broadcasts.append((stage, now + campaign.clock_offset))
        else:
            campaign.count("aimed" if kind == "delivery" else kind, stage).expected += len(marks)
            for mark in marks:
                campaign.awaited[kind, mark.number] = mark.user or ""
        bodies = [self._notification(kind, mark) for mark in marks]
        answer: ApiAnswer | None = None
        try:
            with campaign.step(step, due) as ended:
                answer = api.push(bodies[0] if step == "push" else bodies)
                ended.append(answer.arrived)
        except ApiError as error:
            # It is in the statistics. What was refused will not come; what was not answered might.
            if error.status is not None:
                for mark in marks:
                    campaign.awaited.pop((kind, mark.number), None)
        except BaseException:
            api.close()
            raise
        finally:
            for mark in marks:
                numbers.answered(mark.number)
        self._idle.append(api)
        if answer is not None:
            receipts = answer.content if step == "batch" else [answer.content]
            self._check(kind, marks, bodies, receipts, answer)

    def _mark(self, kind: str, numbers: Numbers, stage: int, due: float, now: float, user: str | None) -> LoadMark:
        campaign, offset = self._campaign, self._campaign.clock_offset
        sequence: int | None = None
        if kind == "durable" and user is not None:
            kept = campaign.kept_of(user)
            kept.sequence += 1
            sequence = kept.sequence
        return LoadMark(
            campaign.run, campaign.name, numbers.take(), numbers.floor, stage, due + offset, now + offset,
            len(self._padding), user, sequence,
        )  # fmt: skip

    def _notification(self, kind: str, mark: LoadMark) -> dict[str, object]:
        self._sent += 1
        notification: dict[str, object] = {
            # Of this test only: the gateway takes an id that it knows for the same push once more.
            "id": f"{self._campaign.name}-{self._campaign.run}-{self._sent}",
            "target": {"all": True} if mark.user is None else {"user_id": mark.user},
            "type": PUSH_TYPE,
            "data": {"load": msgspec.to_builtins(mark), "padding": self._padding},
        }
        if kind == "durable":
            notification["durable"] = True
        return notification

    def _check(
        self, kind: str, marks: list[LoadMark], bodies: list[dict[str, object]], receipts: object, answer: ApiAnswer
    ) -> None:
        """See that the receipts are what they should be."""
        campaign = self._campaign
        if not isinstance(receipts, list) or len(receipts) != len(marks):
            self._fault("receipts of another number than the pushes", answer)
            return
        for mark, body, receipt in zip(marks, bodies, receipts, strict=True):
            if not isinstance(receipt, dict) or not {"id", "stream", "offset", "matched", "queued"} <= receipt.keys():
                self._fault("a receipt without its fields", answer)
                campaign.awaited.pop((kind, mark.number), None)
                continue
            matched = receipt["matched"]
            if receipt["id"] != body["id"]:
                self._fault("a receipt with another id", answer)
            if not isinstance(matched, int) or not isinstance(receipt["queued"], int) or receipt["queued"] > matched:
                self._fault("a receipt whose counts are none", answer)
            elif mark.user is None:
                campaign.part(mark.stage).matched += matched
            elif matched < 1 and campaign.is_there(mark.user, mark.sent - campaign.clock_offset):
                self._fault("a receipt that matched nobody, of a user who was there", answer)
            if mark.sequence is None:
                if receipt["stream"] is not None or receipt["offset"] is not None:
                    self._fault("a receipt with a stream, of a live push", answer)
            elif wrong := campaign.kept_of(mark.user or "").on_receipt(
                mark.sequence, receipt["stream"], receipt["offset"]
            ):
                self._fault(wrong, answer)

    def _fault(self, kind: str, answer: ApiAnswer) -> None:
        text = msgspec.json.encode(answer.content)[:200].decode("utf-8", "replace")
        self._campaign.fault(kind, "publisher", answer.arrived, [f"< {text}"])
