"""The collector's setting, in a process of its own: it is the whole process's."""

import subprocess
import sys

_PROGRAM = """
import gc
from service.collector import FULL, MIDDLE, YOUNG, settle_collector

settle_collector()
assert gc.isenabled()
assert gc.get_threshold() == (YOUNG, MIDDLE, FULL)
assert gc.get_freeze_count() > 1000, gc.get_freeze_count()
assert len(gc.get_objects()) < 1000, len(gc.get_objects())
"""


def test_what_was_there_at_the_start_is_never_looked_at_again() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
