"""A gateway that speaks TLS by itself: with the settings under both servers, and with Hypercorn's own certificate."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import httpx
import psutil
import pytest
import trio
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.sync.client import ClientConnection, connect

from portico.client.link import LinkOptions
from portico.client.requester import Requester
from portico.client.worker import Worker
from tests.certificates import Certificate, make_certificate
from tests.gateways import ROOT, SERVERS, Running, clean_environment, command, free_ports, gateway
from tests.transports.raw import TEXT, close_frame, frame

pytestmark = pytest.mark.live

KEY = "a-key-of-sixteen-characters-or-more"
REGISTER = json.dumps({"type": "c_client_register", "client_id": "c1", "user_id": "u1"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@contextmanager
def open_client(running: Running, made: Certificate, number: int = 0) -> Iterator[ClientConnection]:
    with connect(running.websocket_url, ssl=made.trusted(), open_timeout=30, proxy=None) as client:
        client.send(json.dumps({"type": "c_client_register", "client_id": f"c{number}"}))
        assert json.loads(client.recv(30))["type"] == "registration_success"
        yield client


@pytest.mark.parametrize("server", SERVERS)
def test_https_and_wss_on_one_port_and_nothing_beside_it(tmp_path: Path, made: Certificate, server: str) -> None:
    with gateway(tmp_path, server=server, certificate=made) as running:
        port = urlsplit(running.base_url).port
        with httpx.Client(base_url=running.base_url, verify=made.trusted(), trust_env=False) as http:
            found = http.get("/api/b-client/websocket-info").json()
            assert found["websocket_url"] == f"wss://127.0.0.1:{port}/api/websocket"
            assert (found["websocket_port"], found["http_port"]) == (port, port)
            with connect(found["websocket_url"], ssl=made.trusted(), proxy=None) as client:
                client.send(REGISTER)
                assert json.loads(client.recv(30))["type"] == "registration_success"
        # Whoever speaks no TLS gets no answer in plain text.
        with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: gw\r\n\r\n")
            assert b"HTTP/" not in read_all(plain)
        assert listening_ports(running) == {port}


@pytest.mark.parametrize("server", SERVERS)
def test_ports_of_their_own_a_redirect_and_workers_with_certificates(
    tmp_path: Path, made: Certificate, server: str
) -> None:
    robot, stranger = (make_certificate(tmp_path, name, called=name) for name in ("robot", "stranger"))
    used = Certificate(tmp_path / "used.pem", tmp_path / "used.key")
    swap(used, made)
    http, websocket, worker, redirect = free_ports(4)
    settings = {
        "ENVIRONMENT": "production",
        "PORTICO_API_KEYS": KEY,
        "WEBSOCKET_PORT": websocket,
        "WORKER_PORT": worker,
        "PORTICO_REDIRECT_PORT": redirect,
        "PORTICO_TLS_CLIENT_CA": robot.file,
    }
    with gateway(tmp_path, server=server, certificate=used, port=http, settings=settings) as running:
        with httpx.Client(base_url=running.base_url, verify=made.trusted(), trust_env=False) as https:
            found = https.get("/api/b-client/websocket-info").json()
            assert found["websocket_url"] == f"wss://127.0.0.1:{websocket}"
            # By arithmetic, too: a client that knows the port builds the same address.
            assert found["websocket_port"] == websocket
        with connect(found["websocket_url"], ssl=made.trusted(), proxy=None) as client:
            client.send(REGISTER)
            assert json.loads(client.recv(30))["type"] == "registration_success"

            # In plain HTTP there is only the way to https.
            with httpx.Client(base_url=f"http://127.0.0.1:{redirect}", trust_env=False) as plain:
                for method, path in (
                    ("GET", "/api/health?a=b%20c"),
                    ("POST", "/api/notifications"),
                    ("GET", "/ws/a%20b"),
                ):
                    answer = plain.request(method, path, headers={"authorization": f"Bearer {KEY}"})
                    assert (answer.status_code, answer.headers["location"]) == (308, f"https://127.0.0.1:{http}{path}")
                upgrade = plain.get("/ws", headers={"connection": "upgrade", "upgrade": "websocket"})
                assert (upgrade.status_code, upgrade.headers["location"]) == (308, f"https://127.0.0.1:{http}/ws")
                assert plain.get("/", headers={"host": "a b"}).status_code == 400

            # A worker by its certificate, under the name in it; nobody else's name, and no other authority's.
            where = f"wss://127.0.0.1:{worker}"
            with connect(where, ssl=showing(made, robot), proxy=None) as machine:
                assert json.loads(machine.recv(30))["type"] == "connect"
                machine.send(json.dumps({"type": "connect", "data": {"role": "worker", "client_id": "robot/7"}}))
                assert json.loads(machine.recv(30))["data"]["client_id"] == "robot/7"
                machine.send(json.dumps({"type": "connect", "data": {"role": "worker", "client_id": "other"}}))
                assert code_of(machine) == 4003
            with (
                pytest.raises((ssl.SSLError, ConnectionClosed, OSError, InvalidMessage)),
                connect(where, ssl=showing(made, stranger), proxy=None) as nobody,
            ):
                nobody.recv(30)
            with connect(where, ssl=made.trusted(), proxy=None) as none:
                none.send(json.dumps({"type": "connect", "data": {"role": "worker"}}))
                assert code_of(none) == 4001

            # A new certificate, by a signal and by itself; one that can't be used changes nothing.
            new = make_certificate(tmp_path, "new")
            swap(used, new)
            wait_for(running, "the certificate was read again", 1)
            with httpx.Client(base_url=running.base_url, verify=new.trusted(), trust_env=False) as https:
                assert https.get("/livez").status_code == 200
            used.file.write_text("nothing\n")
            wait_for(running, "the one before stays in force", 1)
            hang_up(running)
            wait_for(running, "the one before stays in force", 2)
            with httpx.Client(base_url=running.base_url, verify=new.trusted(), trust_env=False) as https:
                assert https.get("/livez").status_code == 200
            client.send(REGISTER)
            assert json.loads(client.recv(30))["type"] == "registration_success"


def swap(used: Certificate, new: Certificate) -> None:
    """As certificate clients do it: each file is replaced by a rename, the key first."""
    for place, source in ((used.key, new.key), (used.file, new.file)):
        beside = place.with_suffix(".new")
        beside.write_bytes(source.read_bytes())
        beside.rename(place)


def code_of(client: ClientConnection) -> int | None:
    """Read on to the Close."""
    try:
        while True:
            client.recv(30)
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code


def showing(made: Certificate, own: Certificate) -> ssl.SSLContext:
    """A client's TLS, with a certificate of its own."""
    context = made.trusted()
    context.load_cert_chain(own.file, own.key)
    return context


