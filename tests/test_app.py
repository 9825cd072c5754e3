"""The whole node, in processes of its own: how it starts, what it refuses, how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.gateways import (
    BIN,
    ROOT,
    SERVERS,
    Running,
    clean_environment,
    command,
    end,
    free_ports,
    gateway,
    may_listen_on_port_80,
    own_address,
)

pytestmark = pytest.mark.live

ADMIN_KEY = "key-of-the-operator-0001"
REGISTER = json.dumps({"type": "c_client_register", "client_id": "c1", "user_id": "u1"})


def run_briefly(folder: Path, server: str = "portico serve", **settings: object) -> "subprocess.CompletedProcess[str]":
    """A start that is expected to fail."""
    port = settings.get("PORT", 0)
    return subprocess.run(
        command(server, "127.0.0.1", int(str(port)) or free_ports(1)[0]),
        cwd=folder,
        env=clean_environment(**{"HOST": "127.0.0.1", **settings}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"PORTICO_PING_INTERVALL": "5"}, "PORTICO_PING_INTERVAL"),
        ({"WEBSOCKET_PORT": "many"}, "WEBSOCKET_PORT"),
        ({"SERVICE_ROLE": "websocket", "API_TYPE": "http", "REDIS_URL": "redis://localhost:1/0"}, "contradicts"),
        ({"PORTICO_EXTENSIONS": "no_such_module"}, "no_such_module"),
    ],
)
def test_what_cannot_be_started_is_said_in_a_sentence(
    tmp_path: Path, server: str, settings: dict[str, str], sentence: str
) -> None:
    ended = run_briefly(tmp_path, server, **settings)
    # Hypercorn's master ends with 0 whatever its worker ended with.
    assert ended.returncode == (2 if server == "portico serve" else 0)
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("setting", ["PORT", "WEBSOCKET_PORT", "WORKER_PORT"])
def test_a_port_that_is_taken_is_said_in_a_sentence(tmp_path: Path, server: str, setting: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = dict(zip(("PORT", "WEBSOCKET_PORT", "WORKER_PORT"), free_ports(3), strict=True)) | {setting: port}
        ended = run_briefly(tmp_path, server, ENVIRONMENT="development", **ports)
    if server == "portico serve":
        assert ended.returncode == 2
    if server == "portico serve" or setting != "PORT":  # that port is Hypercorn's own to report
        assert str(port) in ended.stderr
        assert setting in ended.stderr
        assert "Traceback" not in ended.stderr + ended.stdout


def test_a_port_as_a_platform_sets_it_means_production_and_the_next_one_for_websockets(tmp_path: Path) -> None:
    host = own_address()
    port = free_ports(1, host)[0]
    settings = {"ENVIRONMENT": "production", "WEBSOCKET_PORT": port + 1, "PORTICO_DRAIN_SECONDS": "0.1"}
    with gateway(tmp_path, host=host, port=port, settings=settings) as running:
        info = httpx.get(f"{running.base_url}/api/b-client/websocket-info").json()
        assert info["websocket_url"] == f"ws://{host}:{port + 1}"
        assert info["environment"] == "production"
        lines = [json.loads(line) for line in running.said().splitlines() if line]
        (listening,) = [line for line in lines if line["event"] == "listening"]
        assert (listening["http"], listening["websocket"]) == (port, port + 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("server", SERVERS)
def test_a_signal_ends_it_cleanly_and_clients_are_told(tmp_path: Path, server: str, number: signal.Signals) -> None:
    with gateway(tmp_path, server=server, settings={"PORTICO_DRAIN_SECONDS": "0.3"}, exit_code=None) as running:
        with connect(running.websocket_url) as client:
            client.send(REGISTER)
            assert json.loads(client.recv())["type"] == "registration_success"
            running.process.send_signal(number)
            notice = json.loads(client.recv())
            assert notice == {"type": "server_draining", "retry_within_ms": 300}
            # What a client gets next is the Close, with the advice in its reason.
            with pytest.raises(ConnectionClosed):
                client.recv()
            assert client.close_code == 1012
            assert client.close_reason == "retry_within_ms=300"
        assert running.process.wait(60) == 0
        assert "stopped" in running.said()
        assert "Traceback" not in running.said()


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with (
        gateway(tmp_path, settings={"PORTICO_DRAIN_SECONDS": "600"}, exit_code=None) as running,
        connect(running.websocket_url) as client,
    ):
        client.send(REGISTER)
        client.recv()
        running.process.send_signal(signal.SIGTERM)
        client.recv()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 1
        assert "Traceback" not in running.said()


def test_while_it_drains_it_is_not_ready_and_takes_nobody(tmp_path: Path) -> None:
    with (
        gateway(tmp_path, settings={"PORTICO_DRAIN_SECONDS": "600"}, exit_code=None) as running,
        connect(running.websocket_url) as client,
    ):
        client.send(REGISTER)
        client.recv()
        running.process.send_signal(signal.SIGTERM)
        assert json.loads(client.recv())["type"] == "server_draining"
        assert httpx.get(f"{running.base_url}/readyz").status_code == 503
        discovery = httpx.get(f"{running.base_url}/api/b-client/websocket-info")
        assert (discovery.status_code, discovery.json()["success"]) == (503, False)
        assert "draining" in discovery.json()["error"]
        assert httpx.get(f"{running.base_url}/livez").status_code == 200
        upgrade = {
            "connection": "upgrade",
            "upgrade": "websocket",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-version": "13",
        }
        answer = httpx.get(f"{running.base_url}/ws", headers=upgrade)
        assert answer.status_code == 503
        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("server", SERVERS)
def test_a_drain_by_http_tells_clients_to_go_and_the_process_stays_until_it_is_stopped(
    tmp_path: Path, server: str
) -> None:
    settings = {"PORTICO_DRAIN_SECONDS": "0.3", "PORTICO_API_KEYS": ADMIN_KEY, "PORTICO_AUDIT_LOG": "stderr"}
    key = {"authorization": f"Bearer {ADMIN_KEY}"}
    with gateway(tmp_path, server=server, settings=settings, exit_code=None) as running:
        drain = f"{running.base_url}/api/drain"
        assert httpx.post(drain).status_code == 401
        with connect(running.websocket_url) as client:
            client.send(REGISTER)
            client.recv()
            begun = httpx.post(drain, headers=key)
            assert begun.status_code == 202
            assert begun.json()["connections"] == 1
            assert 0 < begun.json()["seconds"] <= 0.3
            assert json.loads(client.recv()) == {"type": "server_draining", "retry_within_ms": 300}
            with pytest.raises(ConnectionClosed):
                client.recv()
            assert client.close_code == 1012
        assert httpx.get(f"{running.base_url}/readyz").status_code == 503
        again = httpx.post(drain, headers=key)
        assert (again.status_code, again.json()["connections"]) == (202, 0)
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
        acts = [line for line in running.said().splitlines() if '"event": "drain"' in line or '"event":"drain"' in line]
        assert len(acts) == 1
        assert json.loads(acts[0])["by"] == "key-1"


def test_a_signal_amid_a_drain_by_http_waits_for_its_end(tmp_path: Path) -> None:
    with (
        gateway(tmp_path, settings={"PORTICO_DRAIN_SECONDS": "2"}, exit_code=None) as running,
        connect(running.websocket_url) as client,
    ):
        client.send(REGISTER)
        client.recv()
        assert httpx.post(f"{running.base_url}/api/drain").status_code == 202
        running.process.send_signal(signal.SIGTERM)
        assert json.loads(client.recv())["type"] == "server_draining"
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert client.close_code == 1012
        assert running.process.wait(60) == 0


def test_from_a_number_of_connections_on_it_says_what_mode_is_advised(tmp_path: Path) -> None:
    with gateway(tmp_path, settings={"PORTICO_ADVISE_SPLIT_AT": "1"}) as running:
        status = f"{running.base_url}/api/c-client/status"
        assert httpx.get(status).json()["advice"] is None
        with connect(running.websocket_url) as client:
            client.send(REGISTER)
            client.recv()
            give_up = time.monotonic() + 60
            while (advice := httpx.get(status).json()["advice"]) is None:
                assert time.monotonic() < give_up
                time.sleep(0.1)  # it looks twice a second
            assert "1 connections" in advice["reason"]
            assert advice["mode"] == ("split" if advice["strained"] else "integrated")
            metrics = httpx.get(f"{running.base_url}/metrics").text
            assert re.search(r"^portico_advised_mode [12]\.0$", metrics, re.MULTILINE)
            for name in (
                "process_memory_bytes",
                "process_cpu_seconds_total",
                "process_descriptors",
                "loop_lag_seconds",
            ):
                assert re.search(rf"^portico_{name} \d", metrics, re.MULTILINE), name
        assert "advice on the mode" in running.said()


@pytest.mark.parametrize("server", SERVERS)
def test_what_nobody_can_catch_is_logged_and_counted(tmp_path: Path, server: str) -> None:
    (tmp_path / "forgetful.py").write_text(
        "from service.core.reply import Reply\n\n\n"
        "def extend(context):\n    context.add_action('forget', lambda call: Reply(print) and None)\n"
    )
    settings = {"PORTICO_EXTENSIONS": "forgetful", "PYTHONPATH": str(tmp_path), "PORTICO_LOG_FORMAT": "json"}
    with gateway(tmp_path, server=server, settings=settings) as running, connect(running.websocket_url) as client:
        client.send('{"type": "connect", "data": {"role": "client"}}')
        client.recv()
        client.send('{"type": "request", "msg_id": "m", "data": {"action": "forget"}}')
        assert json.loads(client.recv())["data"]["success"] is True
        assert "portico_internal_errors_total 1.0" in httpx.get(f"{running.base_url}/metrics").text
    lines = [json.loads(line) for line in (tmp_path / "gateway.log").read_text().splitlines() if line[:1] == "{"]
    [found] = [line for line in lines if line["event"] == "internal error"]
    assert "NeverAnswered" in found["trace"]


def test_the_procfile_starts_it(tmp_path: Path) -> None:
    # Its one line as it stands, but on loopback only, as everything that tests start.
    procfile = tmp_path / "Procfile"
    line = (ROOT / "Procfile").read_text()
    assert "0.0.0.0:$PORT" in line
    procfile.write_text(line.replace("0.0.0.0", "127.0.0.1"))
    log = tmp_path / "honcho.log"
    for _ in range(4):
        port = free_ports(1)[0]
        settings = {
            "HOST": "127.0.0.1",
            "PORT": port,
            "WEBSOCKET_PORT": "same",
            "PORTICO_DRAIN_SECONDS": "0.1",
            "PATH": f"{BIN}:/usr/bin:/bin",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "honcho", "-f", str(procfile), "-e", str(tmp_path / "none"), "start"],
                cwd=tmp_path,
                env=clean_environment(**settings),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            info = _discovered(f"http://127.0.0.1:{port}", process)
            if info is None:
                continue  # the port was free a moment ago, and is taken now
            assert info["websocket_port"] == port
            assert info["environment"] == "production"
            with connect(f"ws://127.0.0.1:{port}") as client:
                client.send(REGISTER)
                assert json.loads(client.recv())["type"] == "registration_success"
        finally:
            end(process)
        assert "stopped" in log.read_text()
        return
    pytest.fail(log.read_text())


def _discovered(base_url: str, process: "subprocess.Popen[bytes]") -> dict[str, object] | None:
    """What discovery says once it answers; None if the process ended instead."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{base_url}/api/b-client/info", timeout=5) as answer:
                info: dict[str, object] = json.load(answer)["b_client_info"]
                return info
        except OSError:
            time.sleep(0.1)  # there is no event for another process being ready
    return None


