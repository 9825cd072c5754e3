"""A Redis of the gateway's own: what joins its processes where the operator has none.

On a Unix socket in a folder that only this user can enter, and on no port. What it holds is written down there at most
a second late, so its own end costs next to nothing; the folder goes with the gateway. Knows the program, not what is
in it.
"""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from .process import Process

MISSING: Final = (
    "several processes are one gateway only through Redis: set REDIS_URL, or install redis-server, or run one process."
)
UP_LIMIT: Final = 30.0
"""Seconds in which it has to answer, with all that it reads back."""
_LOOK: Final = 0.02
_LONGEST_PATH: Final = 100  # of a Unix socket, on any system


def find_redis_server() -> str:
    """Where the program is. Raises FileNotFoundError, with MISSING, where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError(MISSING)
    return program


class PrivateRedis:
    """One redis-server: where it is, and how it is started."""

    def __init__(self) -> None:
        """Make its folder. Raises FileNotFoundError, with MISSING, where there is no redis-server."""
        program = find_redis_server()
        folder = tempfile.mkdtemp(prefix="portico-redis-")  # for this user only
        if len(folder) > _LONGEST_PATH - len("/redis.sock"):
            # Somebody's TMPDIR is longer than the name of a socket may be.
            shutil.rmtree(folder)
            folder = tempfile.mkdtemp(prefix="portico-redis-", dir="/tmp")
        self.folder = Path(folder)
        self._socket = self.folder / "redis.sock"
        self._log = self.folder / "redis.log"
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": folder,
            "logfile": str(self._log),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
        }
        # Where the kernel can, it ends with us, whatever ends us.
        tether = shutil.which("setpriv")
        self._command = [tether, "--pdeathsig", "KILL"] if tether is not None else []
        self._command += [program, *(word for name, value in options.items() for word in (f"--{name}", value))]

    @property
    def url(self) -> str:
        """What REDIS_URL has to be for it."""
        return f"unix://{self._socket}"

    def start(self) -> Process:
        """Start it, with what it knew before. Raises OSError."""
        self._socket.unlink(missing_ok=True)
        return Process(self._command)

    async def up(self) -> bool:
        """Wait until it answers; False if it doesn't in time. Cancelling is safe."""
        with trio.move_on_after(UP_LIMIT):
            while not await self._answers():  # noqa: ASYNC110 — another process has no event
                await trio.sleep(_LOOK)
            return True
        return False

    async def _answers(self) -> bool:
        with suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_unix_socket(str(self._socket)) as link:
                await link.send_all(b"PING\r\n")
                return (await link.receive_some(64)).startswith(b"+PONG")
        return False

    def said(self) -> str:
        """The last line of its log."""
        with suppress(OSError, IndexError):
            return self._log.read_text(errors="replace").strip().splitlines()[-1]
        return ""

    def remove(self) -> None:
        """Remove its folder, once it has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)
