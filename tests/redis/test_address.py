"""The address of one Redis: what is said to it first, and that its password is shown nowhere."""

from service.redis.address import Address
from service.redis.urls import read_address, read_url


def test_the_greeting() -> None:
    setname = ["CLIENT", "SETNAME", "me"]
    assert Address().greeting("me") == [setname]
    assert Address(password="p", db=2).greeting("me") == [["AUTH", "p"], ["SELECT", 2], setname]
    assert Address(username="u", password="p").greeting("me") == [["AUTH", "u", "p"], setname]


def test_nobody_sees_the_password() -> None:
    address = read_url("redis://node:s3cret@cache:6380/1")
    assert "s3cret" not in repr(address)
    assert str(address) == "cache:6380"
    assert str(read_url("redis://:s3cret@[::1]")) == "[::1]:6379"
    sentinels = read_url("redis+sentinel://:s3cret@a,b/mymaster?sentinel_password=s3cret")
    assert "s3cret" not in repr(sentinels)
    assert str(sentinels) == "mymaster (a:26379, b:26379)"


def test_certificates_are_checked_unless_told_otherwise() -> None:
    checked = read_address("rediss://cache").tls
    assert checked is not None
    assert checked.check_hostname
    assert checked.verify_mode.name == "CERT_REQUIRED"
    unchecked = read_address("rediss://cache?ssl_cert_reqs=none").tls
    assert unchecked is not None
    assert unchecked.verify_mode.name == "CERT_NONE"
    assert read_address("redis://cache").tls is None
