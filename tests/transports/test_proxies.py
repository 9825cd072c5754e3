"""Who is believed about whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.transports.proxies import ProxyRules, RequestSource, peer_port

TRUSTED = ("10.0.0.0/8", "192.0.2.7", "fd00::/8")


@pytest.mark.parametrize(
    ("peer", "address", "port"),
    [
        (("10.0.0.1", 5000), "10.0.0.1", 5000),
        (["10.0.0.1", 5000], "10.0.0.1", 5000),
        (("::ffff:10.0.0.1", 5000, 0, 0), "10.0.0.1", 5000),
        (("10.0.0.1", 5000), "192.0.2.7", None),
        (("10.0.0.1", None), "10.0.0.1", None),
        ("", "", None),
        (None, "10.0.0.1", None),
    ],
)
def test_the_port_is_the_client_s_own_or_unknown(peer: object, address: str, port: int | None) -> None:
    assert peer_port(peer, address) == port


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        pytest.param("10.0.0.1", {}, ("10.0.0.1", "http", ""), id="a proxy that says nothing"),
        pytest.param("10.0.0.1", {"x-forwarded-for": "203.0.113.5"}, ("203.0.113.5", "http", ""), id="one hop"),
        pytest.param(
            "10.0.0.1",
            {"x-forwarded-for": "198.51.100.1, 203.0.113.5, 10.0.0.2"},
            ("203.0.113.5", "http", ""),
            id="the rightmost that isn't trusted",
        ),
        pytest.param(
            "10.0.0.1", {"x-forwarded-for": "10.0.0.3, 10.0.0.2"}, ("10.0.0.3", "http", ""), id="all are trusted"
        ),
        pytest.param(
            "203.0.113.9",
            {"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "https", "x-forwarded-host": "evil.example"},
            ("203.0.113.9", "http", ""),
            id="an untrusted peer says anything",
        ),
        pytest.param(
            "192.0.2.7", {"x-forwarded-for": "203.0.113.5:4711"}, ("203.0.113.5", "http", ""), id="with a port"
        ),
        pytest.param(
            "fd00::1", {"x-forwarded-for": "2001:db8::5"}, ("2001:db8::5", "http", ""), id="IPv6, bare"
        ),
        pytest.param(
            "fd00::1", {"x-forwarded-for": "[2001:db8::5]:4711"}, ("2001:db8::5", "http", ""), id="IPv6 with a port"
        ),
        pytest.param(
            "fd00::1", {"x-forwarded-for": "[2001:db8::5]"}, ("2001:db8::5", "http", ""), id="IPv6 in brackets"
        ),
        pytest.param(
            "::ffff:10.0.0.1", {"x-forwarded-for": "203.0.113.5"}, ("203.0.113.5", "http", ""), id="mapped peer"
        ),
        pytest.param("::ffff:203.0.113.5", {}, ("203.0.113.5", "http", ""), id="mapped and untrusted"),
        pytest.param(
            "10.0.0.1",
            {"x-forwarded-for": "203.0.113.5, unknown, 10.0.0.2"},
            ("10.0.0.2", "http", ""),
            id="garbage ends the chain",
        ),
        pytest.param(
            "10.0.0.1", {"x-forwarded-for": "\x1b[31m, <script>"}, ("10.0.0.1", "http", ""), id="only garbage"
        ),
        pytest.param("10.0.0.1", {"x-forwarded-for": ""}, ("10.0.0.1", "http", ""), id="empty"),
        pytest.param("10.0.0.1", {"x-forwarded-for": ",,"}, ("10.0.0.1", "http", ""), id="commas"),
        pytest.param("10.0.0.1", {"x-forwarded-for": "1.2.3"}, ("10.0.0.1", "http", ""), id="too short"),
        pytest.param("10.0.0.1", {"x-forwarded-proto": "https"}, ("10.0.0.1", "https", ""), id="https"),
        pytest.param("10.0.0.1", {"x-forwarded-proto": "WSS"}, ("10.0.0.1", "https", ""), id="wss"),
        pytest.param(
            "10.0.0.1", {"x-forwarded-proto": "https, http"}, ("10.0.0.1", "http", ""), id="the nearest scheme"
        ),
        pytest.param("10.0.0.1", {"x-forwarded-proto": "gopher"}, ("10.0.0.1", "http", ""), id="no scheme of ours"),
        pytest.param(
            "10.0.0.1",
            {"host": "inside:8000", "x-forwarded-host": "gw.example.com"},
            ("10.0.0.1", "http", "gw.example.com"),
            id="host",
        ),
        pytest.param(
            "10.0.0.1",
            {"host": "inside:8000", "x-forwarded-host": "gw.example.com", "x-forwarded-port": "8443"},
            ("10.0.0.1", "http", "gw.example.com:8443"),
            id="host and port",
        ),
        pytest.param(
            "10.0.0.1",
            {"x-forwarded-host": "gw.example.com:9000", "x-forwarded-port": "8443"},
            ("10.0.0.1", "http", "gw.example.com:9000"),
            id="the host's own port wins",
        ),
        pytest.param(
            "10.0.0.1",
            {"host": "gw.example.com", "x-forwarded-port": "443"},
            ("10.0.0.1", "http", "gw.example.com:443"),
            id="port alone",
        ),
        pytest.param(
            "10.0.0.1",
            {"x-forwarded-host": "evil.example, gw.example.com"},
            ("10.0.0.1", "http", "gw.example.com"),
            id="the nearest host",
        ),
        pytest.param(
            "10.0.0.1", {"x-forwarded-host": "[2001:db8::1]:80"}, ("10.0.0.1", "http", "[2001:db8::1]:80"),
            id="IPv6 host",
        ),
        pytest.param(
            "10.0.0.1",
            {"host": "inside", "x-forwarded-host": "a b"},
            ("10.0.0.1", "http", "inside"),
            id="a host that is none",
        ),
        *(
            pytest.param(
                "10.0.0.1",
                {"host": "inside", "x-forwarded-host": name, "x-forwarded-port": port},
                ("10.0.0.1", "http", f"inside{port and ':'}{port}"),
                id=f"a name that no host has, {number}, {port}",
            )
            for number, name in enumerate(("a..b", ".x", "x" * 64, "-a.example", "[::::]", "a:65536"))
            for port in ("", "443")
        ),
        pytest.param(
            "10.0.0.1",
            {"host": "inside", "x-forwarded-host": "gw.example.com:99999"},
            ("10.0.0.1", "http", "inside"),
            id="a port that is none",
        ),
        pytest.param(
            "10.0.0.1",
            {"host": "inside", "x-forwarded-port": "0"},
            ("10.0.0.1", "http", "inside"),
            id="port 0",
        ),
        # Two trusted proxies in a row: the outer one was asked by the client, the inner one by the outer.
        pytest.param(
            "10.0.0.1",
            {
                "host": "inside:8000",
                "x-forwarded-for": "203.0.113.5, 10.0.0.2",
                "x-forwarded-host": "gw.example.com, inner",
                "x-forwarded-proto": "https, http",
                "x-forwarded-port": "8443, 8080",
            },
            ("203.0.113.5", "https", "gw.example.com:8443"),
            id="two proxies",
        ),
        pytest.param(
            "10.0.0.1",
            {
                "x-forwarded-for": "1.1.1.1, 203.0.113.5, 10.0.0.2",
                "x-forwarded-host": "evil.example, gw.example.com, inner",
                "x-forwarded-proto": "gopher,https,http",
            },
            ("203.0.113.5", "https", "gw.example.com"),
            id="two proxies, and what the client made up",
        ),
        pytest.param(
            "10.0.0.1",
            {
                "x-forwarded-for": "203.0.113.5, 198.51.100.1",
                "x-forwarded-host": "evil.example, gw.example.com",
                "x-forwarded-proto": "https, http",
            },
            ("198.51.100.1", "http", "gw.example.com"),
            id="the outer one isn't trusted",
        ),
        pytest.param(
            "10.0.0.1",
            {
                "x-forwarded-for": "10.0.0.9, 10.0.0.2",
                "x-forwarded-host": "made.up, gw.example.com, inner",
                "x-forwarded-proto": "https, http",
            },
            ("10.0.0.9", "https", "gw.example.com"),
            id="two proxies and a client with a trusted address",
        ),
        pytest.param(
            "10.0.0.1",
            {"x-forwarded-for": "203.0.113.5, 10.0.0.2", "x-forwarded-host": "gw.example.com",
             "x-forwarded-proto": "https"},
            ("203.0.113.5", "https", "gw.example.com"),
            id="two proxies, of which one appends",
        ),
        pytest.param("203.0.113.9", {"host": "gw.example.com:8000"},
            ("203.0.113.9", "http", "gw.example.com:8000"), id="Host"),
        pytest.param("203.0.113.9", {"host": "gw.example.com/x"}, ("203.0.113.9", "http", ""), id="Host with a path"),
        pytest.param("203.0.113.9", {"host": "a@b"}, ("203.0.113.9", "http", ""), id="Host with a user"),
        pytest.param("", {"x-forwarded-for": "203.0.113.5"}, ("", "http", ""), id="a Unix socket"),
    ],
)  # fmt: skip
def test_the_source(peer: str, headers: dict[str, str], expected: tuple[str, str, str]) -> None:
    assert ProxyRules(TRUSTED).resolve(peer, headers, "http") == RequestSource(*expected)


@pytest.mark.parametrize(
    ("said", "forwarded_for", "prefix"),
    [
        ("/gw", "203.0.113.5", "/gw"),
        ("/gw/", "203.0.113.5", "/gw"),
        ("/a/b-c_d~e.f", "203.0.113.5", "/a/b-c_d~e.f"),
        ("/outer, /inner", "203.0.113.5, 10.0.0.2", "/outer/inner"),
        ("/evil, /gw", "203.0.113.5", "/gw"),
        ("/", "203.0.113.5", ""),
        ("", "203.0.113.5", ""),
        ("gw", "203.0.113.5", ""),
        ("//evil.example", "203.0.113.5", ""),
        ("/../x", "203.0.113.5", ""),
        ("/.", "203.0.113.5", ""),
        ("/a?b", "203.0.113.5", ""),
        ("/a b", "203.0.113.5", ""),
        ("/%0a", "203.0.113.5", ""),
        ("/a@evil.example:80", "203.0.113.5", ""),
        ("/" + "a" * 101, "203.0.113.5", ""),
        ("/a" * 11, "203.0.113.5", ""),
    ],
)
def test_what_was_taken_off_the_path(said: str, forwarded_for: str, prefix: str) -> None:
    headers = {"x-forwarded-prefix": said, "x-forwarded-for": forwarded_for}
    assert ProxyRules(TRUSTED).resolve("10.0.0.1", headers, "http").prefix == prefix
    assert ProxyRules(TRUSTED).resolve("203.0.113.5", headers, "http").prefix == ""


def test_nobody_is_trusted_unless_named() -> None:
    rules = ProxyRules()
    assert not rules.trusts("127.0.0.1")
    headers = {"x-forwarded-for": "203.0.113.5", "x-forwarded-proto": "https", "x-forwarded-host": "h"}
    assert rules.resolve("127.0.0.1", headers, "http") == RequestSource("127.0.0.1", "http", "")


def test_everyone_may_be_trusted() -> None:
    rules = ProxyRules(["*"])
    assert rules.trusts("203.0.113.5")
    assert rules.resolve("9.9.9.9", {"x-forwarded-for": "1.1.1.1, 2.2.2.2"}, "http").address == "1.1.1.1"


def test_tls_on_the_socket_stands_unless_a_proxy_says_otherwise() -> None:
    rules = ProxyRules(TRUSTED)
    assert rules.resolve("203.0.113.5", {"x-forwarded-proto": "http"}, "https").scheme == "https"
    assert rules.resolve("10.0.0.1", {"x-forwarded-proto": "http"}, "https").scheme == "http"


def test_a_chain_of_any_length_is_cut() -> None:
    chain = ", ".join(["10.0.0.9"] * 10_000)
    assert ProxyRules(TRUSTED).resolve("10.0.0.1", {"x-forwarded-for": chain}, "http").address == "10.0.0.9"


@pytest.mark.parametrize("network", ["localhost", "10.0.0.0/33", "", "10.0.0.0-10.0.0.9"])
def test_what_is_no_network(network: str) -> None:
    with pytest.raises(ValueError, match="is not an address or a network"):
        ProxyRules([network])


@given(
    peer=st.sampled_from(["10.0.0.1", "fd00::1", "203.0.113.5", "nonsense"]),
    headers=st.dictionaries(
        st.sampled_from(
            [
                "host",
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-forwarded-host",
                "x-forwarded-port",
                "x-forwarded-prefix",
            ]
        ),
        st.text(max_size=60),
    ),
)
def test_whatever_they_say_the_answer_is_plain(peer: str, headers: dict[str, str]) -> None:
    address, scheme, host, prefix = ProxyRules(TRUSTED).resolve(peer, headers, "http")
    assert prefix == "" or prefix[0] == "/"
    assert scheme in ("http", "https")
    for text in (address, host, prefix.replace("/", "")):
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set(" /@\\\"'<>")
