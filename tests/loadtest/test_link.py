import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection, serve

from loadtest import _link
from loadtest._link import Link, LinkClosedError, LinkError
from loadtest._reactor import Reactor
from portico.wire.codes import Advice, CloseCode, advice_for
from tests.certificates import make_certificate
from tests.little_gateway import little_gateway

FAR = 30.0


class Listener:
    """Takes what a link hands over."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.arrivals: list[float] = []
        self.binary = 0
        self.closed: LinkClosedError | None = None

    def on_message(self, payload: bytes, arrived: float, *, binary: bool) -> None:
        self.messages.append(payload)
        self.arrivals.append(arrived)
        self.binary += binary

    def on_closed(self, error: LinkClosedError) -> None:
        self.closed = error

    def wait(self, happened: Callable[[], bool]) -> None:
        """Let gevent's loop run until it is so."""
        deadline = time.monotonic() + FAR
        while not happened():
            assert time.monotonic() < deadline
            gevent.sleep(0.002)


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor(lambda seconds: None)
    yield made
    made.close()
    assert made.faults == []


def with_server(
    handler: Callable[[ServerConnection], None], client: Callable[[str], None], context: ssl.SSLContext | None = None
) -> None:
    """Run `client` with the address of a WebSocket server whose connections `handler` handles."""
    with serve(handler, "127.0.0.1", 0, compression=None, ssl=context) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            client(f"ws{'s' * bool(context)}://127.0.0.1:{server.socket.getsockname()[1]}")
        finally:
            server.shutdown()
            thread.join(10)


def listen(connection: ServerConnection) -> None:
    """Take whatever comes, until the client goes."""
    for _ in connection:
        pass


def test_messages_go_both_ways_and_pings_are_answered(reactor: Reactor) -> None:
    ponged = threading.Event()

    def handler(connection: ServerConnection) -> None:
        assert connection.recv() == "hello"
        if connection.ping().wait(FAR):
            ponged.set()
        connection.send("whole")
        connection.send(iter(["in ", "three ", "parts"]))
        connection.send(b"\xff")
        connection.recv()

    def client(url: str) -> None:
        link, listener = Link.open(reactor, url, FAR), Listener()
        link.attach(listener)
        link.send(b"hello")
        listener.wait(lambda: len(listener.messages) == 3)
        assert listener.messages == [b"whole", b"in three parts", b"\xff"]
        assert listener.binary == 1
        assert [(ours, payload) for ours, _, payload in link.kept][:2] == [(True, b"hello"), (False, b"whole")]
        link.close(FAR)

    with_server(handler, client)
    assert ponged.is_set()


def test_over_tls(reactor: Reactor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path)

    def handler(connection: ServerConnection) -> None:
        connection.send(str(connection.recv()) * 5000)
        connection.recv()

    def client(url: str) -> None:
        link, listener = Link.open(reactor, url, FAR), Listener()
        link.attach(listener)
        link.send(b"hello")
        listener.wait(lambda: bool(listener.messages))
        assert listener.messages == [b"hello" * 5000]
        link.close(FAR)

    def untrusted(url: str) -> None:
        with pytest.raises(LinkError, match="certificate"):
            Link.open(reactor, url, FAR)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    with_server(listen, untrusted, context)
    monkeypatch.setattr(_link, "tls_context", certificate.trusted)
    with_server(handler, client, context)


def test_an_arrival_is_when_the_bytes_were_there_not_when_they_were_read(reactor: Reactor) -> None:
    """A load that is paused, or has no processor, is not to be found in the gateway's times."""
    sent = threading.Event()
    moment = 0.0

    def handler(connection: ServerConnection) -> None:
        nonlocal moment
        while connection.recv() == "warm up":
            connection.send("warm")
        moment = time.time()
        connection.send("now")
        sent.set()
        connection.recv()

    def client(url: str) -> None:
        link, listener = Link.open(reactor, url, FAR), Listener()
        link.attach(listener)
        unstamped = -1
        # The kernel begins to stamp a moment after it is asked to.
        while unstamped != reactor.unstamped:
            unstamped, messages = reactor.unstamped, len(listener.messages)
            link.send(b"warm up")
            listener.wait(lambda before=messages: len(listener.messages) > before)  # type: ignore[misc]  # a default
        link.send(b"now")
        # The whole process stands still, its greenlets and its loop.
        sent.wait(FAR)
        time.sleep(0.3)
        listener.wait(lambda: listener.messages[-1] == b"now")
        assert reactor.unstamped == unstamped
        assert moment - 0.01 <= listener.arrivals[-1] <= time.time() - 0.3
        link.close(FAR)

    with_server(handler, client)


@pytest.mark.parametrize("code", [*CloseCode, 1006, 1005, 3000])
def test_who_is_told_not_to_come_back_is_told_so_by_the_catalogue(code: int) -> None:
    assert LinkClosedError(code, "").is_final == (advice_for(code) is Advice.NO)
    assert not LinkClosedError(code, "a reserved bit", ours=True).is_final


