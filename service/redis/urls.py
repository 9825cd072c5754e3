"""The URLs that say where Redis is, as operators and platforms write them.

Knows their forms and nothing of connections. What is no such URL is a ValueError, whose sentence does not repeat it:
there may be a password in it.
"""

import re
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from .address import DEFAULT_PORT, VERIFY, Address
from .cluster import Cluster
from .sentinel import Sentinels

SENTINEL_PORT: Final = 26379
_SENTINEL: Final = ("redis+sentinel", "rediss+sentinel")
_CLUSTER: Final = ("redis+cluster", "rediss+cluster")


def read_url(url: str) -> Address | Sentinels | Cluster:
    """What a URL of Redis names: one Redis, the sentinels of one, or nodes of a cluster."""
    scheme = url.partition("://")[0]
    if scheme in _SENTINEL:
        return _read_sentinels(url)
    return _read_cluster(url) if scheme in _CLUSTER else read_address(url)


def read_address(url: str) -> Address:
    """The one Redis in a `redis://`, `rediss://` or `unix://` URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise ValueError("The URL of Redis has no valid host and port.") from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("A unix:// URL names the socket of Redis: unix:///run/redis/redis.sock.")
        return Address(
            path=unquote(parts.path), username=username, password=password, db=_database(query.get("db", ""))
        )
    if parts.scheme not in ("redis", "rediss"):
        raise ValueError(
            "The URL of Redis starts with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://."
        )
    return Address(
        host=unquote(parts.hostname) if parts.hostname else "localhost",
        port=port,
        username=username,
        password=password,
        db=_database(query.get("db", parts.path.strip("/"))),
        tls_options=_tls_options(query) if parts.scheme == "rediss" else None,
    )


def _read_sentinels(url: str) -> Sentinels:
    """`redis+sentinel://[user:password@]host[:port],…/master[/db][?sentinel_username=…&sentinel_password=…]`; with
    `rediss`, TLS to the sentinels as to the master."""
    common, places, path, query = _read_several(url, SENTINEL_PORT)
    name, _, db = path.partition("/")
    if not name:
        raise ValueError("A URL of sentinels of Redis names their master: redis+sentinel://a:26379,b:26379/mymaster.")
    ask = replace(common, username=query.get("sentinel_username"), password=query.get("sentinel_password"))
    return Sentinels(
        [replace(ask, host=host, port=port) for host, port in places],
        unquote(name),
        replace(common, db=_database(query.get("db", db))),
    )


def _read_cluster(url: str) -> Cluster:
    """`redis+cluster://[user:password@]host[:port],…`; with `rediss`, TLS to all of them."""
    common, places, path, _ = _read_several(url, DEFAULT_PORT)
    if path not in ("", "0"):
        raise ValueError("A Redis Cluster has only the database 0, and its URL ends with the hosts.")
    return Cluster([replace(common, host=host, port=port) for host, port in places])


def _read_several(url: str, default_port: int) -> tuple[Address, list[tuple[str, int]], str, dict[str, str]]:
    """What is the same at all places that a URL names, the places, its path and its options."""
    scheme, _, rest = url.partition("://")
    netloc = re.split("[/?#]", rest, maxsplit=1)[0]
    user, _, hosts = netloc.rpartition("@")
    username, _, password = user.partition(":")
    try:
        parts = urlsplit("//several" + rest[len(netloc) :])
        # One host at a time, as it would stand in a URL of its own.
        each = [urlsplit(f"//{host}") for host in hosts.split(",")]
        places = [(unquote(one.hostname or ""), one.port or default_port) for one in each]
    except ValueError:
        places = []
    if not places or not all(host for host, _ in places):
        raise ValueError("The URL of Redis has no valid hosts and ports: it names them as a:6379,b:6379.")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    common = Address(
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls_options=_tls_options(query) if scheme.startswith("rediss") else None,
    )
    return common, places, parts.path.strip("/"), query


def _tls_options(query: dict[str, str]) -> tuple[tuple[str, str], ...]:
    if query.get("ssl_cert_reqs", "none") not in VERIFY:
        raise ValueError("ssl_cert_reqs, in the URL of Redis, is none, optional or required.")
    return tuple((name, value) for name, value in query.items() if name.startswith("ssl_"))


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("The URL of Redis ends in the number of a database, such as /0.")
    return int(text or 0)
