"""Under which names a gateway may be asked for."""

import pytest

from service.core.hosts import HostPolicy, is_address, is_loopback, network, read_authority


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("gw.example.com", True),
        ("GW.Example.COM:8000", True),
        ("gw.example.com.", True),
        ("a.chat.example.com", True),
        ("chat.example.com", False),
        ("evil.example", False),
        ("gw.example.com.evil.example", False),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("203.0.113.9", True),
        ("localhost:8000", True),
        ("gateway:8001", True),
        ("portico.internal", True),
        ("portico.default.svc", True),
        ("127.0.0.1.evil.example", False),
        ("0x7f.1", False),
        ("", True),
    ],
)
def test_names(host: str, known: bool) -> None:
    policy = HostPolicy(["gw.example.com", "*.chat.example.com"])
    assert policy.allows(host, "http") is known
    assert policy.allows(host, "https") is known
    assert HostPolicy(["gw.example.com", "*.chat.example.com"], over_tls=True).allows(host, "https")
    for anything in (None, ["*"]):
        assert HostPolicy(anything).allows(host, "http")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("localhost.", True),
        ("app.localhost", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("xlocalhost", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("", False),
        ("127.0.0.1%lo", True),
        ("0000:0000:0000:0000:0000:ffff:127.100.100.100", True),
        ("::1" + "0" * 43, False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("host", "address", "counts_as"),
    [
        ("203.0.113.9", True, "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", True, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6%eth0", True, "2001:db8:1:2::/64"),
        ("0000:0000:0000:0000:0000:ffff:203.000.113.009", False, "0000:0000:0000:0000:0000:ffff:203.000.113.009"),
        ("::ffff:203.0.113.9", True, "::ffff:203.0.113.9"),
        ("gw.example.com", False, "gw.example.com"),
        ("1" * 8000, False, "1" * 8000),
    ],
)
def test_addresses(host: str, address: bool, counts_as: str) -> None:
    for _ in range(2):  # once read, once remembered
        assert is_address(host) is address
        assert network(host) == counts_as


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("a", "")),
        ("A.example.com:80", ("A.example.com", "80")),
        ("a_b", ("a_b", "")),
        ("1.2.3.4:65535", ("1.2.3.4", "65535")),
        ("[::1]:80", ("[::1]", "80")),
        ("a.", ("a.", "")),
        ("a:", ("a", "")),
    ],
)
def test_what_a_host_header_may_say(text: str, parts: tuple[str, str]) -> None:
    assert read_authority(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        *("a b", "a/b", "-a", "a-", "a..b", ".x", "x" * 64, "x." * 150, "::1", "[::1", "[::::]", "[1.2.3.4]", "a:b"),
        *("a@b", "", "a:123456", "a:65536", "\x1b[31m", "b\u00fccher.example"),
    ],
)
def test_what_is_no_host(text: str) -> None:
    assert read_authority(text) is None
