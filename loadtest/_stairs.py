"""What `--stairs` says. Knows nothing of Locust, whose import changes the whole process, so that others can read it."""

from __future__ import annotations

import itertools


def parse_stairs(value: str) -> list[int]:
    """Numbers of connections from a text such as `100,500,1000`. Raises ValueError."""
    stairs = [int(item) for item in value.split(",")]
    if stairs[0] < 1 or any(after <= before for before, after in itertools.pairwise(stairs)):
        raise ValueError("not ascending")
    return stairs
