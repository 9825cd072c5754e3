"""`portico serve --workers N` with real processes: who comes back, who is told what, and how it all ends."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.backplane.redis_server import redis_server
from tests.gateways import ROOT, Running, clean_environment, free_ports, gateway

pytestmark = pytest.mark.live

T = TypeVar("T")
numbers = itertools.count()
PATIENCE = 60.0
"""Seconds for what takes a moment, however busy the machine is."""


@contextmanager
def two(
    folder: Path, settings: Mapping[str, object] | None = None, *, mode: str = "adjacent", exit_code: int | None = 0
) -> Iterator[Running]:
    """A gateway of two processes, both of which have started; without a Redis given they bring their own."""
    given = {"PORTICO_WORKERS": 2, "PORTICO_LOG_FORMAT": "json", "PORTICO_NAME": "gw", **(settings or {})}
    with gateway(folder, mode=mode, settings=given, exit_code=exit_code) as running:
        eventually(lambda: len(said(running, "started")) == 2)
        yield running


def said(running: Running, event: str) -> list[dict[str, object]]:
    """The lines of the log about an event."""
    lines = [json.loads(line) for line in running.said().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def pids(running: Running) -> dict[str, int]:
    """The processes that were started, by node."""
    return {str(line["node"]): int(str(line["pid"])) for line in said(running, "process started")}


def eventually(ask: Callable[[], T]) -> T:
    """Its first answer that is not false."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.02)  # there is no event for what another process does
    raise AssertionError("it did not come to that")


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Client:
    """A registered client, and which node it is at."""

    def __init__(self, link: ClientConnection, client_id: str) -> None:
        self.link = link
        link.send(json.dumps({"type": "c_client_register", "client_id": client_id, "user_id": client_id}))
        self.node: str = json.loads(link.recv(PATIENCE))["node"]

    def answers(self) -> bool:
        """Whether its connection works."""
        self.link.send('{"type": "heartbeat"}')
        return bool(json.loads(self.link.recv(PATIENCE))["type"] == "heartbeat")

    def close_code(self) -> int | None:
        """The code with which it is closed, whatever comes before."""
        try:
            while True:
                self.link.recv(PATIENCE)
        except ConnectionClosed:
            return self.link.close_code


@contextmanager
def client_at(url: str, client_id: str) -> Iterator[Client]:
    """A client while the block runs."""
    with connect(url, open_timeout=PATIENCE) as link:
        yield Client(link, client_id)


def one_at_each(url: str, stack: ExitStack) -> dict[str, Client]:
    """A client at each of the two nodes; the kernel spreads connections by chance."""
    found: dict[str, Client] = {}
    for _ in range(100):
        client = stack.enter_context(client_at(url, f"c{next(numbers)}"))
        found.setdefault(client.node, client)
        if len(found) == 2:
            return found
    raise AssertionError(f"all of them are at {list(found)}")


def metrics(base_url: str) -> dict[str, dict[str, float]]:
    """The counters of both nodes, by node and series; every series names its node."""
    met: dict[str, dict[str, float]] = {}
    for _ in range(100):
        text = httpx.get(f"{base_url}/metrics", timeout=PATIENCE, trust_env=False).text
        series = [line for line in text.splitlines() if line and not line.startswith("#")]
        (node,) = {found[1] if (found := re.search(r'node="([^"]+)"', line)) else "" for line in series}
        counters = (line.rpartition(" ") for line in series if re.match(r"\w+_(total|count|bucket)\b", line))
        met[node] = {name: float(value) for name, _, value in counters}
        if len(met) == 2:
            break
    return met


