"""Actions that the gateway answers by itself, and how to add one.

An action is a plain function `(Call) -> result`; the result is anything that JSON can hold. It runs in the loop
that everything runs in, so it must be quick: what takes longer than a millisecond belongs in a worker. For input
that it cannot take it raises ActionError, whose text is the answer's error.
"""

import math
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Raw, Struct

from ..connections.hub import Hub
from ..connections.session import Session
from ..ports import Wall

LISTED: Final = 1000
"""How many clients `get_client_info` lists at most; the totals count all."""


class ActionError(Exception):
    """An action cannot take its input; the text is for the peer."""


class Call(Struct, frozen=True):
    """One call of an action: by whom, and with which parameters (JSON as it came)."""

    session: Session
    params: Raw


Action = Callable[[Call], object]


class Actions:
    """The actions of this gateway, by name."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._actions

    def add(self, name: str, action: Action) -> None:
        """Add an action. ValueError where the name is taken."""
        if name in self._actions:
            raise ValueError(f"there is an action {name!r} already; choose another name")
        self._actions[name] = action

    def run(self, name: str, call: Call) -> object:
        """Run an action; raises ActionError for what it cannot take."""
        return self._actions[name](call)


def add_own(actions: Actions, hub: Hub, wall: Wall) -> None:
    """Add the actions that every gateway has: `get_time`, `get_client_info`, `calculate`."""

    def get_time(_: Call) -> object:
        return local_time(wall())

    def get_client_info(_: Call) -> object:
        clients: list[dict[str, object]] = []
        healthy = 0
        for session in hub:
            if not session.over:
                healthy += 1
            if len(clients) < LISTED:
                clients.append(describe(session))
        return {"total_clients": len(hub), "healthy_clients": healthy, "clients": clients}

    actions.add("get_time", get_time)
    actions.add("get_client_info", get_client_info)
    actions.add("calculate", lambda call: calculate(call.params))


def describe(session: Session) -> dict[str, object]:
    """A connection as lists of clients show it. `connected_at` in seconds since the epoch."""
    identity = session.identity
    return {
        "client_id": identity.client_id,
        "user_id": identity.user_id,
        "username": identity.username,
        "node_id": identity.node_id,
        "domain_id": identity.domain_id,
        "cluster_id": identity.cluster_id,
        "channel_id": identity.channel_id,
        "dialect": session.handler.name,
        "transport": session.peer.transport,
        "role": "worker" if session.worker is not None else "client",
        "connection_id": session.id,
        "connected_at": session.opened_at,
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
