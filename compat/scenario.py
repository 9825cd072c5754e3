"""What a scenario is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from compat.stage import Stage


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    `play` raises UnmetError where the deployment does wrong and SkipError where it can't be judged. `needs_api` says
    that it drives the HTTP API for back ends; `by_client`, that it is played once by every kind of client program.
    """

    name: str
    what: str
    play: Callable[[Stage], Awaitable[None]]
    needs_api: bool = True
    by_client: bool = True