def test_a_process_that_is_killed_comes_back_and_the_others_do_not_notice(tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(two(tmp_path))
        clients = one_at_each(running.websocket_url, stack)
        assert set(clients) == {"gw-1", "gw-2"}
        before = metrics(running.base_url)
        assert set(before) == {"gw-1", "gw-2"}
        for node, counters in before.items():
            # What came by HTTP and what by WebSocket are figures of their own.
            opened = counters[f'portico_connections_opened_total{{node="{node}",transport="native"}}']
            assert opened == counters[f'portico_messages_received_total{{node="{node}"}}'] >= 1
        os.kill(pids(running)["gw-1"], signal.SIGKILL)
        # Whoever connects meanwhile gets to the other one, at once.
        eventually(lambda: said(running, "process died"))
        for number in range(20):
            with client_at(running.websocket_url, f"d{number}") as client:
                assert client.node in ("gw-2", "gw-1.2")
        eventually(lambda: "gw-1.2" in [line["node"] for line in said(running, "started")])
        assert "gw-1.2" in one_at_each(running.websocket_url, stack)
        # The process in its place counts under a name of its own, so no series ever falls.
        after = metrics(running.base_url)
        assert set(after) == {"gw-1.2", "gw-2"}
        assert all(after["gw-2"][name] >= value for name, value in before["gw-2"].items())
        scraped = 'method="GET",node="gw-2",route="getMetrics",status="200"'
        assert after["gw-2"][f"portico_http_requests_total{{{scraped}}}"] >= 1
        assert clients["gw-2"].answers()
        assert clients["gw-1"].close_code() == 1006
        (died,) = said(running, "process died")
        assert (died["node"], died["how"]) == ("gw-1", "SIGKILL")
        (restarting,) = said(running, "process restarting")
        assert restarting["in_seconds"] == 0.1


def test_rolling_restart(tmp_path: Path) -> None:
    """Every client is told 1012 and comes back at once; none of all who connect meanwhile is turned away."""
    refused: list[BaseException] = []
    over = threading.Event()

    def knock(connect_once: Callable[[], object]) -> None:
        while not over.is_set():
            try:
                connect_once()
            except Exception as error:
                refused.append(error)

    with ExitStack() as stack:
        running = stack.enter_context(two(tmp_path))
        http_url = running.base_url.replace("http", "ws")

        def by(url: str) -> Callable[[], object]:
            # A name of its own: of two connections of one client the older is closed with 4009.
            client_id = f"knocking{next(numbers)}"

            def once() -> None:
                with client_at(url, client_id):
                    pass

            return once

        def health() -> object:
            with urllib.request.urlopen(f"{running.base_url}/api/health", timeout=PATIENCE) as answer:
                return answer.read()

        knocking = [
            threading.Thread(target=knock, args=[each]) for each in (by(running.websocket_url), by(http_url), health)
        ]
        clients = one_at_each(running.websocket_url, stack)
        for thread in knocking:
            thread.start()
        try:
            running.process.send_signal(signal.SIGHUP)
            codes = {}
            for node, client in clients.items():
                codes[node] = client.close_code()
                with client_at(running.websocket_url, "again") as again:
                    assert again.answers()
            eventually(lambda: said(running, "rolling restart done"))
        finally:
            over.set()
            for thread in knocking:
                thread.join()
        assert codes == {"gw-1": 1012, "gw-2": 1012}
        # A connection that was made just before its node's drain is closed by it like the others.
        assert [error for error in refused if getattr(getattr(error, "rcvd", None), "code", None) != 1012] == []
        assert set(one_at_each(running.websocket_url, stack)) == {"gw-1.2", "gw-2.2"}
        assert not said(running, "process died")
        assert [line["how"] for line in said(running, "process ended")] == ["exit code 0"] * 2


def test_a_replacement_that_cannot_start_leaves_the_old_in_its_place(tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(two(tmp_path))
        clients = one_at_each(running.websocket_url, stack)
        (tmp_path / ".env").write_text("PORTICO_QUEUE_LIMIT=many\n")
        running.process.send_signal(signal.SIGHUP)
        eventually(lambda: said(running, "rolling restart given up"))
        assert all(client.answers() for client in clients.values())
        assert "PORTICO_QUEUE_LIMIT must be a whole number" in running.said()
        (tmp_path / ".env").unlink()
        running.process.send_signal(signal.SIGHUP)
        eventually(lambda: said(running, "rolling restart done"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_all_of_them(tmp_path: Path, number: signal.Signals) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(two(tmp_path, exit_code=None))
        clients = one_at_each(running.websocket_url, stack)
        # To all at once, as service managers do: that is still one signal.
        for pid in [running.process.pid, *pids(running).values()]:
            os.kill(pid, number)
        for client in clients.values():
            assert json.loads(client.link.recv(PATIENCE))["type"] == "server_draining"
            assert client.close_code() == 1012
        assert running.process.wait(PATIENCE) == 0
        assert not any(map(alive, pids(running).values()))
        assert "Traceback" not in running.said()


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(two(tmp_path, {"PORTICO_DRAIN_SECONDS": 600}, exit_code=None))
        for client in one_at_each(running.websocket_url, stack).values():
            running.process.send_signal(signal.SIGTERM)
            client.link.recv(PATIENCE)
            break
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE) == 1
        assert not any(map(alive, pids(running).values()))


def test_processes_end_with_their_supervisor(tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(two(tmp_path, exit_code=None))
        clients = one_at_each(running.websocket_url, stack)
        (redis,) = said(running, "redis started")
        everybody = [*pids(running).values(), int(str(redis["pid"]))]
        assert all(map(alive, everybody))
        running.process.kill()
        for client in clients.values():
            assert client.close_code() == 1012
        eventually(lambda: not any(map(alive, everybody)))
        eventually(lambda: not Path(str(redis["url"]).removeprefix("unix://")).parent.exists())


def test_what_no_process_can_start_with_is_refused_at_once(tmp_path: Path) -> None:
    ended = start_briefly(tmp_path, PORTICO_EXTENSIONS="no_such_module", PORTICO_LOG_FORMAT="json")
    # As one process ends, and as `portico check` says beforehand.
    assert ended.returncode == 2
    (reason,) = reasons(ended.stderr)
    assert re.fullmatch(r"no process can start: PORTICO_EXTENSIONS names 'no_such_module'.*", reason)
    assert "process restarting" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_gives_up_when_a_process_dies_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text("import os\nos._exit(7)\n")
    ended = start_briefly(
        tmp_path, PORTICO_EXTENSIONS="deadly", PORTICO_LOG_FORMAT="json", PYTHONPATH=f"{tmp_path}:{ROOT}"
    )
    assert ended.returncode == 1
    (reason,) = reasons(ended.stderr)
    assert re.fullmatch(r"process [12] failed to start 5 times in a row: it ended with exit code 7", reason)
    assert "Traceback" not in ended.stderr


def reasons(log: str) -> list[str]:
    """Why a supervisor gave up."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line["reason"] for line in lines if line["event"] == "giving up"]


def start_briefly(folder: Path, **settings: object) -> "subprocess.CompletedProcess[str]":
    """A start of two processes that is expected to fail."""
    http, websocket, worker = free_ports(3)
    ports = {"HOST": "127.0.0.1", "PORT": http, "WEBSOCKET_PORT": websocket, "WORKER_PORT": worker}
    return subprocess.run(
        [sys.executable, "-m", "service", "serve", "--workers", "2"],
        cwd=folder,
        env=clean_environment(**{**ports, **settings}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("setting", ["PORT", "WEBSOCKET_PORT", "WORKER_PORT"])
def test_a_second_instance_is_refused(tmp_path: Path, setting: str) -> None:
    with two(tmp_path) as running:
        url = {"PORT": running.base_url, "WEBSOCKET_PORT": running.websocket_url, "WORKER_PORT": running.worker_url}
        port = int(url[setting].rpartition(":")[2])
        ended = start_briefly(tmp_path, **{setting: port})
        assert ended.returncode == 2
        assert f"port {port}" in ended.stderr
        assert f"set {setting} to another port" in ended.stderr


def test_a_port_of_another_program_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert start_briefly(tmp_path, PORT=taken.getsockname()[1]).returncode == 2


def test_the_redis_of_its_own_is_private_and_goes_with_it(tmp_path: Path) -> None:
    with two(tmp_path) as running:
        (first,) = said(running, "redis started")
        path = Path(str(first["url"]).removeprefix("unix://"))
        assert path.is_socket()
        assert path.parent.stat().st_mode & 0o777 == 0o700
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(path))
            link.sendall(b"CONFIG GET port\r\n")
            assert b"$1\r\n0\r\n" in link.recv(100)
            link.sendall(b"SET kept yes\r\n")
            assert link.recv(100) == b"+OK\r\n"
        time.sleep(1.1)  # Redis' own clock says when it has written
        os.kill(int(str(first["pid"])), signal.SIGKILL)
        eventually(lambda: len(said(running, "redis started")) == 2)
        eventually(lambda: ask_redis(path, b"GET kept\r\n") == b"$3\r\nyes\r\n")
    assert not path.parent.exists()


def test_its_folder_goes_when_the_supervisor_was_killed(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with two(tmp_path, {"TMPDIR": temporary}, exit_code=None) as running:
        (first,) = said(running, "redis started")
        folder = Path(str(first["url"]).removeprefix("unix://")).parent
        assert folder.is_dir()
        running.process.kill()
        eventually(lambda: not folder.exists())
        eventually(lambda: not alive(int(str(first["pid"]))))
        eventually(lambda: not any(alive(pid) for pid in pids(running).values()))
    assert list(temporary.iterdir()) == []


def ask_redis(path: Path, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(str(path))
            link.sendall(command)
            return link.recv(100)
        except OSError:
            return b""


def test_without_a_redis_to_be_had_it_says_what_to_do(tmp_path: Path) -> None:
    ended = start_briefly(tmp_path, PATH=str(tmp_path))
    assert ended.returncode == 2
    assert "set REDIS_URL, or install redis-server, or run one process" in ended.stderr


def test_a_redis_that_is_given_is_used(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path / "redis") as redis,
        two(tmp_path, {"REDIS_URL": redis.url}, mode="integrated") as running,
    ):
        assert not said(running, "redis started")
        assert len(said(running, "started")) == 2


def test_the_place_of_a_process_is_for_the_supervisor_to_give(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "service", "serve", "--supervised", "{}"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 2
    assert "use --workers" in ended.stderr
