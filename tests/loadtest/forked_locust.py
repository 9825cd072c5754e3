"""Locust, forked from a process that has imported it already: importing is most of what a short run costs.

What runs is what the command runs, from its first line on, with its own arguments, environment, session and streams;
nothing of the load test's own is there before. Each process of pytest has one that forks, which ends with it.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tests.forking import line_of, start_forking

if TYPE_CHECKING:
    from argparse import Namespace

    from locust.env import Environment

    from loadtest._campaign import Campaign

CLOCK_AHEAD: Final = "TEST_CLOCK_AHEAD"
"""In a run's environment: it is on another machine, whose clock is so many seconds ahead."""
SLOW_WORKERS: Final = "TEST_SLOW_WORKERS"
"""In a run's environment: its worker processes take so many seconds longer to start than their master."""
_UP_LIMIT: Final = 90.0
_STARTS: Final = "from tests.loadtest.forked_locust import serve; serve()"


class ForkedLocust:
    """One run, with as much of `subprocess.Popen` as its tests need; `stderr` may be read while it runs."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        order = json.dumps({"arguments": list(arguments), "environment": dict(environment)}).encode()
        pipes = [os.pipe() for _ in range(3)]
        for begin, _ in pipes:
            os.set_inheritable(begin, False)
        try:
            socket.send_fds(_door(), [len(order).to_bytes(4, "big")], [end for _, end in pipes])
            _door().sendall(order)
        finally:
            for _, end in pipes:
                os.close(end)
        self.returncode: int | None = None
        self._out, error, self._status = (begin for begin, _ in pipes)
        self.stderr = os.fdopen(error, encoding="utf-8", errors="replace")
        self.pid = int(line_of(self._status))

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; it has to be there still."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it and its children say until all of them are gone; raises subprocess.TimeoutExpired."""
        if self.stderr.closed:
            return "", ""
        end = None if timeout is None else time.monotonic() + timeout
        said = {self._out: b"", self.stderr.fileno(): b"", self._status: b""}
        with selectors.DefaultSelector() as selector:
            for descriptor in said:
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise subprocess.TimeoutExpired("locust", timeout or 0.0)
                for key, _ in selector.select(left):
                    data = os.read(key.fd, 1 << 16)
                    said[key.fd] += data
                    if not data:
                        selector.unregister(key.fd)
        out, error, status = said.values()
        self.returncode = int(status)
        os.close(self._out)
        os.close(self._status)
        self.stderr.close()
        return out.decode(errors="replace"), error.decode(errors="replace")


@functools.cache
def _door() -> socket.socket:
    """The way to the process that forks, which is started now."""
    ours = start_forking(_STARTS, kind=socket.SOCK_STREAM)
    ours.settimeout(_UP_LIMIT)
    return ours


def serve() -> None:
    """Fork a run for each order that comes on standard input, until that is closed."""
    # Not at the top: the process of pytest must not have them.
    import gevent
    import locust.main
    from gevent import monkey

    # Gevent puts off closing to its loop, which doesn't run here.
    fork, wait, close = (monkey.get_original("os", name) for name in ("fork", "waitpid", "close"))
    # Who forks a run is forgotten when it has told how the run ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    door = monkey.get_original("socket", "socket")(fileno=0)
    while True:
        size, descriptors, _, _ = socket.recv_fds(door, 4, 3)
        if not size:
            return
        order = b""
        while len(order) < int.from_bytes(size, "big"):
            order += door.recv(1 << 16)
        if not fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            out, error, status = descriptors
            if not (run := fork()):
                break
            close(out)
            close(error)
            os.write(status, b"%d" % os.waitstatus_to_exitcode(wait(run, 0)[1]))
            os._exit(0)
        for descriptor in descriptors:
            close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.write(status, b"%d\n" % os.getpid())
    close(status)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard, descriptor in enumerate((nothing, out, error)):
        os.dup2(descriptor, standard)
        close(descriptor)
    gevent.reinit()
    _become(json.loads(order))
    _be_elsewhere(float(os.environ.pop(CLOCK_AHEAD, "0")))
    _start_slowly(float(os.environ.pop(SLOW_WORKERS, "0")))
    sys.exit(locust.main.main())  # type: ignore[no-untyped-call]  # locust's own


def _become(order: dict[str, Any]) -> None:
    """Have the order's arguments and environment."""
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["locust", *order["arguments"]]


def _be_elsewhere(seconds: float) -> None:
    """Have another machine's clock: that of the kernel too, which stamps what arrives, and its name."""
    if not seconds:
        return
    import gevent

    from loadtest import _crew, _reactor

    here, stamped = time.time, _reactor._timespec

    def shifted(data: Any) -> tuple[Any, ...]:
        whole, nanoseconds = stamped(data)
        return whole + int(seconds), nanoseconds

    compare = _crew.Worker._compare_clocks

    def compare_late(worker: _crew.Worker) -> None:
        gevent.sleep(1)  # the way to the master is a long one
        compare(worker)

    _crew.Worker._compare_clocks = compare_late  # type: ignore[assignment, method-assign]
    time.time = lambda: here() + seconds
    _reactor._timespec = shifted
    _crew.boot_id = lambda: "of another machine"


def _start_slowly(seconds: float) -> None:
    """Have the processes that locust forks be ready later than the one that forks them."""
    if not seconds:
        return
    import gevent

    from loadtest import _conductor

    look, master = _conductor._wrong, os.getpid()

    def look_late(campaign: Campaign, environment: Environment, options: Namespace) -> str | None:
        if os.getpid() != master:
            gevent.sleep(seconds)
        return look(campaign, environment, options)

    _conductor._wrong = look_late
