import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import _preflight
from loadtest._preflight import (
    Door,
    source_addresses,
    wrong_with_doors,
    wrong_with_host,
    wrong_with_key,
    wrong_with_room,
)
from loadtest._reactor import Reactor
from service.core.api_keys import ApiKey, digest_of
from tests.certificates import make_certificate
from tests.gateways import Running, gateway
from tests.loadtest.locust_run import free_port
from tests.tokens import signing


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor(lambda seconds: None)
    yield made
    made.close()


def limited(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, ports: int = 20_000) -> list[tuple[int, int]]:
    """A machine with these limits; what they were set to."""
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    monkeypatch.setattr(_preflight, "usable_ports", lambda: ports)
    return set_to


def test_too_few_descriptors_name_the_number_that_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 1024, 4096)
    sentence = wrong_with_room("http://10.0.0.1", 5000, 1, machines=False)
    assert sentence == (
        "5000 users in 1 process need 5384 file descriptors each, and 4096 are allowed: raise the limit "
        "(ulimit -Hn 5384), or share them among --processes 2, or ask for at most 3712 users."
    )
    assert wrong_with_room("http://10.0.0.1", 5000, 2, machines=False) is None


def test_a_limit_that_may_be_raised_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to = limited(monkeypatch, 1024, 100_000)
    assert wrong_with_room("http://10.0.0.1", 5000, 1, machines=False) is None
    assert set_to == [(5384, 100_000)]


def test_too_few_ports_name_the_number_that_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 10**6, 10**6)
    sentence = wrong_with_room("http://10.0.0.1", 20_001, 1, machines=False)
    assert sentence is not None
    assert "this machine has 20000 for one gateway" in sentence
    assert "ask for at most 20000 users" in sentence
    assert wrong_with_room("http://10.0.0.1", 20_001, 2, machines=True) is None


def test_on_loopback_more_addresses_have_more_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 10**7, 10**7)
    assert wrong_with_room("http://localhost:8000", 50_000, 1, machines=False) is None
    assert source_addresses("http://localhost:8000", 20_000) == 1
    assert source_addresses("http://127.0.0.1", 50_000) == 3
    assert source_addresses("http://10.0.0.1", 50_000) == 1
    assert wrong_with_room("http://localhost", 5_000_000, 1, machines=False) is not None


