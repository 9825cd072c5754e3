"""What the app is told of who asks."""

from dataclasses import dataclass
from typing import Any

import pytest

from service.own_app.scopes import scope_for

HEADERS = [
    (b"host", b"inner:8000"),
    (b"x-forwarded-for", b"192.0.2.7"),
    (b"X-Forwarded-Prefix", b"/gw"),
    (b"forwarded", b"for=192.0.2.7"),
    (b"x-real-ip", b"192.0.2.7"),
    (b"accept", b"*/*"),
]


@dataclass(frozen=True)
class Asked:
    address: str = "127.0.0.1"
    scheme: str = "http"
    host: str = "inner:8000"
    peer: str = "127.0.0.1"
    prefix: str = ""


def scope(**more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "scheme": "http",
        "path": "/käse",
        "raw_path": b"/k%C3%A4se",
        "headers": HEADERS,
        "client": ("127.0.0.1", 5),
        "extensions": {"portico.websocket": {}, "websocket.http.response": {}},
        **more,
    }


def test_what_a_stranger_says_is_left_out() -> None:
    told = scope_for(scope(), Asked(), trusted=False)
    assert told["headers"] == [(b"host", b"inner:8000"), (b"accept", b"*/*")]
    assert (told["client"], told["scheme"], told["path"], told["root_path"]) == (("127.0.0.1", 5), "http", "/käse", "")
    assert told["extensions"] == {"websocket.http.response": {}}


def test_what_a_trusted_proxy_says_is_so() -> None:
    asked = Asked(address="192.0.2.7", scheme="https", host="shop.example.com", prefix="/gw")
    told = scope_for(scope(), asked, trusted=True)
    assert told["headers"] == [(b"host", b"shop.example.com"), *HEADERS[1:]]
    assert (told["client"], told["scheme"]) == (("192.0.2.7", 0), "https")
    assert (told["root_path"], told["path"], told["raw_path"]) == ("/gw", "/gw/käse", b"/gw/k%C3%A4se")
    assert scope_for(scope(type="websocket"), asked, trusted=True)["scheme"] == "wss"


@pytest.mark.parametrize(("target", "path"), [("http://shop/a/b", "/a/b"), ("http://shop", "/"), ("*", "*")])
def test_a_target_that_is_named_whole(target: str, path: str) -> None:
    told = scope_for(scope(path=target, raw_path=target.encode()), Asked(), trusted=False)
    assert (told["path"], told["raw_path"]) == (path, path.encode())


def test_a_client_without_an_address() -> None:
    assert scope_for(scope(client=None), Asked(address=""), trusted=False)["client"] is None
