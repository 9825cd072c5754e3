"""The how-to for nginx: its configuration as it stands, in a real nginx on loopback, with a gateway behind it."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.certificates import one_at_a_time
from tests.gateways import ROOT, gateway
from tests.gateways import free_ports as ports_that_are_free

GUIDE = ROOT / "docs" / "how-to" / "behind-nginx.md"
NGINX = shutil.which("nginx")
OPENSSL = shutil.which("openssl")
LIMIT = 60.0

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: apt-get install nginx-light)"),
    pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed, and makes the certificate"),
]


def shown(language: str) -> list[str]:
    """The guide's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def settings() -> dict[str, str]:
    """The gateway's, but for the ports and addresses, which the test chooses."""
    lines = dict(line.split("=", 1) for line in shown("sh")[0].splitlines())
    assert lines.pop("HOST") == "127.0.0.1"
    assert lines.pop("PORT") == "8000"
    return lines


def configuration(upstreams: Mapping[str, int], listen: int, folder: Path, *, restart: bool) -> str:
    """The guide's, for these ports."""
    whole, _, _, upstream, retry = shown("nginx")
    if restart:
        whole = re.sub(r"^upstream.*?^}\n", lambda _: upstream, whole, flags=re.DOTALL | re.MULTILINE)
        whole = whole.replace("        proxy_pass", f"{retry}        proxy_pass")
    for port, real in upstreams.items():
        whole, count = re.subn(rf"127\.0\.0\.1:{port}\b", f"127.0.0.1:{real}", whole)
        assert count == 1
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{listen} ssl"),
        ("/etc/ssl/gw.example.com", f"{folder}/gw.example.com"),
    ):
        assert old in whole
        whole = whole.replace(old, new)
    return whole


