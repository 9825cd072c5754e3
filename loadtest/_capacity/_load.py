"""How the load itself fared at each stair, as a table for a page: up to how many users its measurements hold.

Knows results of the load test. What is believed and what isn't is the load test's own verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ._comparison import Measured

_STARVED: Final = 0.2
"""The share of the time for which a load process wanted the processor and did not have it that is worth a word."""


def load_table(modes: Sequence[Measured]) -> str:
    """The table in Markdown, a row for each stair; the worst load process where there are several."""
    lines = [
        "| clients | load processes | deliveries per second | processor of one, cores | memory of one "
        "| timers, sends late (p99) | |",
        "|---|---|---|---|---|---|---|",
    ]
    for mode in modes:
        stages = [] if mode.result is None else [stage for stage in mode.result.stages if stage.kind == "hold"]
        for stage in stages:
            load = stage.load
            delivered = sum(kind.per_second for kind in stage.deliveries.values())
            said = f"invalid: {'; '.join(stage.invalid)}" if stage.invalid else "believed"
            if load.run_delay_share > _STARVED:
                said += f"; waited for a processor {load.run_delay_share:.0%} of the time"
            cells = [
                f"{stage.users:,}", f"{load.processes}", f"{delivered:,.0f}", f"{load.cpu_share_max:.2f}",
                f"{load.memory_max / 1e6:,.0f} MB", f"{load.lag_p99_ms:.0f}, {load.send_lag_p99_ms:.0f} ms", said,
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
