"""What a node listens on: taken at once, or refused with a sentence; and who speaks TLS on it."""

import socket
from pathlib import Path

import pytest

from service import assembly
from service.assembly import StartError
from service.core.cluster.discovery import Places
from service.listening_sockets import ListeningSockets
from service.settings import Settings

from .certificates import make_certificate
from .gateways import free_ports


def made(**settings: object) -> tuple[ListeningSockets, Places]:
    loaded = Settings.load({"HOST": "127.0.0.1", **{name: str(value) for name, value in settings.items()}})
    places = Places(
        environment="development",
        hostname="here",
        local_ip="127.0.0.1",
        http_port=8000,
        websocket_port=loaded.websocket_port,
        public_url=None,
    )
    return ListeningSockets(loaded, places, assembly.certificates(loaded, lambda *_, **__: None)), places


def close(sockets: ListeningSockets) -> None:
    for _, kept in sockets.by_kind():
        for sock in kept:
            sock.close()


async def test_the_ports_that_are_set_are_taken_and_told() -> None:
    websocket, worker, redirect = free_ports(3)
    sockets, places = made(WEBSOCKET_PORT=websocket, WORKER_PORT=worker)
    assert not sockets.bound
    await sockets.bind()
    try:
        assert sockets.bound
        assert sockets.ports() == {"websocket": websocket, "worker": worker}
        assert places.websocket_port == websocket
        again, _ = made(WEBSOCKET_PORT=redirect, WORKER_PORT=worker)
        with pytest.raises(StartError, match=f"WORKER_PORT.*{worker}|{worker}.*WORKER_PORT"):
            await again.bind()
        close(again)
    finally:
        close(sockets)


def test_what_a_supervisor_has_bound_is_shared() -> None:
    sockets, places = made()
    with socket.create_server(("127.0.0.1", 0)) as websocket, socket.create_server(("127.0.0.1", 0)) as http:
        sockets.take({"websocket": [websocket], "worker": [], "http": [http]})
        sockets.accept_http_from([http])
        assert (sockets.bound, sockets.shared) == (True, True)
        port = websocket.getsockname()[1]
        assert sockets.ports() == {"websocket": port}  # the port for HTTP is told elsewhere
        assert sorted(kind for kind, _ in sockets.by_kind()) == ["http", "websocket"]
        assert places.websocket_port == port


def test_several_processes_have_to_know_of_one_another() -> None:
    alone, _ = made()
    alone.will_be_shared(1)
    assert not alone.shared
    with pytest.raises(StartError, match="2 gateways that don't know of each other's clients: set REDIS_URL"):
        alone.will_be_shared(2)
    named, _ = made(REDIS_URL="redis://127.0.0.1:1", PORTICO_NAME="gw")
    with pytest.raises(StartError, match="3 nodes of the name gw: leave PORTICO_NAME unset"):
        named.will_be_shared(3)
    joined, _ = made(REDIS_URL="redis://127.0.0.1:1")
    joined.will_be_shared(2)
    assert joined.shared


async def test_a_certificate_of_hypercorns_opens_no_port_of_our_own() -> None:
    plain, _ = made(WEBSOCKET_PORT=free_ports(1)[0])
    with pytest.raises(StartError, match="would be a port without TLS"):
        plain.will_speak_tls(by_hypercorn=True)
    sockets, places = made()
    assert places.websocket_port is not None  # derived from PORT, which nobody asked for
    sockets.will_speak_tls(by_hypercorn=True)
    sockets.check_tls()
    await sockets.bind()
    assert (sockets.speaks_tls, places.tls) == (True, False)
    assert not sockets.ports()
    where = places.websocket_port
    assert where is None


def test_a_certificate_is_spoken_with_or_refused(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    sockets, places = made(**certificate.settings)
    with pytest.raises(StartError, match="this server can't be told of it and would speak plain HTTP"):
        sockets.check_tls()
    with pytest.raises(StartError, match="leave one of them out"):
        sockets.will_speak_tls(by_hypercorn=True)
    sockets.will_speak_tls()
    sockets.check_tls()
    assert (sockets.speaks_tls, places.tls) == (True, True)
    certificate.file.write_text("it was good when the settings were read")
    with pytest.raises(StartError, match="PORTICO_TLS_CERT and PORTICO_TLS_KEY cannot be used"):
        sockets.will_speak_tls()