@pytest.mark.skipif(not may_listen_on_port_80(), reason="only root may listen on port 80")
@pytest.mark.parametrize("server", SERVERS)
def test_on_port_80_all_three_ways_to_build_the_address_work(tmp_path: Path, server: str) -> None:
    with gateway(tmp_path, server=server, mode="integrated", host=own_address(), port=80) as running:
        info = httpx.get(f"{running.base_url}/api/b-client/websocket-info").json()
        assert info["websocket_port"] == 80
        built = (
            info["websocket_url"],
            f"ws://{info['websocket_host']}:{info['websocket_port']}",
            f"ws://{running.base_url.removeprefix('http://')}:{info['websocket_port']}",
        )
        for url in built:
            with connect(url) as client:
                client.send(REGISTER)
                assert json.loads(client.recv())["type"] == "registration_success"


def test_several_workers_of_hypercorn_are_refused_without_a_redis(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*command("hypercorn", "127.0.0.1", free_ports(1)[0]), "--workers", "2"],
        cwd=tmp_path,
        env=clean_environment(HOST="127.0.0.1", WEBSOCKET_PORT="same", WORKER_PORT="off"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "set REDIS_URL, or run portico serve --workers" in ended.stderr
    assert "Traceback" not in ended.stderr


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that are there."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def process_that_serves(running: Running, server: str) -> int:
    """Under Hypercorn the worker, which is the one of its master's children that has the gateway's connections."""
    if server == "portico serve":
        return running.process.pid
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(running.process.pid)}
    (worker,) = (pid for pid, command in commands.items() if b"spawn_main" in command)
    return worker


