"""The ways of deploying, started on this machine as operators start them: their processes, addresses and ends.

Knows commands, environments and ports; nothing of load. Each deployment is in production, on 127.0.0.1, with secrets
of its own that nobody else has, and is gone afterwards, whatever ended the run.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
BIN: Final = Path(sys.executable).parent
_UP_SECONDS: Final = 60.0
_DOWN_SECONDS: Final = 30.0
_STARTS: Final = 3
_KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "VIRTUAL_ENV")
_PORTS: Final = range(12_000, 30_000)


class Unavailable(Exception):
    """A mode cannot be started here; the text is a sentence that says why."""


@dataclass(frozen=True)
class Program:
    """One process of a deployment: its own `settings`, and which of the deployment's ports its `PORT` is."""

    command: tuple[str, ...]
    port: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Mode:
    """A way of deploying. `ports`: how many it needs; `ready`: which of them answer `/readyz` once it is up."""

    name: str
    title: str
    processes: int
    programs: tuple[Program, ...]
    ports: int = 1
    ready: tuple[int, ...] = (0,)
    redis: bool = False


_HYPERCORN: Final = ("hypercorn", "-k", "trio", "--bind", HOST + ":{0}", "service.asgi:app")
_SERVE: Final = ("portico", "serve")
_ONE_PORT: Final = {"WEBSOCKET_PORT": "same"}

MODES: Final = (
    Mode("integrated", "integrated, hypercorn -k trio", 1, (Program(_HYPERCORN, settings=_ONE_PORT),)),
    Mode("serve", "integrated, portico serve", 1, (Program(_SERVE, settings=_ONE_PORT),)),
    Mode("adjacent", "adjacent, portico serve", 1, (Program(_SERVE, settings={"WEBSOCKET_PORT": "{1}"}),), ports=2),
    Mode(
        "workers",
        "portico serve --workers 2",
        2,
        (Program((*_SERVE, "--workers", "2"), settings=_ONE_PORT),),
        redis=True,
    ),
    Mode(
        "split",
        "split, 2 nodes and an API",
        3,
        (
            Program(_SERVE, port=0, settings={"SERVICE_ROLE": "api"}),
            Program(_SERVE, port=1, settings={"SERVICE_ROLE": "websocket"}),
            Program(_SERVE, port=2, settings={"SERVICE_ROLE": "websocket"}),
        ),
        ports=3,
        ready=(0, 1, 2),
        redis=True,
    ),
)


@dataclass(frozen=True)
class Up:
    """A deployment that is up. `settings`: what it was started with, secrets left out."""

    mode: Mode
    base_url: str
    api_key: str
    metrics_urls: tuple[str, ...]
    settings: dict[str, str]


@contextmanager
def running(mode: Mode, cores: Sequence[int], folder: Path) -> Iterator[Up]:
    """The deployment, up while the block runs, on those processor cores; its logs are written to `folder`.

    Raises Unavailable. Whatever ends the block ends every process.
    """
    for attempt in range(1, _STARTS + 1):
        with ExitStack() as ends:
            ports = _free_ports(mode.ports)
            settings, key = _settings(mode, ends, folder)
            logs = [
                ends.enter_context(_started(program, ports, settings, cores, folder / f"{mode.name}.{number}.log"))
                for number, program in enumerate(mode.programs)
            ]
            processes = [process for process, _ in logs]
            if _is_ready([ports[number] for number in mode.ready], processes):
                shown = {name: value for name, value in settings.items() if not _is_secret(name)}
                for program in mode.programs:
                    shown |= {name: value.format(*ports) for name, value in program.settings.items()}
                if mode.redis:
                    shown["REDIS_URL"] = "a redis-server of its own, by a Unix socket"
                asked = [ports[number] for number in mode.ready]
                yield Up(
                    mode,
                    f"http://{HOST}:{ports[0]}",
                    key,
                    tuple(f"http://{HOST}:{port}/metrics" for port in asked),
                    shown,
                )
                return
        if attempt == _STARTS:
            said = [line for _, log in logs for line in log.read_text(errors="replace").strip().splitlines()[-1:]]
            raise Unavailable(f"{mode.title} does not start: {said[-1][:300] if said else 'it says nothing'}")


def _settings(mode: Mode, ends: ExitStack, folder: Path) -> tuple[dict[str, str], str]:
    key = secrets.token_urlsafe(24)
    settings = {
        "ENVIRONMENT": "production",
        "HOST": HOST,
        "PORTICO_API_KEYS": key,
        "WEBSOCKET_HANDSHAKE_KEY": secrets.token_urlsafe(24),
        # The load comes from few addresses, and all at once.
        "PORTICO_MAX_CONNECTIONS": "0",
        "PORTICO_MAX_CONNECTIONS_PER_ADDRESS": "0",
        "PORTICO_DRAIN_SECONDS": "0",
    }
    if mode.redis:
        settings["REDIS_URL"] = ends.enter_context(_redis(folder / f"{mode.name}.redis.log"))
    return settings, key


def _is_secret(name: str) -> bool:
    return name.endswith(("KEY", "KEYS"))


@contextmanager
def _redis(log: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise Unavailable("there is no redis-server on this machine: install it, or leave out the modes that need one.")
    with tempfile.TemporaryDirectory(prefix="capacity-redis-") as folder:
        path = Path(folder, "redis.sock")
        options = {"port": "0", "unixsocket": str(path), "dir": folder, "save": "", "appendonly": "no"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with _process([program, *words], {}, log) as process:
            give_up = time.monotonic() + _UP_SECONDS
            while not _answers(path):
                if process.poll() is not None or time.monotonic() > give_up:
                    raise Unavailable(f"redis-server does not start: {log.read_text(errors='replace')[-300:].strip()}")
                time.sleep(0.02)
            yield f"unix://{path}"


def _answers(path: Path) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as link:
        link.settimeout(1)
        link.connect(str(path))
        link.sendall(b"PING\r\n")
        return link.recv(64).startswith(b"+PONG")
    return False


@contextmanager
def _started(
    program: Program, ports: Sequence[int], settings: Mapping[str, str], cores: Sequence[int], log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    environment = {**settings, "PORT": str(ports[program.port])}
    environment |= {name: value.format(*ports) for name, value in program.settings.items()}
    name, *words = (word.format(*ports) for word in program.command)
    with _process([str(BIN / name), *words], environment, log, cores) as process:
        yield process, log


@contextmanager
def _process(
    command: Sequence[str], settings: Mapping[str, str], log: Path, cores: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # Where the kernel can, it ends with us, whatever ends us.
    tether = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    # The affinity that a process starts with is its children's as well.
    pin = ["taskset", "-c", ",".join(map(str, cores))] if cores and shutil.which("taskset") else []
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*tether, *pin, *command],
            env=environment | dict(settings),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DOWN_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _is_ready(ports: Sequence[int], processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    give_up = time.monotonic() + _UP_SECONDS
    for port in ports:
        while not _readyz(port):
            if any(process.poll() is not None for process in processes) or time.monotonic() > give_up:
                return False
            time.sleep(0.1)
    return True


def _readyz(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, of those that the kernel gives to no outgoing connection."""
    chance = secrets.SystemRandom()
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = chance.choice(_PORTS)
            with suppress(OSError):
                held.enter_context(socket.create_server((HOST, port)))
                found.append(port)
    return found
