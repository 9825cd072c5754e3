"""Who is a program of this machine, and which pages are other sites'."""

import pytest

from service.core.locality import Locality, locality_of, through_proxy

HERE = "127.0.0.1:8000"


@pytest.mark.parametrize(
    ("headers", "host", "address", "where"),
    [
        ({}, HERE, "127.0.0.1", Locality.LOCAL),
        ({}, "localhost:8000", "::1", Locality.LOCAL),
        ({"origin": "http://localhost:3000"}, HERE, "127.0.0.1", Locality.LOCAL),
        ({}, HERE, "192.0.2.1", Locality.ELSEWHERE),
        ({}, "", "127.0.0.1", Locality.ELSEWHERE),
        ({}, HERE, "", Locality.ELSEWHERE),
        ({}, HERE, "localhost", Locality.ELSEWHERE),
        ({}, "gw.example.com", "127.0.0.1", Locality.ELSEWHERE),
        ({"via": "1.1 a"}, HERE, "127.0.0.1", Locality.ELSEWHERE),
        ({"origin": "http://192.0.2.7:8000"}, "192.0.2.7:8766", "192.0.2.1", Locality.ELSEWHERE),
        ({"origin": "https://evil.example"}, HERE, "127.0.0.1", Locality.FOREIGN_PAGE),
        ({"origin": "http://evil.example"}, "evil.example", "127.0.0.1", Locality.FOREIGN_PAGE),
        ({"origin": "null"}, HERE, "127.0.0.1", Locality.FOREIGN_PAGE),
        ({"origin": ""}, HERE, "127.0.0.1", Locality.FOREIGN_PAGE),
        ({"origin": "file://"}, HERE, "127.0.0.1", Locality.FOREIGN_PAGE),
        ({"origin": "http://[::1"}, HERE, "127.0.0.1", Locality.FOREIGN_PAGE),
        ({"origin": "http://a@127.0.0.1.evil.example"}, HERE, "127.0.0.1", Locality.FOREIGN_PAGE),
        ({"origin": "http://127.0.0.1:8000.evil.example"}, HERE, "127.0.0.1", Locality.FOREIGN_PAGE),
        ({"origin": "http://evil.example:80@localhost"}, HERE, "127.0.0.1", Locality.FOREIGN_PAGE),
        ({"origin": "http://localhost/evil"}, HERE, "127.0.0.1", Locality.FOREIGN_PAGE),
        ({"sec-fetch-site": "cross-site"}, HERE, "127.0.0.1", Locality.FOREIGN_PAGE),
    ],
)
def test_where(headers: dict[str, str], host: str, address: str, where: Locality) -> None:
    assert locality_of(headers, host, address) is where


@pytest.mark.parametrize(
    "name",
    ["x-forwarded-for", "x-forwarded", "x-forwarded-server", "forwarded", "via", "x-real-ip", "x-client-ip", "cf-ray",
     "true-client-ip", "x-envoy-external-address", "x-amzn-trace-id", "fly-client-ip", "x-original-forwarded-for",
     "proxy-connection", "cdn-loop", "x-azure-ref", "x-arr-log-id", "forwarded-for", "front-end-https"],
)  # fmt: skip
def test_headers_of_proxies(name: str) -> None:
    assert through_proxy({name: ""})


@pytest.mark.parametrize("name", ["host", "user-agent", "x-request-id", "accept", "sec-websocket-key", "cookie"])
def test_headers_of_programs(name: str) -> None:
    assert not through_proxy({name: "x"})