@pytest.mark.parametrize("server", SERVERS)
def test_a_hangup_does_nothing_to_one_process_and_is_said_to(tmp_path: Path, server: str) -> None:
    with gateway(tmp_path, server=server) as running, connect(running.websocket_url) as client:
        client.send(REGISTER)
        assert json.loads(client.recv())["type"] == "registration_success"
        os.kill(process_that_serves(running, server), signal.SIGHUP)
        deadline = time.monotonic() + 30
        while "SIGHUP does nothing" not in running.said():
            assert running.process.poll() is None, running.said()
            assert time.monotonic() < deadline, running.said()
            time.sleep(0.02)  # there is no event for what another process writes
        push = {"target": {"user_id": "u1"}, "type": "still_there", "data": {}}
        assert httpx.post(f"{running.base_url}/api/notifications", json=push).status_code == 202
        assert json.loads(client.recv(30))["type"] == "still_there"


def test_a_worker_of_hypercorn_drains_and_ends_when_its_master_was_killed(tmp_path: Path) -> None:
    with gateway(tmp_path, server="hypercorn", exit_code=None) as running:
        worker = process_that_serves(running, "hypercorn")
        with connect(running.websocket_url) as client:
            client.send(REGISTER)
            assert json.loads(client.recv())["type"] == "registration_success"
            running.process.kill()
            assert json.loads(client.recv(30)) == {"type": "server_draining", "retry_within_ms": 300}
            with pytest.raises(ConnectionClosed):
                client.recv(30)
            assert client.close_code == 1012
        deadline = time.monotonic() + 60
        while Path(f"/proc/{worker}/cmdline").exists() and Path(f"/proc/{worker}/cmdline").read_bytes():
            assert time.monotonic() < deadline, "it goes on without a master"
            time.sleep(0.02)  # it is no child of ours, so there is no event for its end
        assert "its master is gone" in running.said()
        assert "stopped" in running.said()
        assert "Traceback" not in running.said()
