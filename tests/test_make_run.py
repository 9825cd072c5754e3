"""`make run-integrated` and `make run-split`, as somebody types them: what they start, say, and leave behind."""

import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.gateways import ROOT, clean_environment, free_ports

pytestmark = pytest.mark.live

LIMIT = 120.0


@contextmanager
def making(target: str, folder: Path, **settings: object) -> Iterator[Callable[[], str]]:
    """What it says, while it runs; then Ctrl-C, by which all of it has to end. `folder` is for what is temporary."""
    log = folder / "said"
    temporary = folder / "tmp"
    temporary.mkdir()
    # As installed as it is: nothing is fetched.
    stamps = [word for name in (".installed", ".runs") for word in ("-o", f"{sys.prefix}/{name}")]
    environment = clean_environment(TMPDIR=temporary, **settings)
    environment.pop("MAKEFLAGS", None)
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["make", "--no-print-directory", f"VENV={sys.prefix}", *stamps, target],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # As a terminal's shell starts it: whoever runs the tests in the background has Ctrl-C ignored below it.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield log.read_text
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(LIMIT) in (2, -signal.SIGINT, 130), log.read_text()  # make itself is interrupted too
        assert "Traceback" not in log.read_text()
        assert list(temporary.iterdir()) == []
    finally:
        for pid in [process.pid, *started(log.read_text())]:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        process.wait()


def started(said: str) -> list[int]:
    """The processes that honcho has started, each with a session of its own."""
    return [int(pid) for pid in re.findall(r"started \(pid=(\d+)\)", said)]


def eventually(ask: Callable[[], object], said: Callable[[], str]) -> None:
    end = time.monotonic() + LIMIT
    while not ask():
        assert time.monotonic() < end, said()
        time.sleep(0.05)  # there is no event for what another process does


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def push_to_a_client(base_url: str) -> None:
    """By the way that discovery names."""
    url = httpx.get(f"{base_url}/api/b-client/websocket-info", trust_env=False, timeout=LIMIT).json()["websocket_url"]
    with connect(url, proxy=None, open_timeout=LIMIT) as client:
        client.send(json.dumps({"type": "c_client_register", "client_id": "c1", "user_id": "ann"}))
        assert json.loads(client.recv(LIMIT))["type"] == "registration_success"
        push = {"target": {"user_id": "ann"}, "type": "hello", "data": {"n": 1}, "durable": True}
        answer = httpx.post(f"{base_url}/api/notifications", json=push, trust_env=False, timeout=LIMIT)
        assert answer.status_code == 202, answer.text
        assert json.loads(client.recv(LIMIT))["n"] == 1


def test_run_integrated_is_one_process_on_one_port(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = {"PORT": port, "HOST": "127.0.0.1", "ENVIRONMENT": "development", "WORKER_PORT": "off"}
    with making("run-integrated", tmp_path, **settings) as said:
        eventually(lambda: "Ctrl-C stops it" in said(), said)
        assert f"HTTP and WebSocket   http://127.0.0.1:{port}" in said()
        push_to_a_client(f"http://127.0.0.1:{port}")
    assert not is_open(port)


def test_run_split_is_three_nodes_and_a_redis_and_all_of_it_ends(tmp_path: Path) -> None:
    port = next(
        port for port in iter(lambda: free_ports(1)[0], None) if not (is_open(port + 100) or is_open(port + 101))
    )
    with making("run-split", tmp_path, PORT=port) as said:
        eventually(lambda: "Ctrl-C stops all of it" in said(), said)
        for shown in (f"http://localhost:{port} ", f"ws://localhost:{port + 100}, ws://localhost:{port + 101}"):
            assert shown in said()
        push_to_a_client(f"http://127.0.0.1:{port}")
        redis = Path(re.findall(r"Redis +unix://(\S+)", said())[0])
        assert redis.is_socket()
        pids = started(said())
        assert len(pids) == 3
        assert "Redis may lose" not in said(), "it keeps an append-only file while it is there"
    assert not any(is_open(each) for each in (port, port + 100, port + 101))
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not redis.parent.exists()


def test_what_keeps_run_split_from_starting_ends_it_with_2(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "split")],
        cwd=tmp_path,
        env=clean_environment(PORT="65500"),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "PORT is 65500" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"PORT": "65500"}, "PORT is 65500"), ({"PORT": "http"}, "PORT is http"), ({"PATH": "/bin-of-nobody"}, "redis")],
)
def test_what_keeps_run_split_from_starting_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: dict[str, str], told: str
) -> None:
    for name in ("PORT", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    split = runpy.run_path(str(ROOT / ".ci" / "split"))
    assert split["main"]() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_port_that_is_taken_keeps_run_split_from_starting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    split = runpy.run_path(str(ROOT / ".ci" / "split"))
    with socket.socket() as taken:
        port = next(port for port in iter(lambda: free_ports(1)[0], None) if port <= 65535 - 101)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        monkeypatch.setenv("PORT", str(port))
        assert split["main"]() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Port {port} can't be listened on (Address already in use)")
    assert "PORT=9000 make run-split" in line


def test_help_tells_of_both() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=True).stdout
    for target in ("run-integrated", "run-split", "demo-migrate"):
        assert re.search(rf"^{target} +\w", told, re.MULTILINE)
