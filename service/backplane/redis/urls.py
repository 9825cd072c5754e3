"""The URLs that say where Redis is, as operators and platforms write them.

Knows their forms and nothing of connections. What is no such URL is a ValueError, whose sentence does not repeat it:
there may be a password in it.
"""

import re
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from .address import DEFAULT_PORT, VERIFY, Address
from .sentinel import Sentinels

SENTINEL_PORT: Final = 26379
_SENTINEL: Final = ("redis+sentinel", "rediss+sentinel")


def read_url(url: str) -> Address | Sentinels:
    """What a URL of Redis names: one Redis, or the sentinels of one."""
    return _read_sentinels(url) if url.partition("://")[0] in _SENTINEL else read_address(url)


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
        raise ValueError("The URL of Redis starts with redis://, rediss://, unix://, or redis+sentinel://.")
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
    try:
        scheme, _, rest = url.partition("://")
        netloc = re.split("[/?#]", rest, maxsplit=1)[0]
        user, _, hosts = netloc.rpartition("@")
        parts = urlsplit("//sentinels" + rest[len(netloc) :])
        # One host at a time, as it would stand in a URL of its own.
        places = [urlsplit(f"//{host}") for host in hosts.split(",")]
        sentinels = [(unquote(place.hostname or ""), place.port or SENTINEL_PORT) for place in places]
    except ValueError:
        raise ValueError("The URL of the sentinels of Redis has no valid hosts and ports.") from None
    name, _, db = parts.path.strip("/").partition("/")
    if not name or not all(host for host, _ in sentinels):
        raise ValueError("A URL of sentinels names them and their master: redis+sentinel://a:26379,b:26379/mymaster.")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    tls_options = _tls_options(query) if scheme == "rediss+sentinel" else None
    username, _, password = user.partition(":")
    master = Address(
        username=unquote(username) or None,
        password=unquote(password) or None,
        db=_database(query.get("db", db)),
        tls_options=tls_options,
    )
    return Sentinels(
        [
            Address(
                host,
                port,
                username=query.get("sentinel_username"),
                password=query.get("sentinel_password"),
                tls_options=tls_options,
            )
            for host, port in sentinels
        ],
        unquote(name),
        master,
    )


def _tls_options(query: dict[str, str]) -> tuple[tuple[str, str], ...]:
    if query.get("ssl_cert_reqs", "none") not in VERIFY:
        raise ValueError("ssl_cert_reqs, in the URL of Redis, is none, optional or required.")
    return tuple((name, value) for name, value in query.items() if name.startswith("ssl_"))


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("The URL of Redis ends in the number of a database, such as /0.")
    return int(text or 0)
