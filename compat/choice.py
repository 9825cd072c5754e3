"""Which scenarios a run plays."""

from collections.abc import Iterable, Sequence

from compat.script import Scenario


class NoScenarioError(Exception):
    """A name that was asked for isn't in the list; the text is one sentence for the user."""


def chosen(every: Sequence[Scenario], only: Iterable[str], skip: Iterable[str]) -> list[Scenario]:
    """The scenarios named in `only` (all of them where it is empty) without those in `skip`, in the list's order.

    Raises NoScenarioError for a name that isn't there, and where nothing is left.
    """
    only, skip = list(only), list(skip)
    names = {scenario.name for scenario in every}
    for name in (*only, *skip):
        if name not in names:
            raise NoScenarioError(f"There is no scenario {name!r}: --list shows those that there are.")
    left = [row for row in every if row.name not in skip and (not only or row.name in only)]
    if not left:
        raise NoScenarioError("Nothing is left to run: --only and --skip name the same scenarios.")
    return left
