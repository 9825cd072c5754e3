"""An extension for gateways under test: the action `tasks` says how many trio tasks the process has."""

import trio

from service.extend import Call, ExtensionContext


def extend(context: ExtensionContext) -> None:
    """Add the action."""
    context.add_action("tasks", tasks)


def tasks(call: Call) -> int:
    """How many tasks are alive."""
    return trio.lowlevel.current_statistics().tasks_living
