"""Connections that are not C-Clients': a listener's, a requester's, and a worker's who answers it.

Knows the user, requester and envelope dialects; never how connections are made. Each checks what it is told, as the
C-Client does: an answer to no request, with other data than was sent, or without its fields, is a protocol error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from gevent.event import AsyncResult

from loadtest._campaign import Campaign
from loadtest._link import Link, LinkClosedError
from loadtest._marks import PUSH_TYPE, LoadMark, Seen
from loadtest._member import BrokenOffError, UnexpectedMessageError, transcript
from loadtest._schedule import Due

COMMAND: Final = "load_test_work"
"""The command that requesters send and workers serve."""

_SETTLED: Final = 1.0
_ANSWER_FIELDS: Final = frozenset({"request_id", "success", "data", "error", "processed_by"})


class Session:
    """One connection of a listener, a requester or a worker: its end, and its faults."""

    def __init__(self, campaign: Campaign, link: Link, name: str) -> None:
        self.campaign = campaign
        self.link = link
        self.name = name
        self.over: AsyncResult[None] = AsyncResult()

    def start(self) -> None:
        """Begin; messages come from now on."""
        self.link.attach(self)

    def on_message(self, payload: bytes, arrived: float, *, binary: bool) -> None:
        """A message from the gateway."""
        if binary:
            self.fault("a binary message", arrived)
            return
        try:
            message = msgspec.json.decode(payload)
        except msgspec.MsgspecError:
            self.on_text(payload, arrived)
            return
        if isinstance(message, dict):
            self.on_object(message, len(payload), arrived)
        else:
            self.on_text(payload, arrived)

    def on_text(self, payload: bytes, arrived: float) -> None:
        """A message that is no object."""
        self.fault("a message that is no object", arrived)

    def on_object(self, message: dict[str, Any], size: int, arrived: float) -> None:
        """A message that is one."""
        raise NotImplementedError

    def on_closed(self, error: LinkClosedError) -> None:
        """The connection is over."""
        self.end(error)

    def end(self, error: Exception) -> None:
        """The connection is over; what it waited for has failed."""
        if not self.over.ready():
            self.over.set_exception(error)

    def close(self) -> None:
        """Nothing more is expected of it."""

    def fault(self, kind: str, arrived: float) -> None:
        """The gateway said what it must not say."""
        self.campaign.fault(kind, self.name, arrived, transcript(self.link))


class Listening(Session):
    """A connection of the user dialect: pushes, and nothing else."""

    def __init__(self, campaign: Campaign, link: Link, name: str) -> None:
        super().__init__(campaign, link, name)
        self.user_id = name
        self.slot = -1
        self._since = link.opened
        self._seen: dict[str, Seen] = {}

    def start(self) -> None:
        super().start()
        self.campaign.enter(self)

    def unanswered(self) -> int:
        """Always 0: a listener asks nothing."""
        return 0

    def abandon(self, error: Exception) -> None:
        """Does nothing: a listener waits for no answer."""

    def break_off(self, wait: float) -> None:
        """Have it end its connection without a good-bye, and come back after so many seconds."""
        self.end(BrokenOffError(wait))

    def close(self) -> None:
        self.campaign.withdraw(self)

    def on_object(self, message: dict[str, Any], size: int, arrived: float) -> None:
        if message.get("type") != PUSH_TYPE:
            return
        campaign, offset = self.campaign, self.campaign.clock_offset
        try:
            load = msgspec.convert(message.get("load"), LoadMark)
        except msgspec.ValidationError:
            self.fault("a push without its data", arrived)
            return
        if load.run != campaign.run or campaign.finished or load.sequence is not None:
            return
        padding = message.get("padding")
        if not isinstance(padding, str) or len(padding) != load.size or padding.strip("x"):
            self.fault("a push whose data is cut or changed", arrived)
        kind, step = ("aimed", "delivery") if load.user is not None else ("broadcast", "broadcast")
        if load.user is None and load.sent < self._since + offset:
            return
        count, error = campaign.count(kind, load.stage), None
        if load.user is not None and load.user != self.user_id:
            count.misdirected += 1
            error = UnexpectedMessageError("a push for another user")
        elif self._seen.setdefault(load.pusher + kind, Seen()).receive(load.number, load.after) == "doubled":
            count.doubled += 1
            error = UnexpectedMessageError("a push for the second time")
        else:
            count.delivered += 1
            if load.user is not None:
                campaign.awaited.pop((step, load.number), None)
        campaign.report(step, load.intended - offset, arrived, size, error)


class Requesting(Session):
    """A requester's connection: requests at their times, whatever became of those before."""

    def __init__(self, campaign: Campaign, link: Link, name: str) -> None:
        super().__init__(campaign, link, name)
        options = campaign.options
        self._interval = 1 / options.request_rate if options.request_rate else 0.0
        self._timeout: float = options.step_timeout
        self._parts = int(options.stream_parts)
        self._padding = "x" * int(options.push_size)
        self._number = 0
        self._waiting: dict[str, tuple[float, int, Due]] = {}
        self._next: Due | None = None

    def start(self) -> None:
        super().start()
        if self._interval:
            # Those who come together with it may be its workers.
            first = time.time() + _SETTLED + self.campaign.random.uniform(0, self._interval)
            self._next = self.campaign.schedule.at(first, self._ask)

    def close(self) -> None:
        if self._next is not None:
            self._next.cancel()

    def end(self, error: Exception) -> None:
        super().end(error)
        for request_id in list(self._waiting):
            self._answered(request_id, time.time(), 0, error)

    def _ask(self, due: float) -> None:
        campaign = self.campaign
        if campaign.held_at is not None:
            return
        self._next = campaign.schedule.at(due + self._interval, self._ask)
        self._number += 1
        request_id = f"{self.name}-{self._number}"
        late = campaign.schedule.at(due + self._timeout, lambda _: self._late(request_id))
        self._waiting[request_id] = (due, 0, late)
        campaign.asked += 1
        message: dict[str, Any] = {
            "request_id": request_id,
            "command": COMMAND,
            "data": {"nonce": request_id, "padding": self._padding},
            "timeout": self._timeout,
        }
        if self._parts:
            message["stream"] = True
        self.link.send(msgspec.json.encode(message))
        campaign.strain.send_late.record(time.time() - due)

    def _late(self, request_id: str) -> None:
        error = UnexpectedMessageError(f"no answer in {self._timeout:g} s")
        self._answered(request_id, time.time(), 0, error)

    def _answered(self, request_id: str, at: float, size: int, error: Exception | None) -> None:
        if (waiting := self._waiting.pop(request_id, None)) is not None:
            due, _, late = waiting
            late.cancel()
            self.campaign.asked -= 1
            self.campaign.report("request", due, at, size, error)

    def on_object(self, message: dict[str, Any], size: int, arrived: float) -> None:
        if not message.keys() >= _ANSWER_FIELDS:
            self.fault("an answer without its five fields", arrived)
            return
        request_id = message["request_id"]
        waiting = self._waiting.get(request_id) if isinstance(request_id, str) else None
        if waiting is None:
            if not (isinstance(request_id, str) and request_id.startswith(self.name)):
                self.fault("an answer to no request", arrived)
            return
        due, parts, late = waiting
        if message["success"] is not True:
            self._answered(request_id, arrived, size, UnexpectedMessageError(str(message["error"])[:80]))
            return
        data = message["data"]
        if not isinstance(data, dict) or data.get("nonce") != request_id or not message["processed_by"]:
            self.fault("an answer that is another's, or nobody's", arrived)
        if message.get("partial"):
            if isinstance(data, dict) and data.get("part") != parts:
                self.fault("a partial answer out of order", arrived)
            if parts == 0:
                self.campaign.report("partial", due, arrived, size)
            self._waiting[request_id] = (due, parts + 1, late)
            return
        if parts != self._parts:
            self.fault("an answer without all its parts", arrived)
        self._answered(request_id, arrived, size, None)


