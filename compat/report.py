"""What a run found, as a table for people and as JSON for programs.

Knows results only. Reasons may hold text that came over the network: control characters never reach the terminal.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

Outcome = Literal["passed", "failed", "skipped"]

PROTOCOL: Final = "protocol"  # the column of scenarios that belong to no client program


@dataclass(frozen=True)
class Result:
    """One scenario played by one client; `ms` is how long it took, `reason` empty where it passed."""

    scenario: str
    client: str
    outcome: Outcome
    reason: str
    ms: float


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
    reasons = [
        f"{result.outcome.upper() if result.outcome == 'failed' else result.outcome}  "
        f"{result.scenario} / {result.client}: {printable(result.reason)}"
        for result in results
        if result.outcome != "passed"
    ]
    return "\n".join([*lines, *([""] if reasons else []), *reasons])


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


def exit_code(results: Iterable[Result]) -> int:
    """0 where nothing failed, 1 otherwise."""
    return int(any(result.outcome == "failed" for result in results))


def as_json(base_url: str, results: Sequence[Result]) -> str:
    """The results as a JSON document."""
    found = {kind: sum(result.outcome == kind for result in results) for kind in ("passed", "failed", "skipped")}
    document = {"base_url": base_url, **found, "results": [asdict(result) for result in results]}
    return json.dumps(document, indent=2) + "\n"
