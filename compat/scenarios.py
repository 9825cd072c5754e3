"""The list of scenarios, in the order of the table's rows; which of them a run plays."""

from collections.abc import Iterable
from typing import Final

from compat.client_scenarios import CLIENT_SCENARIOS
from compat.protocol_scenarios import PROTOCOL_SCENARIOS
from compat.scenario import Scenario

ALL: Final = (*CLIENT_SCENARIOS, *PROTOCOL_SCENARIOS)


class NoScenarioError(Exception):
    """A name that was asked for isn't in the list; the text is one sentence for the user."""


def chosen(only: Iterable[str], skip: Iterable[str]) -> list[Scenario]:
    """The scenarios named in `only` (all of them where it is empty) without those in `skip`, in the list's order.

    Raises NoScenarioError for a name that isn't there, and where nothing is left.
    """
    only, skip = list(only), list(skip)
    names = {scenario.name for scenario in ALL}
    for name in (*only, *skip):
        if name not in names:
            raise NoScenarioError(f"There is no scenario {name!r}: --list shows those that there are.")
    left = [row for row in ALL if row.name not in skip and (not only or row.name in only)]
    if not left:
        raise NoScenarioError("Nothing is left to run: --only and --skip name the same scenarios.")
    return left