class Working(Session):
    """A worker's connection: answers what it is asked after its service time."""

    def __init__(self, campaign: Campaign, link: Link, name: str) -> None:
        super().__init__(campaign, link, name)
        self._service: float = campaign.options.service_time

    def start(self) -> None:
        data = {"client_id": self.name, "role": "worker", "commands": [COMMAND], "capacity": 1000}
        message = {"type": "connect", "data": data}
        shown = msgspec.json.encode(message)
        if self.campaign.options.worker_key:
            data["token"] = self.campaign.options.worker_key
        super().start()
        self.link.send(msgspec.json.encode(message), kept=shown)

    def on_object(self, message: dict[str, Any], size: int, arrived: float) -> None:
        kind, data = message.get("type"), message.get("data")
        if not isinstance(kind, str) or not isinstance(data, dict) or not message.get("msg_id"):
            self.fault("an envelope without its fields", arrived)
        elif kind == "error":
            self.fault(f"an error to a worker: {str(data.get('code'))[:40]}", arrived)
        elif kind == "request" and data.get("action") == COMMAND:
            self._take(str(message["msg_id"]), data, arrived)

    def _take(self, msg_id: str, data: dict[str, Any], arrived: float) -> None:
        details, params = data.get("request"), data.get("params")
        if not isinstance(details, dict) or not isinstance(params, dict):
            self.fault("a request without its fields", arrived)
            return
        parts = int(self.campaign.options.stream_parts) if details.get("stream") else 0
        schedule, step = self.campaign.schedule, self._service / (parts + 1)
        for part in range(parts):
            # Each at its own time; the last one after the whole of it.
            schedule.at(arrived + step * (part + 1), self._answer(msg_id, {**params, "part": part}, partial=True))
        schedule.at(arrived + self._service, self._answer(msg_id, params, partial=False))

    def _answer(self, msg_id: str, result: dict[str, Any], *, partial: bool) -> Callable[[float], None]:
        def send(_: float) -> None:
            data = {"request_id": msg_id, "success": True, "result": result, "error": None}
            answer = {"type": "response", "msg_id": msg_id, "data": data}
            if partial:
                data["partial"] = True
            self.link.send(msgspec.json.encode(answer))

        return send
