"""Whose certificates are trusted: by everything that asks over https, those of SSL_CERT_FILE, where that is set."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from portico import AsyncPublisher, Publisher, Unreachable
from portico.client.address import discover
from service.cli.api import Api
from service.cli.outcomes import CA_FILE, UNREACHABLE, explain
from service.tokens.jwks_endpoint import fetch_keys
from service.tokens.keys import BadKey
from tests.certificates import Certificate, make_certificate
from tests.portico.publisher.scripted import Handle, answer, scripted

INFO = answer(200, {"websocket_url": "ws://localhost:8766"})
WORKERS = answer(200, {"workers": []})


def by_publisher(base_url: str) -> None:
    with Publisher(base_url, patience=0) as publisher:
        publisher.workers()


def by_async_publisher(base_url: str) -> None:
    async def main() -> None:
        async with AsyncPublisher(base_url, patience=0) as publisher:
            await publisher.workers()

    trio.run(main)


def by_command(base_url: str) -> None:
    async def main() -> None:
        async with Api(base_url) as api:
            await api.status()

    trio.run(main)


def by_sdk(base_url: str) -> None:
    trio.run(discover, base_url)


def by_jwks(base_url: str) -> None:
    fetch_keys(base_url)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("trust"))


@pytest.fixture
def tls(made: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.file, made.key)
    return context


@pytest.mark.parametrize(
    ("ask", "answered"),
    [
        (by_publisher, WORKERS),
        (by_async_publisher, WORKERS),
        (by_command, WORKERS),
        (by_sdk, INFO),
        (by_jwks, answer(200, {"keys": []})),
    ],
)
def test_ssl_cert_file_says_whom_to_trust(
    ask: Callable[[str], None],
    answered: Handle,
    made: Certificate,
    tls: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with scripted(answered, tls=tls) as server:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises((Unreachable, BadKey)):
            ask(server.base_url)
        assert server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
        if ask is by_jwks:
            with pytest.raises(BadKey):  # it has no keys
                ask(server.base_url)
        else:
            ask(server.base_url)
        assert len(server.asked) == 1


@pytest.mark.parametrize("ask", [by_command, by_sdk])
def test_a_certificate_that_is_not_trusted_is_no_missing_gateway(
    ask: Callable[[str], None], tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with scripted(INFO, tls=tls) as server, pytest.raises(Unreachable) as raised:
        ask(server.base_url)
    code, said = explain(raised.value)
    assert code == UNREACHABLE
    assert said.endswith(CA_FILE)
    assert "certificate verify failed" in said
