"""Real gateways for tests: processes of their own, started as operators start them, on free loopback ports."""

import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.certificates import Certificate
from tests.forked_gateways import Forked, start

ROOT: Final = Path(__file__).parent.parent
BIN: Final = Path(sys.executable).parent
SERVERS: Final = ("portico serve", "hypercorn")
MODES: Final = ("integrated", "adjacent")
UP_LIMIT: Final = 60.0
"""Seconds for a gateway to be ready, however busy the machine is."""
DOWN_LIMIT: Final = 60.0
"""Seconds from SIGTERM to its end."""
_STARTS: Final = 4
_LOWEST: Final = 10_000
# Hypothesis sets the common one to the same state for every test, in every process.
_chance: Final = random.SystemRandom()


@dataclass
class Running:
    """A gateway that is up. `websocket_url` and `worker_url` have no path."""

    base_url: str
    websocket_url: str
    worker_url: str
    process: "subprocess.Popen[bytes] | Forked"
    log: Path

    def said(self) -> str:
        """Everything that it has written so far, to its log and its terminal."""
        return self.log.read_text(errors="replace")


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that are free now, and stay so; all are held at once, so that no two are the same.

    A port that the kernel gives away may be the local end of some connection a moment later, and the start that was
    given it fails. So they are drawn from those that it doesn't give away, where it leaves enough of them.
    """
    with ExitStack() as held:
        return [held.enter_context(_bound(host)).getsockname()[1] for _ in range(count)]


def _bound(host: str) -> socket.socket:
    """A socket at a port that nobody has."""
    lowest = _lowest_given_away()
    for _ in range(100 if lowest >= 2 * _LOWEST else 0):
        probe = socket.socket(_family(host))
        try:
            probe.bind((host, _chance.randrange(_LOWEST, lowest)))
        except OSError:
            probe.close()
        else:
            return probe
    probe = socket.socket(_family(host))
    probe.bind((host, 0))
    return probe


def _lowest_given_away() -> int:
    """The first of the ports that the kernel gives to connections; 0 where it doesn't say."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 0


def own_address() -> str:
    """A loopback address that nobody else uses, so that each of its ports is free: for a port that can't be just any.

    There are sixteen million, and other tests, of this clone and of others on the machine, draw theirs likewise.
    """
    return ".".join(["127", *(str(_chance.randint(1, 254)) for _ in range(3))])


def may_listen_on_port_80() -> bool:
    """Whether this user may, on an address where nobody does."""
    with socket.socket() as probe:
        try:
            probe.bind((own_address(), 80))
        except PermissionError:
            return False
    return True


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def clean_environment(**settings: object) -> dict[str, str]:
    """This process's environment without anything that the gateway or a client program takes as a setting."""
    return without_settings(os.environ) | {name: str(value) for name, value in settings.items()}


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without anything that the gateway or a client program takes as a setting."""
    ours = ("PORTICO_", "LOADTEST_", "REDIS_", "WEBSOCKET_", "OPEN_API_", "SERVICE_", "API_")
    named = {"PORT", "HOST", "WORKER_PORT", "DEBUG", "DYNO", "ENVIRONMENT"}
    kept = {
        name: value
        for name, value in environment.items()
        if name not in named and not name.startswith(ours) and not name.lower().endswith("_proxy")
    }
    return {**kept, "PYTHONPATH": str(ROOT)}


def command(server: str, host: str, port: int) -> Sequence[str]:
    """How an operator starts it."""
    if server == "portico serve":
        return [str(BIN / "portico"), "serve"]
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return [str(BIN / "hypercorn"), "-k", "trio", "service.asgi:app", "--bind", bind]


@contextmanager
def gateway(
    folder: Path,
    *,
    server: str = "portico serve",
    mode: str = "adjacent",
    host: str = "127.0.0.1",
    port: int | None = None,
    settings: Mapping[str, object] | None = None,
    certificate: Certificate | None = None,
    exit_code: int | None = 0,
    stderr: int | None = None,
    probe: str = "/readyz",
    forked: bool = True,
) -> Iterator[Running]:
    """A gateway while the block runs; then SIGTERM, and it has to end with `exit_code` (None: any).

    `folder` is its working directory, where nothing may be a `.env`, and where its log is. With a `certificate` it
    speaks TLS, and has one port. `stderr`: a descriptor for its standard error, instead of the log. `probe`: what
    answers 200 when it is up. Not `forked`: it is executed in any case (see `tests.forked_gateways`). RuntimeError,
    with the log, if it doesn't come up or doesn't end as it should.
    """
    log = folder / "gateway.log"
    for attempt in range(1, _STARTS + 1):
        # A port that was free a moment ago may be taken now, so one failed start proves nothing.
        http, websocket, worker = free_ports(3, host)
        http = port or http
        environment: dict[str, object] = {
            "HOST": host,
            "PORT": http,
            "WORKER_PORT": worker,
            "ENVIRONMENT": "development",
        }
        environment["PORTICO_DRAIN_SECONDS"] = 0.3
        environment["WEBSOCKET_PORT"] = "same" if mode == "integrated" else websocket
        if certificate is not None:
            environment |= {"WEBSOCKET_PORT": "same", "WORKER_PORT": "off", **certificate.settings}
            # A client that begins TLS and then waits for a processor is no stranger that is slow on purpose.
            environment["PORTICO_HANDSHAKE_TIMEOUT"] = 60
        with log.open("ab") as output:
            process = start(
                command(server, host, http),
                cwd=folder,
                env=clean_environment(**{**environment, **(settings or {})}),
                stdout=output,
                stderr=stderr,
                forked=forked,
            )
        name = f"[{host}]" if ":" in host else host
        s = "" if certificate is None else "s"
        running = Running(
            f"http://{name}" if http == 80 else f"http{s}://{name}:{http}",
            f"ws{s}://{name}:{http if mode == 'integrated' or certificate else websocket}",
            f"ws://{name}:{worker}",
            process,
            log,
        )
        try:
            if not _came_up(running, probe, None if certificate is None else certificate.trusted()):
                # Whoever ends by itself has said why; only a port that somebody took is a reason to try another.
                lost = process.poll() is None or stderr is not None or "Address already in use" in running.said()
                if lost and attempt < _STARTS:
                    continue
                raise RuntimeError("the gateway did not come up")
            if stderr is None and "PORTICO_LOG_LEVEL" not in (settings or {}):
                _has_said_all(running)
            yield running
            code = end(process)
            if exit_code is not None and code != exit_code:
                raise RuntimeError(f"the gateway ended with {code}, not {exit_code}")
            return
        except BaseException as error:
            error.add_note(f"--- the gateway's log ---\n{running.said()[-20000:]}")
            raise
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def end(process: "subprocess.Popen[bytes] | Forked") -> int | None:
    """SIGTERM, and the exit code; None if it has not ended in time."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(DOWN_LIMIT)
    except subprocess.TimeoutExpired:
        return None


def _has_said_all(running: Running) -> None:
    """Wait for the last line of its start, behind all warnings: it answers before these are written, by a thread."""
    deadline = time.monotonic() + 10
    while "started" not in running.said() and time.monotonic() < deadline and running.process.poll() is None:
        time.sleep(0.01)


def _came_up(running: Running, probe: str, tls: ssl.SSLContext | None) -> bool:
    deadline = time.monotonic() + UP_LIMIT
    while time.monotonic() < deadline and running.process.poll() is None:
        try:
            with urllib.request.urlopen(running.base_url + probe, timeout=5, context=tls) as answer:
                if answer.status == 200:
                    return True
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)  # there is no event for another process being ready
    return False
