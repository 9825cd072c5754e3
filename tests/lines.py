"""Which lines of the gateway a call runs: two calls that run the same ones, in the same order, take the same way.

For example, a refusal that looked its user up somewhere would run other lines for one that is there than for one that
isn't, whatever it then says, and so would one that asked the backplane only about those that it knows.
"""

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

_BY_CHANCE = "make_id"
"""What runs other lines now and then, whoever calls it: it reads randomness ahead."""


def lines_of(call: Callable[[], object]) -> list[tuple[str, int]]:
    """The lines below `service` and `portico` that a call runs: each as file and number, in their order."""
    run: list[tuple[str, int]] = []

    def enter(frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename
        if ("/service/" not in name and "/portico/" not in name) or frame.f_code.co_qualname.startswith(_BY_CHANCE):
            return None
        file = name.rpartition("/service/" if "/service/" in name else "/portico/")[2]

        def line(frame: FrameType, event: str, _: object) -> Any:
            run.append((file, frame.f_lineno))
            return line

        return line(frame, event, None)

    before = sys.gettrace()
    gc.disable()  # what it calls is nobody's doing
    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(before)
        gc.enable()
    return run
