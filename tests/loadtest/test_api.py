"""The load test's own HTTP client against a server that refuses."""

import socket
import threading

import pytest

from loadtest._api import Api, ApiError
from loadtest._reactor import Reactor

BODY = b'{"error":{"code":"unauthorized","message":"A key is needed."}}'
ANSWER = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (None, "answered 401 instead of 202 ('unauthorized'); --api-key gives one"),
        ("a-wrong-one", "answered 401 instead of 202 ('unauthorized')"),
    ],
)
def test_who_has_no_key_is_told_how_to_give_one(key: str | None, sentence: str) -> None:
    reactor = Reactor(lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65_536)
                sock.sendall(ANSWER)

        thread = threading.Thread(target=serve)
        thread.start()
        api = Api(reactor, f"http://127.0.0.1:{listener.getsockname()[1]}", key, 60.0)
        with pytest.raises(ApiError) as refused:
            api.push({})
        thread.join()
    api.close()
    reactor.close()
    assert str(refused.value) == sentence
