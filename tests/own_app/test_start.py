"""Own apps in whole gateways: a start that fails, and every way in: both servers, TLS, HTTP/2, Flask."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.app import Node
from service.settings import Settings
from tests.certificates import make_certificate
from tests.gateways import clean_environment, command, free_ports, gateway

pytestmark = pytest.mark.live

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(
    ("server", "app"), [("portico serve", "app"), ("portico serve", "never"), ("hypercorn", "app")]
)
def test_a_start_that_fails_is_a_sentence(tmp_path: Path, server: str, app: str) -> None:
    """Also where the app's task goes on whatever happens."""
    port = free_ports(1)[0]
    own = {"PORTICO_APP": f"tests.own_app.broken_start:{app}", "WEBSOCKET_PORT": "same", "WORKER_PORT": "off"}
    ended = subprocess.run(
        command(server, "127.0.0.1", port),
        cwd=tmp_path,
        env=clean_environment(HOST="127.0.0.1", PORT=port, ENVIRONMENT="development", **own),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # Hypercorn's master ends with 0 whatever its worker ended with.
    assert ended.returncode == (2 if server == "portico serve" else 0)
    name = f"PORTICO_APP=tests.own_app.broken_start:{app}"
    raised = "there is no database." if app == "never" else "OSError: there is no database (line"
    assert ended.stderr.startswith(f"portico: {name} could not start: {raised}")
    assert ended.stderr.count("\n") == 1


def test_over_tls_and_http_2(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    settings = {"PORTICO_APP": "tests.own_app.hostile:app"}
    with gateway(tmp_path, certificate=certificate, settings=settings) as running:
        trusted = certificate.trusted()
        for http2 in (True, False):
            with httpx.Client(
                base_url=running.base_url, verify=trusted, http2=http2, http1=not http2, trust_env=False, timeout=60
            ) as caller:
                assert caller.get("/whose").text.startswith("127.0.0.1 https 127.0.0.1:")
                assert caller.get("/raises").status_code == 500
                answer = caller.get("/hello")
                assert (answer.text, answer.http_version) == ("GET /hello", "HTTP/2" if http2 else "HTTP/1.1")
        # Not by a client with a thread that reads: CPython's older TLS may not be read and written at once.
        parts = urlsplit(running.base_url)
        plain = socket.create_connection((parts.hostname, parts.port), timeout=60)
        with trusted.wrap_socket(plain, server_hostname=parts.hostname) as client:
            client.sendall(UPGRADE)
            assert b" 101 " in client.recv(4096)
            client.sendall(b"\x81\x85\0\0\0\0hello")
            assert client.recv(4096) == b"\x81\x05HELLO"


def test_under_hypercorn(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import flask\napp = flask.Flask(__name__)\napp.get('/hello')(lambda: flask.request.remote_addr)\n"
        "app.get('/api/health', endpoint='health')(lambda: 'mine')\n"
    )
    with gateway(tmp_path, server="hypercorn", mode="integrated", settings={"PORTICO_APP": "shop:app"}) as running:
        assert httpx.get(f"{running.base_url}/hello", trust_env=False, timeout=60).text == "127.0.0.1"
        assert "The route /api/health of PORTICO_APP=shop:app is never reached" in running.said()


def test_a_second_signal_ends_it_at_once_whatever_the_app_does(tmp_path: Path) -> None:
    settings = {"PORTICO_APP": "tests.own_app.hostile:app", "PORTICO_DRAIN_SECONDS": 60}
    with gateway(tmp_path, mode="integrated", settings=settings, exit_code=1) as running:
        parts = urlsplit(running.base_url)
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as sock:
            sock.sendall(b"GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n")
            _until(lambda: "portico_app_requests 1.0" in httpx.get(f"{running.base_url}/metrics", timeout=60).text)
            running.process.send_signal(signal.SIGTERM)
            _until(lambda: "draining" in running.said())
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(60) == 1


def _until(happens: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_a_process_that_takes_websockets_only_runs_no_app() -> None:
    role = {"SERVICE_ROLE": "websocket", "REDIS_URL": "redis://localhost:1"}
    settings = Settings.load({"PORTICO_APP": "no_such_module_at_all:app", **role})
    assert Node(settings).own_app is None
    assert any("PORTICO_APP is ignored" in warning for warning in settings.warnings())
