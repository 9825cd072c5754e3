"""The port in plain HTTP that sends everybody to the one with TLS."""

import json

import pytest

from service.core.ports import HttpAnswer
from service.http.app import AsgiHead
from service.http.redirect import Redirects

from .stage import house


def ask(path: str, host: str, query: str = "", port: int = 8443, method: str = "GET") -> HttpAnswer:
    head = AsgiHead(method, path, query, {"host": host} if host else {}, "127.0.0.1", "127.0.0.1", "http", host)
    answer = Redirects(house().parts, lambda: port).call(head).answer(b"")
    assert isinstance(answer, HttpAnswer)
    return answer


@pytest.mark.parametrize(
    ("path", "host", "query", "port", "location"),
    [
        ("/", "gw.example.com", "", 443, "https://gw.example.com/"),
        ("/a", "gw.example.com:8080", "x=1", 8443, "https://gw.example.com:8443/a?x=1"),
        ("/a", "[::1]:80", "", 443, "https://[::1]/a"),
        # Nothing of a path can end the header, or lead to another host.
        ("/\r\nset-cookie: a", "h", "", 443, "https://h/%0D%0Aset-cookie:%20a"),
        ("//evil.example.com", "h", "", 443, "https://h//evil.example.com"),
    ],
)
def test_the_same_path_on_the_same_host(path: str, host: str, query: str, port: int, location: str) -> None:
    for method in ("GET", "POST"):
        answer = ask(path, host, query, port, method)
        assert (answer.status, dict(answer.headers)["location"]) == (308, location)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("", "Say which host you want: there is no Host header."),
        ("a b", "The Host header is no host name or address."),
        ("a/b", "The Host header is no host name or address."),
    ],
)
def test_who_says_no_host_is_sent_nowhere(host: str, reason: str) -> None:
    answer = ask("/", host)
    assert (answer.status, "location" in dict(answer.headers)) == (400, False)
    assert dict(answer.headers)["content-type"] == "application/json"
    assert json.loads(answer.body) == {"error": {"code": "bad_field", "message": reason, "field": None}}
