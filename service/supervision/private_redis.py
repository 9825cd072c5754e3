"""A Redis of the gateway's own: what joins its processes where the operator has none.

On a Unix socket in a folder that only this user can enter, and on no port. What it holds is written down there at most
a second late, so its own end costs next to nothing. The folder goes with the gateway, whatever ends that: a small
process waits for the supervisor's end, and what even that could not remove (the machine lost power) is removed when
the next gateway starts. Knows the program, not what is in it.
"""

import fcntl
import os
import shutil
import subprocess
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
_PREFIX: Final = "portico-redis-"
_LOCK: Final = "owner.lock"
"""A file that the owner of a folder has locked for as long as it lives."""

# Its input ends when the supervisor does. Redis is killed here too, for systems where the kernel doesn't do it.
_REAPER: Final = """\
PATH=/usr/bin:/bin
read -r _
if read -r pid <"$0/redis.pid"; then kill -9 "$pid"; fi
rm -rf -- "$0" || { sleep 1; rm -rf -- "$0"; }
"""


def find_redis_server() -> str:
    """Where the program is. Raises FileNotFoundError, with MISSING, where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError(MISSING)
    return program


class PrivateRedis:
    """One redis-server: where it is, and how it is started."""

    _lock: int | None

    def __init__(self) -> None:
        """Make its folder. Raises FileNotFoundError, with MISSING, where there is no redis-server, and OSError, with a
        sentence, where there can be no folder."""
        program = find_redis_server()
        _remove_what_is_left()
        folder = _make_folder()
        self.folder = Path(folder)
        self._socket = self.folder / "redis.sock"
        self._log = self.folder / "redis.log"
        self._lock = _lock(self.folder)
        self._reaper = subprocess.Popen(
            ["/bin/sh", "-c", _REAPER, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Not in the terminal's group: Ctrl-C must not end it before us.
            process_group=0,
        )
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": folder,
            "logfile": str(self._log),
            "pidfile": str(self.folder / "redis.pid"),
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
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        # Closes its input, which it takes for our end.
        self._reaper.communicate()


def _make_folder() -> str:
    try:
        folder = tempfile.mkdtemp(prefix=_PREFIX)  # for this user only
        if len(folder) <= _LONGEST_PATH - len("/redis.sock"):
            return folder
        # Somebody's TMPDIR is longer than the name of a socket may be.
        shutil.rmtree(folder)
        return tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp")
    except OSError as error:
        raise OSError(
            f"cannot make a folder for Redis in {tempfile.gettempdir()} ({error.strerror}): set TMPDIR to one that "
            "this user may write to, or set REDIS_URL."
        ) from error


def _lock(folder: Path) -> int:
    # Locked before it has its name: nobody finds it unlocked while its owner lives.
    unnamed = folder / f"{_LOCK}.new"
    descriptor = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(folder / _LOCK)
    return descriptor


def _remove_what_is_left() -> None:
    """Remove the folders of this user's gateways that are gone."""
    for place in {tempfile.gettempdir(), "/tmp"}:
        for folder in Path(place).glob(f"{_PREFIX}*"):
            # No lock: it is not ours, or is just being made. Locked: its owner lives.
            with suppress(OSError), open(folder / _LOCK, "rb") as lock:
                if os.fstat(lock.fileno()).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
