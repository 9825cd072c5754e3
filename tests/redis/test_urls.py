"""Redis URLs, as operators and platforms write them."""

import pytest

from service.redis.address import Address
from service.redis.cluster import Cluster
from service.redis.sentinel import Sentinels
from service.redis.urls import read_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address()),
        ("redis://cache", Address("cache")),
        ("redis://cache:6380/2", Address("cache", 6380, db=2)),
        ("redis://cache?db=3", Address("cache", db=3)),
        ("redis://[::1]:6380/", Address("::1", 6380)),
        ("redis://:p%40ss%2F@cache/0", Address("cache", password="p@ss/")),
        ("redis://node:pass@cache", Address("cache", username="node", password="pass")),
        ("unix:///run/redis.sock", Address(path="/run/redis.sock")),
        ("unix://:pass@/run/redis.sock?db=1", Address(path="/run/redis.sock", password="pass", db=1)),
        ("rediss://cache", Address("cache", tls_options=())),
        (
            "redis+sentinel://a,b:5000/mymaster",
            Sentinels([Address("a", 26379), Address("b", 5000)], "mymaster", Address()),
        ),
        ("redis+cluster://a,b:7000", Cluster([Address("a"), Address("b", 7000)])),
        (
            "rediss+cluster://u:p@a/0?ssl_cert_reqs=none",
            Cluster([Address("a", username="u", password="p", tls_options=(("ssl_cert_reqs", "none"),))]),
        ),
        (
            "rediss+sentinel://u:p%40,s@a,[::1]:5000/my%2Fmaster/2?sentinel_username=w&sentinel_password=s%26&ssl_cert_reqs=none",
            Sentinels(
                [
                    Address("a", 26379, username="w", password="s&", tls_options=(("ssl_cert_reqs", "none"),)),
                    Address("::1", 5000, username="w", password="s&", tls_options=(("ssl_cert_reqs", "none"),)),
                ],
                "my/master",
                Address(username="u", password="p@,s", db=2, tls_options=(("ssl_cert_reqs", "none"),)),
            ),
        ),
        ("rediss://cache?ssl_cert_reqs=none", Address("cache", tls_options=(("ssl_cert_reqs", "none"),))),
    ],
)
def test_what_a_url_means(url: str, address: Address | Sentinels | Cluster) -> None:
    assert read_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://:s3cret@cache",
        "cache:6379",
        "redis://:s3cret@cache:port",
        "redis://:s3cret@cache/zero",
        "redis://:s3cret@[cache",
        "unix://",
        "redis+sentinel://:s3cret@a,b",
        "redis+cluster://:s3cret@a,b/1",
        "redis+cluster://:s3cret@",
        "redis+sentinel://:s3cret@a,/mymaster",
        "redis+sentinel://:s3cret@a:port/mymaster",
        "redis+sentinel://:s3cret@a/mymaster/zero",
        "rediss://:s3cret@cache?ssl_cert_reqs=sometimes",
    ],
)
def test_what_is_no_url_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"Redis|redis") as refused:
        read_url(url)
    assert "s3cret" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
