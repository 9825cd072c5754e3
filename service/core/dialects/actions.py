"""Actions that the gateway answers by itself, and how to add one.

An action is a plain function `(ActionCall) -> result`; the result is anything that JSON can hold. It runs in the loop
that everything runs in, so it must be quick: what takes longer than a millisecond belongs in a worker. For input that
it cannot take it raises ActionError, whose text is the answer's error. An action that has to ask other nodes is added
by `add_asking`, and answers by a Reply.

A question of 60 bytes may have an answer of 280 KB, from all nodes. So lists of clients and workers are bounded for
each address that asks (`Lists`), and callers that see totals only get those of the last second (`RecentStatus`).
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import asdict

from portico.wire.messages import encode

from ..connections.authentication import Authentication
from ..connections.presence import Page, Presence, Status, Workers
from ..connections.session import Session
from ..counters import Counters
from ..hosts import network
from ..ports import Wall
from ..reply import Reply
from ..token_bucket import TokenBucket

LISTED: Final = 1000
"""How many clients `get_client_info` lists at most, over all nodes; the totals count all."""

LISTED_BYTES_PER_SECOND: Final = 4 << 20
LISTED_BYTES_AT_ONCE: Final = 16 << 20
"""Bytes of lists that one address (of IPv6 one /64) may get: a second over time, and at once."""
LISTS_AT_ONCE: Final = 16
"""Lists of one address that other nodes are asked for at a time."""
CALLERS: Final = 1000
"""Addresses that are counted for; the count of the one that asked longest ago is forgotten first."""
KEPT_SECONDS: Final = 1.0
"""For how long callers that may not see others get the same totals."""
FEW: Final = 1000
"""With no more connections than these, and one node only, totals are counted anew for each question: in under 1 ms."""


class ActionError(Exception):
    """An action cannot take its input; the text is for the peer."""


class ActionCall(Struct, frozen=True):
    """One call of an action: by whom, and with which parameters (JSON as it came)."""

    session: Session
    params: Raw


Action = Callable[[ActionCall], object]
AskingAction = Callable[[ActionCall, Reply[object]], None]


class Actions:
    """The actions of this gateway, by name."""

    def __init__(self) -> None:
        self._actions: dict[str, AskingAction] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._actions

    def add(self, name: str, action: Action) -> None:
        """Add an action. ValueError where the name is taken."""
        self.add_asking(name, lambda call, reply: reply(action(call)))

    def add_asking(self, name: str, action: AskingAction) -> None:
        """Add an action that gets the Reply to answer by; it may raise ActionError before. ValueError where the name
        is taken."""
        if name in self._actions:
            raise ValueError(f"there is an action {name!r} already; choose another name")
        self._actions[name] = action

    def run(self, name: str, call: ActionCall, reply: Reply[object]) -> None:
        """Run an action; raises ActionError for what it cannot take."""
        try:
            self._actions[name](call, reply)
        except BaseException:
            reply.withdraw()
            raise


class Lists:
    """How much of lists each address was told lately. Over its bound it is refused, and others go on."""

    def __init__(self, wall: Wall) -> None:
        self._wall = wall
        self._callers: OrderedDict[str, TokenBucket] = OrderedDict()
        self._under_way: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._callers)

    def check(self, address: str) -> None:
        """Whether an address may get a list now. Raises ActionError if not; otherwise call `on_told` once it has it."""
        caller, now = network(address), self._wall()
        bucket = self._callers.get(caller)
        if bucket is None:
            if len(self._callers) >= CALLERS:
                self._callers.popitem(last=False)
            bucket = self._callers[caller] = TokenBucket(LISTED_BYTES_PER_SECOND, LISTED_BYTES_AT_ONCE, now)
        self._callers.move_to_end(caller)
        under_way = self._under_way.get(caller, 0)
        if under_way >= LISTS_AT_ONCE or not bucket.take(1, now):
            raise ActionError("Lists were asked for too often from this address; ask again in some seconds.")
        self._under_way[caller] = under_way + 1

    def on_told(self, address: str, size: int) -> None:
        """Count a list of `size` bytes that an address got after `check`."""
        caller = network(address)
        under_way = self._under_way.pop(caller) - 1
        if under_way:
            self._under_way[caller] = under_way
        if caller in self._callers:
            self._callers[caller].take(size, self._wall())


class RecentStatus:
    """The totals as they were within the last KEPT_SECONDS: found out once, however many want them."""

    def __init__(self, ask: Callable[[Reply[Status]], None], wall: Wall) -> None:
        self._ask = ask
        self._wall = wall
        self._kept: Status | None = None
        self._at = 0.0
        self._waiting: list[Callable[[Status], None]] = []

    def tell(self, call: Callable[[Status], None]) -> None:
        """Call `call` with the totals: at once if they are recent, else when they are known."""
        if self._kept is not None and 0 <= self._wall() - self._at < KEPT_SECONDS:
            call(self._kept)
            return
        self._waiting.append(call)
        if len(self._waiting) == 1:
            self._ask(Reply(self._on_status))

    def _on_status(self, status: Status) -> None:
        self._kept, self._at = status, self._wall()
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call(status)


class _AboutConnections:
    """`get_client_info` and `get_metrics`: who is connected, as far as the caller may know."""

    def __init__(self, presence: Presence, authentication: Authentication, counters: Counters, wall: Wall) -> None:
        self._presence = presence
        self._authentication = authentication
        self._counters = counters
        self._wall = wall
        self._lists = Lists(wall)
        self._recent = RecentStatus(presence.status, wall)

    def get_client_info(self, call: ActionCall, reply: Reply[object]) -> None:
        if self._authentication.sees_others(call.session):
            self._lists.check(call.session.address)
            self._presence.status(Reply(partial(self._list_clients, call.session, reply)))
        else:
            self._tell_totals(partial(self._tell_of_oneself, call.session, reply))

    def _tell_totals(self, call: Callable[[Status], None]) -> None:
        if self._presence.is_small(FEW):
            self._presence.status(Reply(call))
        else:
            self._recent.tell(call)

    def _tell_of_oneself(self, session: Session, reply: Reply[object], status: Status) -> None:
        total, closing = status.totals.registered, status.totals.closing
        own = [self._presence.own(session)]
        reply({"total_clients": total, "healthy_clients": max(0, total - closing), "clients": own})

    def _list_clients(self, session: Session, reply: Reply[object], status: Status) -> None:
        closing = status.totals.closing

        def on_page(page: Page) -> None:
            healthy = max(0, page.total - closing)
            found = {"total_clients": page.total, "healthy_clients": healthy, "clients": page.clients}
            self._tell_list(session, reply, found)

        self._presence.clients({}, 0, LISTED, Reply(on_page))

    def _tell_list(self, session: Session, reply: Reply[object], found: dict[str, object]) -> None:
        told = encode(found)
        self._lists.on_told(session.address, len(told))
        reply(Raw(told))

    def get_metrics(self, call: ActionCall, reply: Reply[object]) -> None:
        if self._authentication.sees_others(call.session):
            self._lists.check(call.session.address)
            self._presence.status(Reply(partial(self._list_workers, call.session, reply)))
        else:
            self._tell_totals(lambda status: reply(self._totals(status)))

    def _totals(self, status: Status) -> dict[str, object]:
        return {
            "timestamp": self._wall(),
            "total_connections": status.totals.total,
            "total_clients": status.totals.registered,
            "total_workers": status.totals.workers,
        }

    def _list_workers(self, session: Session, reply: Reply[object], status: Status) -> None:
        found = self._totals(status)
        found |= {"node": self._presence.node, "by_node": status.by_node, "metrics": _counted(self._counters)}

        def on_workers(workers: Workers) -> None:
            listed = [{**asdict(worker), "node": node} for node, worker in workers.workers]
            self._tell_list(session, reply, {**found, "workers": listed})

        self._presence.workers(Reply(on_workers))


def add_own(
    actions: Actions, presence: Presence, authentication: Authentication, counters: Counters, wall: Wall
) -> None:
    """Add the actions that every gateway has: `get_time`, `get_client_info`, `get_metrics`, `calculate`."""
    about = _AboutConnections(presence, authentication, counters, wall)
    actions.add("get_time", lambda _: local_time(wall()))
    actions.add_asking("get_client_info", about.get_client_info)
    actions.add_asking("get_metrics", about.get_metrics)
    actions.add("calculate", lambda call: calculate(call.params))


def _counted(counters: Counters) -> dict[str, object]:
    """What this node has counted since it started."""
    return {
        "connections_opened": counters.connections_opened.total(),
        "connections_closed": counters.connections_closed.total(),
        "messages_received": counters.messages_in,
        "messages_sent": counters.messages_out,
        "received_bytes": counters.bytes_in,
        "sent_bytes": counters.bytes_out,
        "faults": counters.faults.total(),
        "pushes": counters.pushes.total(),
        "push_deliveries": counters.push_deliveries,
        "requests": dict(counters.requests),
        "requests_retried": counters.requests_retried,
    }


def local_time(timestamp: float) -> str:
    """A time as text, local, `2025-10-20 15:30:45`."""
    return datetime.fromtimestamp(timestamp).strftime("%Y-%m-%d %H:%M:%S")


class _Calculation(Struct):
    a: float | int
    b: float | int
    op: str = "+"


_calculation = msgspec.json.Decoder(_Calculation)


def calculate(params: Raw) -> float | int:
    """`{"a", "b", "op"}` with `+ - * /`; nothing is evaluated. Raises ActionError."""
    try:
        asked = _calculation.decode(params)
    except msgspec.MsgspecError:
        raise ActionError('calculate needs {"a": number, "b": number, "op": "+", "-", "*" or "/"}') from None
    a, b = asked.a, asked.b
    try:
        match asked.op:
            case "+":
                result = a + b
            case "-":
                result = a - b
            case "*":
                result = a * b
            case "/":
                if b == 0:
                    raise ActionError("Division by zero")
                result = a / b
            case _:
                raise ActionError("Unknown operator; use +, -, * or /")
        finite = math.isfinite(result)
    except OverflowError:
        finite = False
    if not finite:
        raise ActionError("The result is too large")
    # Integers that JSON writers don't take any more are numbers still.
    return result if isinstance(result, float) or -(2**63) <= result < 2**64 else float(result)
