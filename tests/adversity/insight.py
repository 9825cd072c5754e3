"""An extension for gateways under test: the action `tasks` says how many trio tasks the process has."""

import trio

from service.core.dialects.actions import Call
from service.core.gateway import Gateway


def extend(gateway: Gateway) -> None:
    """Add the action."""
    gateway.actions.add("tasks", tasks)


def tasks(call: Call) -> int:
    """How many tasks are alive."""
    return trio.lowlevel.current_statistics().tasks_living