def test_a_close_comes_after_what_was_sent_before_it_with_code_and_reason(reactor: Reactor) -> None:
    def handler(connection: ServerConnection) -> None:
        connection.send("last words")
        connection.close(4008, "too slow")

    def client(url: str) -> None:
        link, listener = Link.open(reactor, url, FAR), Listener()
        link.attach(listener)
        listener.wait(lambda: listener.closed is not None)
        assert listener.messages == [b"last words"]
        assert listener.closed is not None
        assert (listener.closed.code, listener.closed.reason) == (4008, "too slow")
        assert (listener.closed.ours, listener.closed.cause) == (False, "4008")
        link.send(b"too late")
        link.close(FAR)

    with_server(handler, client)


@pytest.mark.parametrize("ending", ["shutdown", "reset"])
def test_a_connection_that_is_cut_is_1006(reactor: Reactor, ending: str) -> None:
    def handler(connection: ServerConnection) -> None:
        if ending == "reset":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.socket.close()
        else:
            connection.socket.shutdown(socket.SHUT_RDWR)

    def client(url: str) -> None:
        link, listener = Link.open(reactor, url, FAR), Listener()
        link.attach(listener)
        listener.wait(lambda: listener.closed is not None)
        assert listener.closed is not None
        assert listener.closed.code == 1006
        link.close(FAR)

    with_server(handler, client)


def raw_answer(listener: socket.socket, after: bytes) -> threading.Thread:
    """A thread that shakes one hand and sends these bytes in the same segment."""

    def answer() -> None:
        sock, _ = listener.accept()
        with sock:
            protocol = ServerProtocol()
            protocol.receive_data(sock.recv(65536))
            (request,) = protocol.events_received()
            protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]  # it is a request
            sock.sendall(b"".join(protocol.data_to_send()) + after)
            sock.recv(1)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def test_a_message_in_the_same_segment_as_the_handshake_is_not_lost(reactor: Reactor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = raw_answer(listener, Frame(Opcode.TEXT, b"early").serialize(mask=False))
        link = Link.open(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", FAR)
        owner = Listener()
        gevent.sleep(0.01)
        link.attach(owner)
        assert owner.messages == [b"early"]
        link.close(0.0)
        thread.join(FAR)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (b"\x81\x82abcdxx", "masked"),
        (b"\xc1\x01x", "reserved bit"),
        (b"\x80\x01x", "fragment out of place"),
        (b"\x01\x01x\x81\x01x", "fragment out of place"),
        (b"\x83\x01x", "unknown kind 3"),
        (b"\x89\x7e\x00\x7e" + b"x" * 126, "control frame"),
        (b"\x8b\x00", "control frame"),
        (b"\x81\x7f" + b"\x7f" * 8, "bytes"),
    ],
)
def test_what_no_server_may_send_ends_the_connection(reactor: Reactor, frame: bytes, sentence: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = raw_answer(listener, frame)
        link = Link.open(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", FAR)
        owner = Listener()
        link.attach(owner)
        owner.wait(lambda: owner.closed is not None)
        assert owner.closed is not None
        assert owner.closed.code == 1002
        assert sentence in owner.closed.reason
        # The gateway has closed with nothing: who reads the report must not look for a 1002 of its.
        assert owner.closed.ours
        assert owner.closed.cause.startswith("we closed: ")
        assert sentence.replace("3", "n") in owner.closed.cause
        assert str(owner.closed).startswith("we closed with 1002: ")
        link.close(0.0)
        thread.join(FAR)


def test_a_refused_handshake_says_so(reactor: Reactor) -> None:
    refusing = little_gateway(["connections refused"])
    with refusing as gateway, pytest.raises(LinkError, match=r"refused: HTTP/1\.1 503"):
        Link.open(reactor, gateway.base_url.replace("http", "ws"), FAR)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "ws://", "nonsense", "ws://[::1"])
def test_what_is_no_address_says_so(reactor: Reactor, url: str) -> None:
    with pytest.raises(LinkError, match="not a WebSocket address"):
        Link.open(reactor, url, FAR)


def test_nobody_there_says_so(reactor: Reactor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkError, match="no connection"):
        Link.open(reactor, f"ws://127.0.0.1:{port}", FAR)


def test_a_server_that_says_nothing_does_not_hold_a_client_for_ever(reactor: Reactor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(LinkError, match="timed out"):
        Link.open(reactor, f"ws://127.0.0.1:{listener.getsockname()[1]}", 0.05)


def test_a_connection_comes_from_the_address_that_it_is_given(reactor: Reactor) -> None:
    def handler(connection: ServerConnection) -> None:
        connection.send(connection.remote_address[0])
        connection.recv()

    def client(url: str) -> None:
        link, listener = Link.open(reactor, url, FAR, source="127.0.0.7"), Listener()
        link.attach(listener)
        listener.wait(lambda: bool(listener.messages))
        assert listener.messages == [b"127.0.0.7"]
        link.close(FAR)

    with_server(handler, client)
