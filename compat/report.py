"""What a run found, as a table for people and as JSON for programs.

Knows results only. Reasons may hold text that came over the network: control characters never reach the terminal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Result:
    """One scenario played by one client; `ms` is how long it took, `reason` empty where it passed.

    `transcript` is what went over the network, where it did not pass.
    """

    scenario: str
    client: str
    outcome: Outcome
    reason: str
    ms: float
    transcript: tuple[str, ...] = ()


def table(results: Sequence[Result]) -> str:
    """The results as a table, scenario by client, with the reasons below it."""
    rows = list(dict.fromkeys(result.scenario for result in results))
    columns = list(dict.fromkeys(result.client for result in results))
    cells = {(result.scenario, result.client): _cell(result) for result in results}
    grid = [["scenario", *columns]]
    grid += [[row, *(cells.get((row, column), "") for column in columns)] for row in rows]
    widths = [max(len(line[index]) for line in grid) for index in range(len(grid[0]))]
    grid.insert(1, ["-" * width for width in widths])
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in grid]
    reasons = _reasons(results)
    return "\n".join([*lines, *([""] if reasons else []), *reasons])


def _reasons(results: Sequence[Result]) -> list[str]:
    """Every failure on a line of its own; those that were skipped for the same reason together."""
    failed = [f"FAILED  {row.scenario} / {row.client}: {printable(row.reason)}" for row in results
              if row.outcome == "failed"]  # fmt: skip
    skipped: dict[tuple[str, str], list[str]] = {}
    for row in results:
        if row.outcome == "skipped":
            skipped.setdefault((row.client, row.reason), []).append(row.scenario)
    return failed + [
        f"skipped  {', '.join(names) if len(names) < 4 else f'{len(names)} scenarios'} / {client}: {printable(reason)}"
        for (client, reason), names in skipped.items()
    ]


def _cell(result: Result) -> str:
    if result.outcome == "skipped":
        return "skipped"
    return f"{result.outcome if result.outcome == 'passed' else 'FAILED'} {result.ms:.0f} ms"


def printable(text: str) -> str:
    """The text with whatever a terminal might act on written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def closing_line(results: Iterable[Result]) -> str:
    """How many passed, failed and were skipped."""
    outcomes = [result.outcome for result in results]
    return ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("passed", "failed", "skipped"))


def exit_code(results: Iterable[Result], *, fail_on_skip: bool = False) -> int:
    """0 where nothing failed, 1 otherwise; with `fail_on_skip` what was skipped has failed too."""
    bad = ("failed", "skipped") if fail_on_skip else ("failed",)
    return int(any(result.outcome in bad for result in results))