def hang_up(running: Running) -> None:
    """SIGHUP to the process that serves; Hypercorn's master passes it on by starting workers anew, so not to that."""
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
    for pid in children or [str(running.process.pid)]:
        if b"multiprocessing.resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(int(pid), signal.SIGHUP)


def wait_for(running: Running, text: str, times: int) -> None:
    """Until the log has the text so many times."""
    give_up = time.monotonic() + 30
    while running.said().count(text) < times:
        assert time.monotonic() < give_up, running.said()
        time.sleep(0.05)


def read_all(sock: socket.socket) -> bytes:
    received = b""
    try:
        while data := sock.recv(4096):
            received += data
    except ConnectionResetError:
        pass
    return received


def listening_ports(running: Running) -> set[int]:
    """The TCP ports that the processes of a gateway listen on."""
    group = os.getpgid(running.process.pid)
    ports = set[int]()
    for process in psutil.process_iter():
        # Another's, or gone meanwhile; what the process itself closes meanwhile is passed over there.
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group:
                found = process.net_connections(kind="tcp")
                ports |= {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}
    return ports


@pytest.mark.parametrize("server", SERVERS)
def test_a_drain_tells_everybody(tmp_path: Path, made: Certificate, server: str) -> None:
    redirect = free_ports(1)[0]
    settings = {"PORTICO_REDIRECT_PORT": redirect}
    with gateway(tmp_path, server=server, certificate=made, settings=settings) as running, ExitStack() as stack:
        # The only port of the reactor's own beside PORT.
        assert httpx.get(f"http://127.0.0.1:{redirect}/x", trust_env=False).status_code == 308
        clients = [stack.enter_context(open_client(running, made, number)) for number in range(20)]
        # Hypercorn's master ends with 0 whatever happens; portico serve would say so.
        running.process.terminate()
        for client in clients:
            assert json.loads(client.recv(30))["type"] == "server_draining"
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(30)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "retry_within_ms=300")
        assert running.process.wait(30) == 0


