"""The files to deploy with, run: the entry point in each role, with what the compose files set, and nginx."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.backplane.redis_server import redis_server
from tests.gateways import BIN, ROOT, clean_environment, free_ports
from tests.test_docs_deploy import compose
from tests.test_docs_nginx import NGINX, OPENSSL, nginx

pytestmark = pytest.mark.live

ENTRY = ROOT / "docker" / "entrypoint.sh"
SECRETS = {"PORTICO_API_KEYS": "a-key-of-the-back-end", "WEBSOCKET_HANDSHAKE_KEY": "a-key-of-the-workers"}
BEARER = {"authorization": f"Bearer {SECRETS['PORTICO_API_KEYS']}"}
LIMIT = 120.0


def environment(name: str, service: str) -> dict[str, str]:
    """What a compose file sets, with SECRETS in the environment of who calls it."""
    settings: dict[str, str | None] = compose(name)["services"][service]["environment"]

    def given(match: re.Match[str]) -> str:
        variable, default = match[1], match[3]
        if match[2] == ":?":
            return SECRETS[variable]
        return SECRETS.get(variable, default or "")

    found = {
        key: re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", given, value) for key, value in settings.items() if value is not None
    }
    return {"ENVIRONMENT": "production", **found}


def entry(*arguments: str, **settings: object) -> "subprocess.Popen[bytes]":
    """The entry point, as in a container."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [str(ENTRY), *arguments],
        cwd=ROOT,
        env=clean_environment(**settings, PATH=path, HOST="127.0.0.1", PORTICO_DRAIN_SECONDS=0.2),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@contextmanager
def containers(*settings: dict[str, str]) -> Iterator[list[str]]:
    """Gateways by the entry point, started together, all up and healthy; their base URLs."""
    ports = free_ports(len(settings))
    given = [{**each, "PORT": str(port)} for each, port in zip(settings, ports, strict=True)]
    processes = [entry(**each) for each in given]
    base_urls = [f"http://127.0.0.1:{port}" for port in ports]
    try:
        give_up = time.monotonic() + LIMIT
        for process, base_url in zip(processes, base_urls, strict=True):
            while not _ready(base_url):
                assert process.poll() is None, process.communicate()[0].decode()
                assert time.monotonic() < give_up
                time.sleep(0.05)  # another process; there is no event for it
        for probe in [entry("healthy", **each) for each in given]:
            assert probe.communicate(timeout=LIMIT)[0] == b""
            assert probe.returncode == 0
        yield base_urls
        # It is the gateway itself that gets the signal.
        for process in processes:
            process.terminate()
        assert [process.wait(LIMIT) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _ready(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/readyz", trust_env=False, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def try_it(base_url: str, websocket_url: str) -> None:
    """A push to a client, by the key."""
    with connect(websocket_url, proxy=None) as client:
        client.send(json.dumps({"type": "c_client_register", "client_id": "c1", "user_id": "ann"}))
        assert json.loads(client.recv(LIMIT))["type"] == "registration_success"
        push = {"target": {"user_id": "ann"}, "type": "hello", "data": {"n": 1}, "durable": True}
        answer = httpx.post(f"{base_url}/api/notifications", json=push, headers=BEARER, trust_env=False, timeout=LIMIT)
        assert answer.status_code == 202, answer.text
        assert json.loads(client.recv(LIMIT))["n"] == 1


def test_one_container_and_a_redis(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        given = {**environment("compose.yaml", "gateway"), "REDIS_URL": redis.url}
        with containers(given) as (base_url,):
            try_it(base_url, f"{base_url.replace('http', 'ws', 1)}/api/websocket")


@pytest.mark.skipif(NGINX is None or OPENSSL is None, reason="needs nginx, and openssl for its helper")
def test_the_split_containers_behind_their_nginx(tmp_path: Path) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(tmp_path))
        (listen,) = free_ports(1)
        public = f"ws://127.0.0.1:{listen}/api/websocket"
        site = (ROOT / "docker" / "nginx.conf").read_text()
        services = ("api", "websocket-1", "websocket-2")
        settings = [environment("compose.split.yaml", service) for service in services]
        for given in settings:
            # nginx is at another address here.
            assert given["PORTICO_TRUSTED_PROXIES"]
            given.update(REDIS_URL=redis.url, PORTICO_PUBLIC_WEBSOCKET_URL=public, PORTICO_TRUSTED_PROXIES="127.0.0.1")
        for service, base_url in zip(services, stack.enter_context(containers(*settings)), strict=True):
            site, count = re.subn(rf"server {service}:800[01];", f"server {base_url.removeprefix('http://')};", site)
            assert count == 1
        site, count = re.subn(r"listen 80;", f"listen 127.0.0.1:{listen};", site)
        assert count == 1
        stack.enter_context(nginx(site, tmp_path))
        front = f"http://127.0.0.1:{listen}"
        give_up = time.monotonic() + LIMIT
        while not _ready(front):
            assert time.monotonic() < give_up
            time.sleep(0.05)  # another process; there is no event for it
        info = httpx.get(f"{front}/api/b-client/websocket-info", trust_env=False, timeout=LIMIT).json()
        assert info["websocket_url"] == public
        for _ in range(2):  # once by each node
            try_it(front, public)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SERVICE_ROLE": "websocket"}, "needs REDIS_URL"),
        ({"API_TYPE": "http"}, "The role api needs REDIS_URL"),
        ({"SERVICE_ROLE": "worker"}, "must be api or websocket"),
        ({"API_TYPE": "both"}, "must be combined, http or websocket"),
    ],
)
def test_what_cannot_be_started_is_said_in_a_sentence(settings: dict[str, str], told: str) -> None:
    process = entry(**settings)
    said = process.communicate(timeout=LIMIT)[0].decode()
    assert process.returncode == 2
    assert told in said


def test_other_commands_are_those_of_portico_and_a_gateway_that_is_not_there_is_unhealthy() -> None:
    version = entry("--version").communicate(timeout=LIMIT)[0]
    assert version.startswith(b"portico ")
    (port,) = free_ports(1)
    probe = entry("healthy", PORT=port)
    assert probe.communicate(timeout=LIMIT)[0].startswith(b"unhealthy: ")
    assert probe.returncode == 1
