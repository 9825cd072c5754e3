"""A gateway in parts, and Hypercorn with several workers: who answers what on which port, with a Redis between them."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.backplane.redis_server import RedisServer, redis_server
from tests.gateways import SERVERS, Running, clean_environment, command, end, free_ports, gateway

pytestmark = pytest.mark.live

REGISTER = json.dumps({"type": "c_client_register", "client_id": "c1", "user_id": "u1"})
PATIENCE = 60.0


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@contextmanager
def part(folder: Path, redis: RedisServer, role: str, server: str, **settings: object) -> Iterator[Running]:
    """One process of a gateway in parts; where it serves WebSockets, that is the port of its HTTP."""
    given: Mapping[str, object] = {"SERVICE_ROLE": role, "REDIS_URL": redis.url, **settings}
    with gateway(folder, server=server, mode="integrated", settings=given) as running:
        yield running


@pytest.mark.parametrize("server", SERVERS)
def test_an_api_process_sends_websockets_elsewhere(tmp_path: Path, redis: RedisServer, server: str) -> None:
    with part(tmp_path, redis, "api", server) as running:
        assert httpx.get(f"{running.base_url}/openapi.json").status_code == 200
        for path in ("/", "/api/websocket", "/worker", "/nowhere"):
            with pytest.raises(InvalidStatus) as refused, connect(running.websocket_url + path):
                pass
            assert refused.value.response.status_code == 404
            body = json.loads(refused.value.response.body or b"")
            assert "SERVICE_ROLE=websocket" in body["error"]["message"]


@pytest.mark.parametrize("server", SERVERS)
def test_a_websocket_process(tmp_path: Path, redis: RedisServer, server: str) -> None:
    with part(tmp_path, redis, "websocket", server) as running:
        with connect(running.websocket_url) as client:
            client.send(REGISTER)
            assert json.loads(client.recv(PATIENCE))["type"] == "registration_success"
            assert 'transport="native"' in httpx.get(f"{running.base_url}/metrics").text
        for path in ("/api/health", "/livez", "/readyz"):
            assert httpx.get(running.base_url + path).json()["status"] == "ok"
        info = httpx.get(f"{running.base_url}/api/b-client/websocket-info").json()
        with connect(info["websocket_url"]), connect(f"ws://{info['websocket_host']}:{info['websocket_port']}"):
            pass
        for method, path in (("GET", "/"), ("GET", "/openapi.json"), ("POST", "/api/notifications"), ("PUT", "/livez")):
            answer = httpx.request(method, running.base_url + path)
            assert answer.status_code == 426
            assert answer.headers["upgrade"] == "websocket"
            assert answer.text.startswith("This port is for WebSockets")
        head = httpx.head(f"{running.base_url}/livez")
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("role", ["api", "websocket"])
def test_a_part_without_a_redis_is_refused(tmp_path: Path, role: str, server: str) -> None:
    ended = subprocess.run(
        command(server, "127.0.0.1", free_ports(1)[0]),
        cwd=tmp_path,
        env=clean_environment(HOST="127.0.0.1", SERVICE_ROLE=role),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == (2 if server == "portico serve" else 0)  # Hypercorn's master ends with 0, always
    assert "set REDIS_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def hypercorn(folder: Path, *options: str, **settings: object) -> "tuple[subprocess.Popen[bytes], int, int, Path]":
    """Two workers of Hypercorn's: the process, its HTTP port, its port for WebSockets, and its log."""
    http, websocket = free_ports(2)
    log = folder / "hypercorn.log"
    ports = {"HOST": "127.0.0.1", "PORT": http, "WEBSOCKET_PORT": websocket, "WORKER_PORT": "off"}
    environment = {**ports, "ENVIRONMENT": "development", "PORTICO_DRAIN_SECONDS": 0.3, "PORTICO_LOG_FORMAT": "json"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command("hypercorn", "127.0.0.1", http), "--workers", "2", *options],
            cwd=folder,
            env=clean_environment(**{**environment, **settings}),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, http, websocket, log


