"""An extension that writes down how the gateway's process was started, and then refuses, which ends it: for the tests
of `tests.forked_gateways`."""

import gc
import json
import os
import random
import signal
import stat
import sys
import threading
import warnings
from pathlib import Path
from typing import Final

import trio

from service.extend import ExtensionContext

FILE: Final = "facts.json"
REFUSAL: Final = "that was all"


def extend(context: ExtensionContext) -> None:
    """Write them into the folder that it works in."""
    main = sys.modules["__main__"]
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    mask = os.umask(0o022)
    os.umask(mask)
    facts = {
        "arguments": sys.argv,
        "original arguments": sys.orig_argv,
        "path": sys.path,
        "flags": list(sys.flags),
        "main": [main.__name__, main.__file__],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": mask,
        "leads its session": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "signals": {name: value for name, value in status.items() if name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")},
        "handlers": {number.name: repr(signal.getsignal(number)) for number in signal.Signals},
        "threads": threading.active_count(),
        "collector": [gc.isenabled(), gc.get_freeze_count() > 0, gc.get_threshold()],
        "warnings": [[str(part) for part in rule] for rule in warnings.filters],
        "recursion": sys.getrecursionlimit(),
        "streams": [
            [name, stream.encoding, stream.errors, stream.line_buffering, stream.fileno(), _kind(stream.fileno())]
            for name in ("stdin", "stdout", "stderr")
            for stream in [getattr(sys, name)]
        ],
        "descriptors": sorted(_kind(int(number)) for number in os.listdir("/proc/self/fd") if _is_open(int(number))),
        "drawn": [random.random(), trio._core._run._r.random(), os.urandom(8).hex()],
        "modules": sorted(name for name, module in sys.modules.items() if module is not None),
    }
    Path(FILE).write_text(json.dumps(facts))
    raise RuntimeError(REFUSAL)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:  # that of the listing itself
        return False
    return True


def _kind(number: int) -> str:
    return stat.filemode(os.fstat(number).st_mode)
