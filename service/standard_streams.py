"""The three standard streams of a process that may have been started without them (`portico serve 2>&-`).

A closed descriptor 2 is worse than no log: the next file or socket that is opened gets its number, and whatever a
library writes to standard error goes into a client's connection. Programs therefore call `open_standard_streams`
before they open anything.
"""

import os
import sys
from typing import Final

_NAMES: Final = ("stdin", "stdout", "stderr")


def open_standard_streams() -> None:
    """Have every standard stream that is closed read nothing and write to nowhere. Those that are open stay."""
    for number in range(len(_NAMES)):
        if not _is_open(number):
            _open_nowhere(number)
    # Only now: what is opened here must not get one of those numbers.
    for name in _NAMES:
        if getattr(sys, name) is None:
            # Python has no stream for a descriptor that was closed at its start, even if something has it by now.
            reads = name == "stdin"
            descriptor = os.open(os.devnull, os.O_RDONLY if reads else os.O_WRONLY)
            setattr(sys, name, os.fdopen(descriptor, "r" if reads else "w", encoding="utf-8"))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_nowhere(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    os.set_inheritable(number, True)
