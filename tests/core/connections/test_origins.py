"""The allow-list of origins."""

import pytest

from service.core.connections.admission import OriginPolicy, host_of

HOST = "gw.example.com:8766"


@pytest.mark.parametrize(
    ("allowed", "origin", "host", "expected"),
    [
        ([], None, HOST, True),
        ([], "http://gw.example.com", HOST, True),
        ([], "http://gw.example.com:8000", HOST, True),
        ([], "https://GW.example.com", HOST, True),
        ([], "http://localhost:8000", "localhost:8766", True),
        ([], "http://[::1]:8000", "[::1]:8766", True),
        ([], "http://127.0.0.1:8000", "localhost:8766", False),
        ([], "http://gw.example.com.evil.net", HOST, False),
        ([], "http://gw.example.com@evil.net", HOST, False),
        ([], "file://gw.example.com", HOST, False),
        ([], "null", HOST, False),
        ([], "null", "", False),
        ([], "", "", False),
        ([], "http://", "", False),
        ([], "http://[", HOST, False),
        ([], "nonsense", HOST, False),
        (["https://app.example.org"], "https://app.example.org", HOST, True),
        (["https://App.Example.org/"], "https://app.example.org", HOST, True),
        (["https://app.example.org"], "http://app.example.org", HOST, False),
        (["https://app.example.org"], "https://app.example.org:8443", HOST, False),
        (["https://*.example.org"], "https://a.example.org", HOST, True),
        (["https://*.example.org"], "https://a.b.example.org", HOST, True),
        (["https://*.example.org"], "https://example.org", HOST, False),
        (["https://*.example.org"], "http://a.example.org", HOST, False),
        (["https://*.example.org"], "https://evilexample.org", HOST, False),
        (["https://*.example.org:8443"], "https://a.example.org:8443", HOST, True),
        (["*"], "https://anything", HOST, True),
        (["*"], "null", HOST, True),
    ],
)
def test_who_may(allowed: list[str], origin: str | None, host: str, expected: bool) -> None:
    assert OriginPolicy(allowed, open_by_default=True).allows(origin, host) is expected


def test_unset_is_open_in_development_only() -> None:
    assert OriginPolicy(None, open_by_default=True).allows("https://anything", HOST)
    assert not OriginPolicy(None, open_by_default=False).allows("https://anything", HOST)
    assert OriginPolicy(None, open_by_default=False).allows("https://gw.example.com", HOST)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("A.b:80", "a.b"),
        ("a.b", "a.b"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("", ""),
        (":80", ":80"),
        ("a:x", "a:x"),
    ],
)
def test_host_of(authority: str, host: str) -> None:
    assert host_of(authority) == host