@contextmanager
def nginx(site: str, folder: Path) -> Iterator[None]:
    """A whole nginx in `folder`, while the block runs."""
    assert NGINX is not None
    assert OPENSSL is not None
    name = str(folder / "gw.example.com")
    make = [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=gw.example.com", "-days", "2"]
    make += ["-addext", "subjectAltName=DNS:gw.example.com,IP:127.0.0.1"]
    subprocess.run([*make, "-keyout", f"{name}.key", "-out", f"{name}.pem"], check=True, capture_output=True)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # Its worker processes would otherwise be somebody else, who may not write here.
    user = "user root;\n" if os.geteuid() == 0 else ""
    main = folder / "nginx.conf"
    main.write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
        f"events {{ worker_connections 256; }}\nhttp {{\naccess_log off;\n{temporary}{site}}}\n"
    )
    process = subprocess.Popen([NGINX, "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(main)])
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT)


@contextmanager
def http_once_up(base_url: str) -> Iterator[httpx.Client]:
    """A client of an nginx that has just been started."""
    with httpx.Client(base_url=base_url, verify=False, trust_env=False, timeout=LIMIT) as http:
        give_up = time.monotonic() + LIMIT
        while not is_up(http):
            assert time.monotonic() < give_up, "nginx did not come up"
            time.sleep(0.05)
        yield http


def is_up(http: httpx.Client) -> bool:
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def trusting() -> ssl.SSLContext:
    context = one_at_a_time(ssl.create_default_context())
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize("server", ["portico serve", "hypercorn"])
def test_everything_goes_through_nginx(tmp_path: Path, server: str) -> None:
    given = settings()
    key = {"authorization": f"Bearer {given['PORTICO_API_KEYS']}"}
    with ExitStack() as stack:
        running = stack.enter_context(gateway(tmp_path, server=server, mode="integrated", settings=given))
        upstream = int(running.base_url.rpartition(":")[2])
        (listen,) = ports_that_are_free(1)
        stack.enter_context(nginx(configuration({"8000": upstream}, listen, tmp_path, restart=False), tmp_path))
        http = stack.enter_context(http_once_up(f"https://127.0.0.1:{listen}"))

        info = http.get("/api/b-client/websocket-info").json()
        assert info["websocket_url"] == f"wss://127.0.0.1:{listen}/api/websocket"
        named = http.get("/api/b-client/websocket-info", headers={"host": "gw.example.com"}).json()
        # The port that the client typed is none, but nginx knows on which one it listens.
        assert named["websocket_url"] == f"wss://gw.example.com:{listen}/api/websocket"

        websocket = stack.enter_context(connect(info["websocket_url"], ssl=trusting(), proxy=None))
        websocket.send(json.dumps({"type": "c_client_register", "client_id": "c1", "user_id": "u1"}))
        assert json.loads(websocket.recv(LIMIT))["type"] == "registration_success"
        push = {"target": {"user_id": "u1"}, "type": "hello", "data": {"n": 1}}
        assert http.post("/api/notifications", json=push).status_code == 401
        receipt = http.post("/api/notifications", json=push, headers=key)
        assert (receipt.status_code, receipt.json()["queued"]) == (202, 1)
        assert json.loads(websocket.recv(LIMIT)) == {"type": "hello", "n": 1}
        client = http.get("/api/clients", headers=key).json()["clients"][0]
        assert client["transport"] == "native"

        # A page of the gateway's own host gets in, another one doesn't, in production.
        with connect(info["websocket_url"], ssl=trusting(), proxy=None, origin=Origin(f"https://127.0.0.1:{listen}")):
            pass
        # No other upgrade is passed on, which would be a tunnel past nginx.
        assert "101" not in asking_for_h2c(listen)
        handshake = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        handshake |= {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "origin": "https://elsewhere.example"}
        assert http.get("/", headers=handshake).status_code == 403

        large = [{"target": {"user_id": "nobody"}, "type": "t", "data": {"text": "x" * 4096}}] * 1000
        assert http.post("/api/notifications", json=large, headers=key).status_code == 202


def asking_for_h2c(port: int) -> str:
    """The first line of nginx's answer to who asks for HTTP/2 in cleartext on a path that is the app's."""
    with trusting().wrap_socket(socket.create_connection(("127.0.0.1", port), LIMIT)) as raw:
        raw.sendall(
            b"GET /nothing HTTP/1.1\r\nHost: gw\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        )
        return raw.recv(4096).decode().partition("\r\n")[0]


def test_a_proxy_that_passes_every_upgrade_on_gets_no_tunnel(tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(gateway(tmp_path, mode="integrated", settings=settings()))
        (listen,) = ports_that_are_free(1)
        upstream = int(running.base_url.rpartition(":")[2])
        whole = configuration({"8000": upstream}, listen, tmp_path, restart=False)
        careless = whole.replace("Upgrade $portico_upgrade", "Upgrade $http_upgrade")
        careless = careless.replace("Connection $portico_connection", "Connection Upgrade")
        assert careless.count("$portico_") == whole.count("$portico_") - 2
        stack.enter_context(nginx(careless, tmp_path))
        stack.enter_context(http_once_up(f"https://127.0.0.1:{listen}"))
        assert asking_for_h2c(listen) == "HTTP/1.1 404 "


def below_a_path(whole: str, listen: int, inner: int) -> str:
    """The guide's configuration twice: the outer nginx has the gateway below /gw/, behind an inner one."""
    _, prefix, chain, _, _ = shown("nginx")
    body = re.findall(r"location / \{\n(.*?)^    \}", whole, re.DOTALL | re.MULTILINE)[0]
    rest = body.replace("        proxy_pass http://portico;\n", "")
    names = re.findall(r"proxy_set_header (\S+)", chain)
    kept = "".join(line for line in rest.splitlines(keepends=True) if not any(f" {name} " in line for name in names))
    outer = f"{prefix}{rest}    }}\n".replace("http://portico/", f"http://127.0.0.1:{inner}/")
    second = (
        f"server {{\n listen 127.0.0.1:{inner};\n location / {{\n proxy_pass http://portico;\n{chain}{kept} }}\n}}\n"
    )
    assert whole.count("    location / {") == 1
    return whole.replace("    location / {", outer + "    location / {") + second


def test_below_a_path_behind_two_proxies_in_a_row(tmp_path: Path) -> None:
    with ExitStack() as stack:
        running = stack.enter_context(gateway(tmp_path, mode="integrated", settings=settings()))
        upstream = int(running.base_url.rpartition(":")[2])
        listen, inner = ports_that_are_free(2)
        whole = configuration({"8000": upstream}, listen, tmp_path, restart=False)
        stack.enter_context(nginx(below_a_path(whole, listen, inner), tmp_path))
        http = stack.enter_context(http_once_up(f"https://127.0.0.1:{listen}"))
        made_up = {"x-forwarded-proto": "http", "x-forwarded-host": "evil.example", "x-forwarded-prefix": "/evil"}
        for headers in ({}, made_up):
            info = http.get("/gw/api/b-client/websocket-info", headers=headers).json()
            assert info["websocket_url"] == f"wss://127.0.0.1:{listen}/gw/api/websocket"
        websocket = stack.enter_context(connect(info["websocket_url"], ssl=trusting(), proxy=None))
        websocket.send(json.dumps({"type": "c_client_register", "client_id": "c1", "user_id": "u1"}))
        assert json.loads(websocket.recv(LIMIT))["type"] == "registration_success"
        # A page of the host that was asked for gets in, in production, whatever the inner proxy was asked for.
        with connect(info["websocket_url"], ssl=trusting(), proxy=None, origin=Origin(f"https://127.0.0.1:{listen}")):
            pass


def test_who_comes_while_the_first_drains_gets_the_second(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second", tmp_path / "nginx"]
    for folder in folders:
        folder.mkdir()
    with ExitStack() as stack:
        slow = {**settings(), "PORTICO_NAME": "first", "PORTICO_DRAIN_SECONDS": "20"}
        quick = {**settings(), "PORTICO_NAME": "second", "PORTICO_DRAIN_SECONDS": "0"}
        first = stack.enter_context(gateway(folders[0], mode="integrated", settings=slow, exit_code=None))
        second = stack.enter_context(gateway(folders[1], mode="integrated", settings=quick))
        upstreams = {
            port: int(running.base_url.rpartition(":")[2]) for port, running in (("8000", first), ("8001", second))
        }
        (listen,) = ports_that_are_free(1)
        stack.enter_context(nginx(configuration(upstreams, listen, folders[2], restart=True), folders[2]))
        http = stack.enter_context(http_once_up(f"https://127.0.0.1:{listen}"))

        def node_that_takes_one() -> str:
            url = f"wss://127.0.0.1:{listen}/api/websocket"
            with connect(url, ssl=trusting(), proxy=None) as websocket:
                websocket.send(json.dumps({"type": "c_client_register", "user_id": "u1"}))
                return str(json.loads(websocket.recv(LIMIT))["node"])

        assert node_that_takes_one() == "first"
        # One that stays keeps the drain from ending at once.
        stays = stack.enter_context(connect(first.websocket_url, proxy=None))
        stays.send(json.dumps({"type": "c_client_register", "user_id": "u2"}))
        assert json.loads(stays.recv(LIMIT))["type"] == "registration_success"
        first.process.send_signal(signal.SIGTERM)
        assert json.loads(stays.recv(LIMIT))["type"] == "server_draining"
        assert node_that_takes_one() == "second"
        if first.process.poll() is None:
            assert http.get("/api/health").status_code == 200
        first.process.kill()
        first.process.wait()
        assert node_that_takes_one() == "second"