async def test_a_websocket_over_http_2(tmp_path: Path, made: Certificate) -> None:
    with gateway(tmp_path, certificate=made) as running, trio.fail_after(60):
        plain = await trio.open_tcp_stream("127.0.0.1", urlsplit(running.base_url).port or 0)
        async with trio.SSLStream(
            plain, made.trusted("h2", "http/1.1"), server_hostname="127.0.0.1", https_compatible=True
        ) as stream:
            await stream.do_handshake()
            assert stream.selected_alpn_protocol() == "h2"
            connection = h2.connection.H2Connection(h2.config.H2Configuration())
            connection.initiate_connection()
            connection.send_headers(
                1,
                [
                    (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                    (":path", "/ws"), (":authority", "localhost"), ("sec-websocket-version", "13"),
                ],
            )  # fmt: skip
            await stream.send_all(connection.data_to_send())
            received = b""
            while b"bye" not in received:
                for event in connection.receive_data(bytes(await stream.receive_some())):
                    if isinstance(event, h2.events.ResponseReceived):
                        assert dict(event.headers)[b":status"] == b"200"
                        connection.send_data(1, frame(TEXT, REGISTER.encode()) + close_frame(1000, b"bye"))
                    elif isinstance(event, h2.events.DataReceived):
                        received += event.data
                await stream.send_all(connection.data_to_send())
    assert b"registration_success" in received


async def test_the_sdk_and_the_command_line(tmp_path: Path, made: Certificate) -> None:
    with gateway(tmp_path, certificate=made) as running, trio.fail_after(60):
        where = ["--base-url", running.base_url]
        trusting = [*where, "--ca-file", str(made.file)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_portico, tmp_path, "worker", *trusting)
            requester = Requester(base_url=running.base_url, options=LinkOptions(ssl_context=made.trusted()))
            async with requester:
                while (await requester.ask("get_time")).error == "No available workers":  # noqa: ASYNC110
                    await trio.sleep(0.05)  # another process has no event for us
            asked = await run_portico(tmp_path, "request", "echo", '{"message": "hi"}', *trusting)
            assert (asked.returncode, json.loads(asked.stdout)["data"]) == (0, "Echo: hi")
            await _affinity_holds(running, made)
            nursery.cancel_scope.cancel()
        stranger = await run_portico(tmp_path, "request", "get_time", *where, "--attempts", "1")
        assert stranger.returncode == 3
        assert b"certificate" in stranger.stderr.lower()


@pytest.mark.parametrize("secure", [True, False], ids=["http to TLS", "https to none"])
async def test_the_wrong_scheme_is_told_by_every_command(tmp_path: Path, made: Certificate, secure: bool) -> None:
    said = {True: b"TLS is spoken there; give the address with https://", False: b"no TLS is spoken there; give the"}
    with gateway(tmp_path, certificate=made if secure else None) as running, trio.fail_after(120):
        old, new = ("s://", "://") if secure else ("://", "s://")
        base_url, url = running.base_url.replace(old, new), running.websocket_url.replace(old, new)
        commands = [("clients",), ("workers",), ("status",), ("tail",), ("kick", "c1"), ("broadcast", "hi")]
        commands += [("push", "user:ann", "news"), ("logins", "ann"), ("connect",), ("listen",)]
        commands.append(("request", "echo", "--attempts", "1"))
        for name, *more in commands:
            ended = await run_portico(tmp_path, name, *more, "--base-url", base_url)
            assert ended.returncode == 3, (name, ended.stderr)
            assert said[secure] in ended.stderr, (name, ended.stderr)
            assert b"Is a gateway running there" not in ended.stderr, name
        ended = await run_portico(tmp_path, *commands[-1], "--url", url)
        assert ended.returncode == 3, ended.stderr
        assert (b"where TLS is spoken, wss:// is right" if secure else said[False]) in ended.stderr, ended.stderr


async def _affinity_holds(running: Running, made: Certificate) -> None:
    """The same key goes to the same worker, whichever TLS connection it comes by, a WebSocket or a kept-alive one."""
    options = LinkOptions(ssl_context=made.trusted())
    keys = [f"key-{number}" for number in range(6)]
    begun = 0
    all_begun = trio.Event()

    async def who(_: object) -> str:
        nonlocal begun
        begun += 1
        if begun == len(keys):
            all_begun.set()
        await all_begun.wait()
        return "me"

    first: dict[str, str | None] = {}
    async with trio.open_nursery() as nursery, Requester(base_url=running.base_url, options=options) as requester:
        for _ in range(2):
            nursery.start_soon(Worker(base_url=running.base_url, commands={"who": who}, options=options).run)
        trusting = httpx.AsyncClient(base_url=running.base_url, verify=made.trusted(), trust_env=False)
        async with trusting as http:
            while (await http.get("/api/workers")).text.count('"who"') < 2:  # noqa: ASYNC110 - another process
                await trio.sleep(0.05)

            async def ask(key: str) -> None:
                first[key] = (await requester.ask("who", affinity=key)).processed_by

            # All at once, so that both workers get some.
            async with trio.open_nursery() as asking:
                for key in keys:
                    asking.start_soon(ask, key)
            assert len(set(first.values())) == 2
            for _ in range(2):
                for key in keys:
                    assert (await requester.ask("who", affinity=key)).processed_by == first[key]
                    answer = await http.post("/api/requests", json={"command": "who", "affinity": key})
                    assert answer.json()["processed_by"] == first[key]
        nursery.cancel_scope.cancel()


async def run_portico(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return await trio.run_process(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("no certificate\n")
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli", "request", "get_time", "--ca-file", str(nothing)],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "holds no certificates in PEM form" in ended.stderr


def test_existing_clients_connect(tmp_path: Path, made: Certificate) -> None:
    with gateway(tmp_path, certificate=made) as running:
        # How programs that know nothing of Portico are told whom to trust.
        variables = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
        trust = {variable: str(made.file) for variable in variables}
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "compat",
                "--base-url",
                running.base_url,
                "--only",
                "register,kick",
            ],
            cwd=ROOT,
            env={**clean_environment(), **trust},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "failed" not in ran.stdout.splitlines()[-1].replace("0 failed", "")


def run_briefly(folder: Path, arguments: list[str], **settings: object) -> "subprocess.CompletedProcess[str]":
    """A start that is expected to fail."""
    return subprocess.run(
        arguments,
        cwd=folder,
        env=clean_environment(HOST="127.0.0.1", **settings),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("server", SERVERS)
def test_files_that_cannot_be_used_are_said_in_a_sentence(tmp_path: Path, made: Certificate, server: str) -> None:
    arguments = list(command(server, "127.0.0.1", free_ports(1)[0]))
    ended = run_briefly(tmp_path, arguments, PORTICO_TLS_CERT=made.file, PORTICO_TLS_KEY="missing.key")
    assert ended.returncode == (2 if server == "portico serve" else 0)
    assert "PORTICO_TLS_KEY is 'missing.key', which cannot be read" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("ours", "settings", "sentence"),
    [
        (True, {}, "leave one of them out"),
        (False, {"WORKER_PORT": "9001"}, "WORKER_PORT=9001 would be a port without TLS"),
    ],
)
def test_what_contradicts_hypercorns_own_certificate(
    tmp_path: Path, made: Certificate, ours: bool, settings: dict[str, object], sentence: str
) -> None:
    arguments = [*command("hypercorn", "127.0.0.1", free_ports(1)[0]), "--certfile", str(made.file)]
    ended = run_briefly(
        tmp_path, [*arguments, "--keyfile", str(made.key)], **settings, **(made.settings if ours else {})
    )
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
