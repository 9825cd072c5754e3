"""The collector's setting, in a process of its own: it is the whole process's."""

import subprocess
import sys
from typing import Final

_PROGRAM: Final = """
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


_IMPORTS: Final = """
import gc

collections = []
gc.callbacks.append(lambda phase, info: collections.append(info["generation"]))
from service.collector import without_collections

with without_collections():
    collections.clear()
    import service.app
    seen = list(collections)
assert seen == [], seen
assert gc.isenabled()
assert gc.get_freeze_count() > 100_000, gc.get_freeze_count()
gc.disable()
with without_collections():
    pass
assert not gc.isenabled(), "whoever has switched it off keeps it so"
"""


def test_nothing_is_collected_while_it_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
