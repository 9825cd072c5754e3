"""How the load itself fared, as a table: a row for each stair, and what isn't believed says why."""

import msgspec

from loadtest._capacity._comparison import Measured
from loadtest._capacity._load import load_table

from .results import measured, stage


def test_each_stair_has_its_row() -> None:
    late = stage(500, "invalid", invalid=("its timers were late", "it stood still"))
    late.load = msgspec.structs.replace(late.load, processes=2, run_delay_share=0.34, memory_max=165_400_000)
    shown = load_table([measured("serve", stage(100), late), Measured("split", "split", 3, failed="no redis")])
    head, line, first, second = shown.splitlines()
    assert head.count("|") == line.count("|") == first.count("|") == second.count("|") == 8
    assert first.startswith("| 100 | 1 | 10 | ")
    assert first.endswith(" | believed |")
    assert "| 500 | 2 | 50 | " in second
    assert " | 165 MB | " in second
    assert second.endswith("invalid: its timers were late; it stood still; waited for a processor 34% of the time |")