def test_a_certificate_that_is_not_trusted_is_a_sentence_of_its_own(reactor: Reactor, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            try:
                context.wrap_socket(sock, server_side=True).close()
            except OSError:
                sock.close()

        thread = threading.Thread(target=serve)
        thread.start()
        host = f"https://127.0.0.1:{listener.getsockname()[1]}"
        sentence = wrong_with_host(reactor, host, 30)
        thread.join(30)
    assert sentence is not None
    assert sentence.startswith(f"The certificate at {host} is not trusted (")
    assert "SSL_CERT_FILE" in sentence


def test_https_where_no_tls_is_spoken(reactor: Reactor, locked: Running) -> None:
    host = locked.base_url.replace("http:", "https:")
    sentence = wrong_with_host(reactor, host, 60)
    assert sentence is not None
    assert sentence.startswith(f"The address {host} fails (no answer: ")
    assert sentence.endswith("): it is http:// there.")


def test_http_where_tls_is_spoken(reactor: Reactor, tmp_path: Path) -> None:
    with gateway(tmp_path, certificate=make_certificate(tmp_path)) as running:
        host = running.base_url.replace("https:", "http:")
        sentence = wrong_with_host(reactor, host, 60)
    assert sentence is not None
    assert sentence.startswith(f"The address {host} fails (no answer: ")
    assert sentence.endswith("): it is https:// there.")


KEY = "an-api-key-of-this-test-0123456789"
READING_KEY = "another-key-of-this-test-0123456789"
HANDSHAKE_KEY = "handshake-key-0123456789"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway that asks everybody for something."""
    settings = {
        "PORTICO_API_KEYS": f"{KEY},{ApiKey('reader', frozenset({'clients:read'}), digest_of(READING_KEY)).line}",
        "PORTICO_AUTH": "required",
        "PORTICO_JWT_SECRET": signing.SECRET,
    }
    with gateway(tmp_path_factory.mktemp("locked"), settings=settings) as running:
        yield running


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("wrong-key", "the key of --api-key is refused (it answered 401)"),
        (READING_KEY, "the key of --api-key is refused (it answered 403)"),
        (None, "--api-key is missing (it answered 401)"),
    ],
)
def test_a_key_that_does_not_push_is_told_before_the_start(
    reactor: Reactor, locked: Running, key: str | None, named: str
) -> None:
    sentence = wrong_with_key(reactor, locked.base_url, key, 60)
    assert sentence is not None
    assert sentence.startswith(
        f"The gateway at {locked.base_url} lets this test push nothing, since {named}: give one "
    )
    assert key is None or key not in sentence


def test_a_key_that_pushes_is_tried_without_a_push(reactor: Reactor, locked: Running) -> None:
    assert wrong_with_key(reactor, locked.base_url, KEY, 60) is None


@pytest.mark.parametrize("scheme", ["websocket_url", "worker_url"])
def test_a_port_for_web_sockets_is_the_wrong_one(reactor: Reactor, locked: Running, scheme: str) -> None:
    host = getattr(locked, scheme).replace("ws:", "http:")
    assert wrong_with_host(reactor, host, 60) is None, "discovery is answered there too"
    sentence = wrong_with_key(reactor, host, KEY, 60)
    assert sentence is not None
    assert sentence.startswith(
        f"What is at {host} takes no pushes (it answered 426 instead of 202): give the gateway's "
    )


DOORS = [
    Door(None, "--token", "a.forged.token"),
    Door("/ws/{name}", "--token", "a.forged.token"),
    Door("/requester", "--token", "a.forged.token"),
    Door("/ws/{name}", "--token", None),
    Door("/requester", "--token", None),
]


@pytest.mark.parametrize("door", DOORS)
def test_a_token_that_is_refused_is_told_before_the_start(reactor: Reactor, locked: Running, door: Door) -> None:
    sentence = wrong_with_doors(reactor, locked.base_url, [door], "load-0", 60)
    assert sentence is not None
    url = locked.websocket_url + (door.path or "").format(name="load-0")
    named = f"what {door.option} gives is refused" if door.secret else f"{door.option} is missing"
    assert sentence.startswith(f"Nobody gets in at {url}, since {named} (the handshake was refused: HTTP/1.1 401 ")
    assert door.secret is None or door.secret not in sentence


@pytest.mark.parametrize(
    ("token", "named"),
    [
        (None, "--token is missing (the registration was rejected: 'unauthorized')"),
        (
            signing.token(sub="ann", exp=None),
            "what --token gives is refused (the registration was rejected: 'forbidden')",
        ),
    ],
)
def test_a_registration_that_is_refused_is_told_before_the_start(
    reactor: Reactor, locked: Running, token: str | None, named: str
) -> None:
    sentence = wrong_with_doors(reactor, locked.base_url, [Door(None, "--token", token)], "load-0", 60)
    assert sentence == (
        f"Nobody gets in at {locked.websocket_url}, since {named}: give one that is valid there by LOADTEST_TOKEN."
    )


@pytest.mark.parametrize("auth", ["off", "required"])
def test_workers_show_their_key_when_they_register(reactor: Reactor, tmp_path: Path, auth: str) -> None:
    """In `Authorization`, where they showed it, the handshake key is refused if tokens are required: it is none."""
    reading = ApiKey("reader", frozenset({"clients:read"}), digest_of(READING_KEY)).line
    settings = {
        "ENVIRONMENT": "production",
        "PORTICO_AUTH": auth,
        "WEBSOCKET_HANDSHAKE_KEY": HANDSHAKE_KEY,
        "PORTICO_API_KEYS": f"{KEY},{reading}",
    }
    if auth == "required":
        settings["PORTICO_JWT_SECRET"] = signing.SECRET
    wrong = {
        "wrong-key": "what --worker-key gives is refused (the registration was rejected: 'unauthorized')",
        READING_KEY: "what --worker-key gives is refused (the registration was rejected: 'forbidden')",
        None: "--worker-key is missing (the registration was rejected: 'unauthorized')",
    }
    with gateway(tmp_path, settings=settings) as running:
        for secret in (HANDSHAKE_KEY, KEY):
            door = Door("/worker", "--worker-key", secret, as_worker=True)
            assert wrong_with_doors(reactor, running.base_url, [door], "load-0", 60) is None
        for refused, named in wrong.items():
            door = Door("/worker", "--worker-key", refused, as_worker=True)
            assert wrong_with_doors(reactor, running.base_url, [door], "load-0", 60) == (
                f"Nobody gets in at {running.websocket_url}/worker, since {named}: give one that is valid there by "
                "LOADTEST_WORKER_KEY."
            )


def test_secrets_that_are_valid_let_everybody_in(reactor: Reactor, locked: Running) -> None:
    token = signing.token(sub=None, exp=None, role="admin")
    doors = [Door(path, "--token", token) for path in (None, "/ws/{name}", "/requester")]
    doors.append(Door("/worker", "--token", signing.token(sub=None, exp=None, role="worker")))
    doors.append(Door("/worker", "--worker-key", KEY, as_worker=True))
    assert wrong_with_doors(reactor, locked.base_url, doors, "load-0", 60) is None


def test_web_sockets_where_nobody_is(reactor: Reactor, tmp_path: Path) -> None:
    there = f"ws://127.0.0.1:{free_port()}"
    with gateway(tmp_path, settings={"PORTICO_PUBLIC_WEBSOCKET_URL": there}) as running:
        sentence = wrong_with_doors(reactor, running.base_url, [Door(None, "--token", None)], "load-0", 60)
    assert sentence is not None
    assert sentence.startswith(f"The gateway at {running.base_url} says that its WebSockets are at {there}")
    assert "nobody is there (no connection: Connection refused): " in sentence
