"""A deployment for tests: a Redis, an API node and WebSocket nodes, real processes that can be killed and started."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.backplane.redis_server import RedisServer
from tests.forked_gateways import Forked, start
from tests.gateways import DOWN_LIMIT, UP_LIMIT, clean_environment, command, free_ports

LEASE: Final = 6.0
"""Seconds after which a node that was killed is known to be gone; a third of them a renewal may take, and that is more
than a machine stands still for."""


class NodeProcess:
    """One gateway process. Its port stays the same, whoever kills it."""

    def __init__(self, folder: Path, name: str, role: str | None, settings: Mapping[str, object]) -> None:
        self.name = name
        self.role = role
        self.log = folder / f"{name}.log"
        self.folder = folder
        self.port = free_ports(1)[0]
        self._settings = settings
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._was_ready = False

    @property
    def base_url(self) -> str:
        """Where its HTTP is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        """Where its WebSockets are."""
        return "127.0.0.1", self.port

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; `ready` tells when it is up."""
        assert self._process is None
        role: dict[str, object] = {} if self.role is None else {"SERVICE_ROLE": self.role}
        environment: dict[str, object] = {
            "HOST": "127.0.0.1",
            "PORT": self.port,
            "WEBSOCKET_PORT": "same",
            "WORKER_PORT": "off",
            "ENVIRONMENT": "development",
            "PORTICO_NAME": self.name,
            "PORTICO_NODE_LEASE": LEASE,
            "PORTICO_DRAIN_SECONDS": 0.3,
            "PORTICO_LOG_FORMAT": "json",
            **role,
            **self._settings,
        }
        with self.log.open("ab") as output:
            self._process = start(
                command("portico serve", "127.0.0.1", self.port),
                cwd=self.folder,
                env=clean_environment(**environment),
                stdout=output,
            )

    def probe(self, path: str = "/readyz") -> int:
        """The status of a GET; 0 if nobody answers."""
        try:
            with urllib.request.urlopen(self.base_url + path, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def wait_ready(self, seconds: float = UP_LIMIT) -> None:
        """AssertionError, with its log, if it isn't ready in time."""
        end = time.monotonic() + seconds
        while self.probe() != 200:
            assert self._process is not None
            assert time.monotonic() < end, f"{self.name} is not ready:\n{self.said()}"
            if self._process.poll() is not None and not self._was_ready and "Address already in use" in self.said():
                # Free a moment ago, and taken meanwhile by another test. Nobody has been told this port yet.
                self._process = None
                self.log.unlink()
                self.port = free_ports(1)[0]
                self.start()
                continue
            assert self._process.poll() is None, f"{self.name} has ended:\n{self.said()}"
            time.sleep(0.05)
        self._was_ready = True

    def kill(self) -> None:
        """SIGKILL, to all of it."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def end(self) -> int:
        """SIGTERM; its exit code."""
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(DOWN_LIMIT)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-8000:] if self.log.exists() else ""


class SplitDeployment:
    """Its parts: `redis`, `api`, `nodes` (those that take WebSockets)."""

    def __init__(self, redis: RedisServer, api: NodeProcess, nodes: list[NodeProcess]) -> None:
        self.redis = redis
        self.api = api
        self.nodes = nodes

    @property
    def all(self) -> list[NodeProcess]:
        """Every gateway process."""
        return [self.api, *(node for node in self.nodes if node is not self.api)]


@contextmanager
def deployment(
    folder: Path,
    *,
    nodes: int = 3,
    redis: RedisServer | None = None,
    redis_url: str | None = None,
    aof: bool = True,
    settings: Mapping[str, object] | None = None,
) -> Iterator[SplitDeployment]:
    """A split deployment while the block runs. `redis`: one that runs already, and goes on running; `redis_url`:
    another way to it, such as a proxy's, or that of sentinels. Without `aof` a Redis that is started again knows
    nothing. What the processes said is noted on whatever goes wrong.
    """
    ours = None if redis is not None else RedisServer(folder / "redis", aof=aof)
    if ours is not None:
        ours.start()
    redis = redis or ours
    assert redis is not None
    more = {"REDIS_URL": redis_url or redis.url, **(settings or {})}
    made = SplitDeployment(
        redis,
        NodeProcess(folder, "api", "api", more),
        [NodeProcess(folder, f"ws-{number}", "websocket", more) for number in range(1, nodes + 1)],
    )
    try:
        for node in made.all:
            node.start()
        for node in made.all:
            node.wait_ready()
        yield made
    except BaseException as error:
        for node in made.all:
            error.add_note(f"--- {node.name} ---\n{node.said()}")
        raise
    finally:
        for node in made.all:
            node.kill()
        if ours is not None:
            ours.kill()
