"""Actions that the gateway answers by itself, and how to add one.

An action is a plain function `(ActionCall) -> result`; the result is anything that JSON can hold. It runs in the loop
that everything runs in, so it must be quick: what takes longer than a millisecond belongs in a worker. For input that
it cannot take it raises ActionError, whose text is the answer's error. An action that has to ask other nodes is added
by `add_asking`, and answers by a Reply.
"""

import math
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import asdict

from ..connections.authentication import Authentication
from ..connections.presence import Page, Presence, Status, Workers
from ..connections.session import Session
from ..counters import Counters
from ..ports import Wall
from ..reply import Reply

LISTED: Final = 1000
"""How many clients `get_client_info` lists at most, over all nodes; the totals count all."""


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


def add_own(
    actions: Actions, presence: Presence, authentication: Authentication, counters: Counters, wall: Wall
) -> None:
    """Add the actions that every gateway has: `get_time`, `get_client_info`, `get_metrics`, `calculate`."""

    def get_client_info(call: ActionCall, reply: Reply[object]) -> None:
        def on_status(status: Status) -> None:
            if not authentication.sees_others(call.session):
                total, closing = status.totals.registered, status.totals.closing
                reply(
                    {
                        "total_clients": total,
                        "healthy_clients": max(0, total - closing),
                        "clients": [presence.own(call.session)],
                    }
                )
                return
            presence.clients({}, 0, LISTED, Reply(partial(on_page, status.totals.closing)))

        def on_page(closing: int, page: Page) -> None:
            reply(
                {
                    "total_clients": page.total,
                    "healthy_clients": max(0, page.total - closing),
                    "clients": page.clients,
                }
            )

        presence.status(Reply(on_status))

    def get_metrics(call: ActionCall, reply: Reply[object]) -> None:
        def on_status(status: Status) -> None:
            found: dict[str, object] = {
                "timestamp": wall(),
                "total_connections": status.totals.total,
                "total_clients": status.totals.registered,
                "total_workers": status.totals.workers,
            }
            if authentication.sees_others(call.session):
                found |= {"node": presence.node, "by_node": status.by_node, "metrics": _counted(counters)}
                presence.workers(Reply(partial(on_workers, found)))
            else:
                reply(found)

        def on_workers(found: dict[str, object], workers: Workers) -> None:
            reply({**found, "workers": [{**asdict(worker), "node": node} for node, worker in workers.workers]})

        presence.status(Reply(on_status))

    actions.add("get_time", lambda _: local_time(wall()))
    actions.add_asking("get_client_info", get_client_info)
    actions.add_asking("get_metrics", get_metrics)
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
