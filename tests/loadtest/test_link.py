import socket
import threading
import time
from collections.abc import Callable

import pytest
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection, serve

from loadtest._link import Link, LinkClosedError, LinkError
from tests.little_gateway import little_gateway

FAR = 30.0


def with_server(handler: Callable[[ServerConnection], None], client: Callable[[str], None]) -> None:
    """Run `client` with the address of a WebSocket server whose connections `handler` handles."""
    with serve(handler, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            client(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        finally:
            server.shutdown()
            thread.join(10)


def listen(connection: ServerConnection) -> None:
    """Take whatever comes, until the client goes."""
    for _ in connection:
        pass


def soon() -> float:
    return time.monotonic() + FAR


def test_messages_go_both_ways_and_pings_are_answered() -> None:
    ponged = threading.Event()

    def handler(connection: ServerConnection) -> None:
        assert connection.recv() == "hello"
        if connection.ping().wait(FAR):
            ponged.set()
        connection.send("whole")
        connection.send(iter(["in ", "three ", "parts"]))
        connection.recv()

    def client(url: str) -> None:
        link = Link.open(url, FAR)
        link.send(b"hello")
        received: list[bytes] = []
        while len(received) < 2:
            received += link.receive(soon())
        assert received == [b"whole", b"in three parts"]
        link.close(FAR)

    with_server(handler, client)
    assert ponged.is_set()


def test_nothing_by_the_deadline_is_no_message() -> None:
    def client(url: str) -> None:
        link = Link.open(url, FAR)
        assert link.receive(time.monotonic() + 0.01) == []
        assert link.receive(time.monotonic() - 1) == []
        link.close(FAR)

    with_server(listen, client)


def test_a_close_comes_after_what_was_sent_before_it_with_code_and_reason() -> None:
    def handler(connection: ServerConnection) -> None:
        connection.send("last words")
        connection.close(4008, "too slow")

    def client(url: str) -> None:
        link = Link.open(url, FAR)
        assert link.receive(soon()) == [b"last words"]
        with pytest.raises(LinkClosedError) as caught:
            link.receive(soon())
        assert (caught.value.code, caught.value.reason) == (4008, "too slow")
        with pytest.raises(LinkClosedError):
            link.send(b"too late")
        link.close(FAR)

    with_server(handler, client)


def test_a_connection_that_is_cut_is_1006() -> None:
    def handler(connection: ServerConnection) -> None:
        connection.socket.shutdown(socket.SHUT_RDWR)

    def client(url: str) -> None:
        link = Link.open(url, FAR)
        with pytest.raises(LinkClosedError) as caught:
            link.receive(soon())
        assert caught.value.code == 1006
        link.close(FAR)

    with_server(handler, client)


def test_a_message_in_the_same_segment_as_the_handshake_is_not_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                protocol = ServerProtocol()
                protocol.receive_data(sock.recv(65536))
                (request,) = protocol.events_received()
                protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]  # it is a request
                early = Frame(Opcode.TEXT, b"early").serialize(mask=False)
                sock.sendall(b"".join(protocol.data_to_send()) + early)
                sock.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        link = Link.open(f"ws://127.0.0.1:{listener.getsockname()[1]}", FAR)
        assert link.receive(soon()) == [b"early"]
        link.close(0.0)
        thread.join(FAR)


def test_a_refused_handshake_says_so() -> None:
    refusing = little_gateway(["connections refused"])
    with refusing as gateway, pytest.raises(LinkError, match=r"refused: HTTP/1\.1 503"):
        Link.open(gateway.base_url.replace("http", "ws"), FAR)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "ws://", "nonsense", "ws://[::1"])
def test_what_is_no_address_says_so(url: str) -> None:
    with pytest.raises(LinkError, match="not a WebSocket address"):
        Link.open(url, FAR)


def test_nobody_there_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkError, match="no connection"):
        Link.open(f"ws://127.0.0.1:{port}", FAR)


def test_a_server_that_says_nothing_does_not_hold_a_client_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(LinkError, match="timed out"):
        Link.open(f"ws://127.0.0.1:{listener.getsockname()[1]}", 0.05)
