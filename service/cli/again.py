"""How a command starts `portico` again, as a process of its own."""

import sys
from pathlib import Path


def portico_again() -> list[str]:
    """The beginning of its command line: the same script by the same interpreter, where there is one.

    Never with this folder before what is installed, where a project may have a `service` of its own.
    """
    called = Path(sys.argv[0])
    if called.name == "portico" and called.is_file():
        return [sys.executable, "-P", str(called)]
    return [sys.executable, "-P", "-m", "service.cli"]
