"""The log ends nothing: a full disk, a pipe whose reader is gone, and one whose reader is stuck."""

import fcntl
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest
from websockets.sync.client import connect

from tests.backplane.redis_server import RedisServer, redis_server
from tests.gateways import Running, gateway

from .scene import eventually, fetch, metric

pytestmark = pytest.mark.live

CLIENTS: Final = 40
SICK: Final = ("full disk", "reader gone", "reader stuck")
SETTINGS: Final = {"PORTICO_LOG_FORMAT": "json", "PORTICO_LOG_LEVEL": "debug", "PORTICO_DRAIN_SECONDS": 0.3}


class Pipe:
    """A gateway's standard error, and who reads it."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, 4096)


@contextmanager
def sick_log(how: str) -> Iterator[int]:
    """A descriptor that can't be written to."""
    if how == "full disk":
        if not Path("/dev/full").exists():
            pytest.skip("Linux' /dev/full is a disk that is full")
        fd = os.open("/dev/full", os.O_WRONLY)
        try:
            yield fd
        finally:
            os.close(fd)
        return
    pipe = Pipe()
    if how == "reader gone":
        os.close(pipe.read)
    try:
        yield pipe.write
    finally:
        os.close(pipe.write)
        if how != "reader gone":
            os.close(pipe.read)


def serves(running: Running) -> None:
    """Clients come, register, say something wrong, and go; nothing is left of them, and nobody has waited."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(running.websocket_url + "/ws", proxy=None)) for _ in range(CLIENTS)]
        for number, client in enumerate(clients):
            client.send(json.dumps({"type": "c_client_register", "client_id": f"c{number}", "user_id": "x" * 100}))
            assert json.loads(client.recv(20))["type"] == "registration_success"
            client.send("{")
            assert json.loads(client.recv(20))["type"] == "error"
        assert fetch(running, "/api/c-client/status")["total"] == CLIENTS
    eventually(lambda: fetch(running, "/api/c-client/status")["total"] == 0, 10, "no ghosts")
    with urllib.request.urlopen(f"{running.base_url}/readyz", timeout=60) as answer:
        assert answer.status == 200
    assert metric(running, "internal_errors_total") == metric(running, "contained_errors_total") == 0


@pytest.mark.parametrize(("server", "how"), [*(("portico serve", how) for how in SICK), ("hypercorn", "reader stuck")])
def test_clients_are_served_and_the_end_is_clean(tmp_path: Path, server: str, how: str) -> None:
    # Its end is asserted too: SIGTERM, and exit code 0.
    with sick_log(how) as fd, gateway(tmp_path, server=server, settings=SETTINGS, stderr=fd) as running:
        serves(running)


@pytest.mark.parametrize("how", SICK)
def test_a_redis_that_restarts_meanwhile(tmp_path: Path, how: str) -> None:
    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{running.base_url}/readyz", timeout=60) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError:
            return False

    with redis_server(tmp_path / "redis") as redis, sick_log(how) as fd:
        settings = {**SETTINGS, "REDIS_URL": redis.url}
        with gateway(tmp_path, settings=settings, stderr=fd) as running:
            redis.kill()
            eventually(lambda: not ready(), 20, "Redis missed")
            redis.start()
            eventually(ready, 20, "Redis found again")
            serves(running)


@pytest.mark.parametrize("how", SICK)
def test_a_redis_that_refuses_us(tmp_path: Path, how: str) -> None:
    redis = RedisServer(tmp_path / "redis", requirepass="right")
    redis.start()
    try:
        settings = {**SETTINGS, "REDIS_URL": f"redis://:wrong@127.0.0.1:{redis.port}/0"}
        with sick_log(how) as fd, gateway(tmp_path, settings=settings, stderr=fd, probe="/livez") as running:
            for _ in range(20):
                with pytest.raises(urllib.error.HTTPError, match="503"):
                    urllib.request.urlopen(f"{running.base_url}/readyz", timeout=60)
    finally:
        redis.kill()