def wait_for(log: Path, text: str, count: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a log has a text so many times."""
    deadline = time.monotonic() + PATIENCE
    while log.read_text().count(text) < count:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)  # there is no event for what another process writes


def close_code(link: ClientConnection) -> int | None:
    """The code with which a connection is closed, whatever comes before."""
    try:
        while True:
            link.recv(PATIENCE)
    except ConnectionClosed:
        return link.close_code


def test_several_workers_of_hypercorn_share_all_ports_and_drain(tmp_path: Path, redis: RedisServer) -> None:
    process, http, websocket, log = hypercorn(tmp_path, REDIS_URL=redis.url)
    stack = ExitStack()
    try:
        wait_for(log, '"event":"started"', 2, process)
        nodes: set[tuple[int, str]] = set()
        links: list[ClientConnection] = []
        for number in range(100):
            port = (http, websocket)[number % 2]
            link = stack.enter_context(connect(f"ws://127.0.0.1:{port}", open_timeout=PATIENCE))
            links.append(link)
            link.send(json.dumps({"type": "c_client_register", "client_id": f"h{number}"}))
            nodes.add((port, json.loads(link.recv(PATIENCE))["node"]))
            if len(nodes) == 4:
                break
        assert len(nodes) == 4, "two nodes on each of two ports"
        assert end(process) == 0
        assert {close_code(link) for link in links} == {1012}
        assert log.read_text().count('"event":"stopped"') == 2
    finally:
        stack.close()
        process.kill()
        process.wait()


def test_several_workers_of_one_name_are_refused(tmp_path: Path, redis: RedisServer) -> None:
    process, _, _, log = hypercorn(tmp_path, REDIS_URL=redis.url, PORTICO_NAME="gw")
    try:
        process.wait(PATIENCE)
        assert "leave PORTICO_NAME unset" in log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def discovered(running: Running, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(f"{running.base_url}/api/b-client/websocket-info", headers=named)


@pytest.mark.parametrize("server", SERVERS)
def test_a_websocket_process_that_drains_names_another_or_nobody(
    tmp_path: Path, redis: RedisServer, server: str
) -> None:
    settings = {"SERVICE_ROLE": "websocket", "REDIS_URL": redis.url, "PORTICO_REDIS_PREFIX": f"drain-{server[:3]}:"}
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    long = {**settings, "PORTICO_DRAIN_SECONDS": "600"}
    with (
        gateway(folders[0], server=server, mode="integrated", settings=long, exit_code=None) as one,
        connect(one.websocket_url) as client,
    ):
        client.send(REGISTER)
        assert json.loads(client.recv(PATIENCE))["type"] == "registration_success"
        with gateway(folders[1], server=server, mode="integrated", settings=settings) as two:
            one.process.send_signal(signal.SIGTERM)
            assert json.loads(client.recv(PATIENCE))["type"] == "server_draining"
            there = two.websocket_url.rpartition(":")[2]
            eventually(lambda: there in discovered(one).text, lambda: discovered(one).text)
            with connect(discovered(one).json()["websocket_url"]):
                pass
            # Of itself the other doesn't speak of the one that goes.
            eventually(lambda: there in discovered(two).text, lambda: discovered(two).text)
        eventually(lambda: discovered(one).status_code == 503, lambda: discovered(one).text)
        assert "draining" in discovered(one).json()["error"]
        one.process.kill()


@pytest.mark.parametrize("server", SERVERS)
def test_behind_tls_an_api_process_names_nobody_who_cannot_be_reached(
    tmp_path: Path, redis: RedisServer, server: str
) -> None:
    shared = {"PORTICO_TRUSTED_PROXIES": "127.0.0.1", "PORTICO_REDIS_PREFIX": f"tls-{server[:3]}:"}
    proxied = {"x_forwarded_proto": "https", "x_forwarded_host": "gw.example.com", "x_forwarded_for": "203.0.113.5"}
    for name in ("api", "plain", "public"):
        (tmp_path / name).mkdir()
    with part(tmp_path / "api", redis, "api", server, **shared) as api:
        assert "PORTICO_PUBLIC_WEBSOCKET_URL" in api.said()
        with part(tmp_path / "plain", redis, "websocket", server, **shared):
            eventually(lambda: discovered(api).status_code == 200, lambda: discovered(api).text)
            answer = discovered(api, **proxied)
            assert answer.status_code == 503
            assert "PORTICO_PUBLIC_WEBSOCKET_URL" in answer.json()["error"]
            public = {"PORTICO_PUBLIC_WEBSOCKET_URL": "wss://ws.example.com"}
            with part(tmp_path / "public", redis, "websocket", server, **shared, **public):
                eventually(lambda: discovered(api, **proxied).status_code == 200, lambda: discovered(api).text)
                for _ in range(5):
                    assert discovered(api, **proxied).json()["websocket_url"] == "wss://ws.example.com"


def eventually(happened: Callable[[], bool], said: Callable[[], str]) -> None:
    """Wait for what a process gets to know from others; there is no event for that."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, said()
        time.sleep(0.05)
