"""Gateways for tests, forked from a process that has imported them already: importing is four fifths of what a start
costs, and the tests start hundreds.

What runs is what the command runs, from the first line of the script on: a process of its own, with its own arguments,
folder, environment, streams, session and signals, and no descriptors but these. It ends with the process of pytest that
started it, however that ends. Nothing of a node is there before the fork: modules and no more.

What is decided when an interpreter starts, or when a module is imported, can't be decided again after a fork. So where
the environment says something else about any such thing (`PYTHON…`, `LD_…`, the locale, whatever a module looked up
when it was imported) than it said to the process that forks, the command is executed instead, as it is where the system
is no Linux, and with `FORKED_GATEWAYS=off`. Tests of memory, of imports and of the command line execute it always.
"""

import ctypes
import functools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import ItemsView, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import trio

from tests.forking import Gone, line_of, start_forking

SCRIPT: Final = Path(sys.executable).with_name("portico")
_LARGEST: Final = 1 << 17
"""Bytes of an order: what is larger is executed."""
_PARENT_DEATH_SIGNAL: Final = 1  # prctl's number for it
_AT_THE_START: Final = ("PYTHON", "LD_", "MALLOC_", "GLIBC_", "OPENSSL_", "LC_", "LANG", "TZ", "COVERAGE", "COV_")
"""How the names of variables begin that are looked up before any module is, or by libraries."""
_BEGAN_WITH: Final = dict(os.environ)
"""The environment before tests change theirs."""
_STARTS: Final = "from tests.forked_gateways import serve; serve()"


_INHERITED: Final = sorted(
    signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, getattr(signal, "SIGXFSZ", 0)}
)
"""Signals of which an executed process ignores those that its starter does; the others Python sets at its start."""


class Forked:
    """A process that was forked, with as much of `subprocess.Popen` as tests need."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status
        self._reading = threading.Lock()

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit code. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("portico serve", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            ready = select.poll()
            ready.register(self._status, select.POLLIN)
            if not ready.poll(None if timeout is None else timeout * 1000):
                return None
            with self._reading:
                if self.returncode is None:
                    self.returncode = int(line_of(self._status))
                    os.close(self._status)
        return self.returncode


def start(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdout: IO[bytes],
    stderr: int | None = None,
    forked: bool = True,
) -> "subprocess.Popen[bytes] | Forked":
    """Start a gateway in a session of its own, without input; `stderr` is a descriptor (None: where `stdout` is).

    It is forked if the command is `portico serve`, if it may be, and if that is the same; else it is executed.
    """
    if forked and list(command[:2]) == [str(SCRIPT), "serve"] and (door := _door()) is not None:
        order = {"command": list(command), "folder": str(cwd), "environment": dict(env), "ignored": _ignored()}
        process = _fork(door, order, stdout.fileno(), stdout.fileno() if stderr is None else stderr)
        if process is not None:
            return process
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT if stderr is None else stderr,
        start_new_session=True,
    )


def _ignored() -> list[int]:
    """The signals that this process ignores, and one that it executes would ignore too."""
    return [number for number in _INHERITED if signal.getsignal(number) is signal.SIG_IGN]


def _fork(door: socket.socket, order: Mapping[str, Any], stdout: int, stderr: int) -> Forked | None:
    """None if it would not be what the command is."""
    said = json.dumps(order).encode()
    if len(said) > _LARGEST:
        return None
    status, theirs = os.pipe()
    try:
        socket.send_fds(door, [said], [stdout, stderr, theirs])
    except OSError:
        os.close(status)
        return None
    finally:
        os.close(theirs)
    try:
        return Forked(int(line_of(status)), status)
    except Gone:
        os.close(status)
        return None


@functools.cache
def _door() -> socket.socket | None:
    """The way to the process that forks, which is started now; None if there can't be one."""
    if sys.platform != "linux" or os.environ.get("FORKED_GATEWAYS") == "off":
        return None
    from tests.gateways import without_settings

    return start_forking(_STARTS, kind=socket.SOCK_SEQPACKET, environment=without_settings(_BEGAN_WITH), apart=True)


def serve() -> None:
    """Import the gateway, and fork one for each order that comes on standard input, until that is closed."""
    known = dict(os.environ)
    looked_up = import_gateway()
    door = socket.socket(fileno=0)
    running: dict[int, tuple[int, int]] = {}
    """By the descriptor that tells of its end: the process, and where its exit code is said."""
    waiting = select.poll()
    waiting.register(door, select.POLLIN)
    while True:
        for ready, _ in waiting.poll():
            if ready != door.fileno():
                pid, status = running.pop(ready)
                waiting.unregister(ready)
                os.close(ready)
                _tell(status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(status)
                continue
            said, descriptors, _, _ = socket.recv_fds(door, _LARGEST, 3)
            if not said:
                return
            order = json.loads(said)
            stdout, stderr, status = descriptors
            if is_same(known, order["environment"], looked_up):
                server = os.getpid()
                pid = os.fork()
                if not pid:
                    door.detach()
                    _run(order, stdout, stderr, server)
                ended = os.pidfd_open(pid)
                waiting.register(ended, select.POLLIN)
                running[ended] = pid, status
                _tell(status, pid)
            else:
                os.close(status)
            os.close(stdout)
            os.close(stderr)


def _tell(status: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(status, b"%d\n" % number)


def import_gateway() -> set[str]:
    """Import what `portico serve` imports before it makes a node. The environment's names that were looked up by it."""
    looked_up: set[str] = set()
    usual = os.environ.__class__

    class Recording(os._Environ[str]):
        def __getitem__(self, name: str) -> str:
            looked_up.add(name)
            return super().__getitem__(name)

        def items(self) -> ItemsView[str, str]:  # a copy of the whole, as wsgiref makes one, decides nothing
            return {name: super(Recording, self).__getitem__(name) for name in self}.items()

    os.environ.__class__ = Recording
    try:
        import service.cli.serve
        from service.collector import without_collections
        from service.without_rich import without_rich

        with without_rich(), without_collections():
            import service.serving  # noqa: F401 — as `portico serve` does it
    finally:
        os.environ.__class__ = usual
    return looked_up


def is_same(known: Mapping[str, str], wanted: Mapping[str, str], looked_up: set[str]) -> bool:
    """Whether an interpreter started with `wanted` would have come to where this one is, which was started with
    `known` and has `looked_up` some of it."""
    differ = {name for name in {*known, *wanted} if known.get(name) != wanted.get(name)}
    return not any(name in looked_up or name.startswith(_AT_THE_START) for name in differ)


def _run(order: Mapping[str, Any], stdout: int, stderr: int, server: int) -> None:
    """Be the process that was ordered, from the first line of its script to its end."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)  # it has ended before it could be told of
    os.setsid()
    for standard, descriptor in enumerate((os.open(os.devnull, os.O_RDWR), stdout, stderr)):
        os.dup2(descriptor, standard)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    trio._core._run._r.seed()  # Python sees to its own
    for number in _INHERITED:
        if number in order["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        elif signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    command = order["command"]
    sys.argv = list(command)
    sys.orig_argv = [sys.executable, *command]
    sys.path[0] = str(Path(command[0]).parent)
    runpy.run_path(command[0], run_name="__main__")
    sys.exit()
