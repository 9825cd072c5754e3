import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import _preflight
from loadtest._preflight import source_addresses, wrong_with_host, wrong_with_room
from loadtest._reactor import Reactor
from tests.certificates import make_certificate


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
