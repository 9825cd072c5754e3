"""What processes that fork others for tests have in common: how one is started, and how it says a line.

Knows no gateway and no locust, and imports nothing that they would find imported already.
"""

import atexit
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent


class Gone(RuntimeError):
    """The process that forks has ended, or says nothing (more) of this order."""


def line_of(descriptor: int) -> bytes:
    """The next line that it says, with its end. Raises Gone."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(descriptor, 1)
        if not part:
            raise Gone("the process that forks says nothing more")
        line += part
    return line


def start_forking(
    statement: str, *, kind: socket.SocketKind, environment: Mapping[str, str] | None = None, apart: bool = False
) -> socket.socket:
    """Start a process that runs `statement`, and return the way to its standard input. It ends when that is closed,
    at the end of this process at the latest. `apart`: it has a session of its own, and says nothing to this one's
    standard output."""
    ours, its = socket.socketpair(socket.AF_UNIX, kind)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-c", statement],
            cwd=ROOT,
            env=environment,
            stdin=its.fileno(),
            stdout=subprocess.DEVNULL if apart else None,
            start_new_session=apart,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours
