"""Ways of deploying a gateway, as the compatibility suite is told of them: started for the matrix and for its tests."""

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from compat.script import read
from tests.backplane.redis_server import RedisServer
from tests.gateways import free_ports, gateway, own_address
from tests.split.deployment import deployment
from tests.test_docs_nginx import configuration, http_once_up, nginx
from tests.test_docs_nginx import settings as nginx_settings
from tests.tokens.signing import SECRET, token

Live = tuple[str, tuple[str, ...]]
"""A deployment's base URL, and what else the suite is told of it."""

KEY: Final = "the-key-of-the-matrix"
OPEN: Final = {"PORTICO_OPEN_REQUESTERS": "true", "PORTICO_OPEN_USERS": "true"}
PRODUCTION: Final = {"ENVIRONMENT": "production", "WEBSOCKET_HANDSHAKE_KEY": KEY, "PORTICO_API_KEYS": KEY, **OPEN}
IDLE: Final = 8
"""Seconds after which a proxy cuts what is silent, where `OFTEN` says how often the gateway pings: as 55 are to 25, and
with more to spare for a machine that is busy."""
OFTEN: Final = {"PORTICO_PING_INTERVAL": 1}


def tokens_are(auth: str) -> dict[str, Any]:
    """The settings of a gateway that looks at our tokens."""
    return {"PORTICO_AUTH": auth, "PORTICO_JWT_SECRET": SECRET}


def admin_token() -> str:
    """One that may be anybody, for an hour."""
    return token(sub="compat-admin", role="admin", exp=int(time.time()) + 3600)


def about(*needs: str) -> tuple[str, ...]:
    """The options that choose the scenarios that need one of these."""
    return "--only", ",".join(row.name for row in read() if row.needs & set(needs))


def forgetting(redis: RedisServer) -> str:
    """A command that has a Redis forget everything."""
    program = f"import socket; s = socket.create_connection(('127.0.0.1', {redis.port})); s.sendall(b'FLUSHALL\\r\\n')"
    return shlex.join([sys.executable, "-c", f"{program}; exit(s.recv(5) != b'+OK\\r\\n')"])


@contextmanager
def one(folder: Path, *arguments: str, mode: str = "integrated", **started: Any) -> Iterator[Live]:
    """One process, in the given mode; `started` is `gateway`'s."""
    with gateway(folder, mode=mode, **started) as live:
        yield live.base_url, ("--mode", mode, *arguments)


@contextmanager
def several(folder: Path) -> Iterator[Live]:
    """`portico serve --workers 2`, on one port, with a Redis."""
    redis = RedisServer(folder / "redis")
    redis.start()
    try:
        with one(folder, settings={"REDIS_URL": redis.url, "PORTICO_WORKERS": 2}) as (base_url, arguments):
            yield base_url, (*arguments, "--lose-history", forgetting(redis))
    finally:
        redis.kill()


@contextmanager
def split(folder: Path) -> Iterator[Live]:
    """An API node, two for WebSockets, and a Redis."""
    with deployment(folder, nodes=2) as made:
        yield made.api.base_url, ("--mode", "split", "--lose-history", forgetting(made.redis))


@contextmanager
def without_a_port(folder: Path) -> Iterator[Live]:
    """A base URL that names no port, for the clients that put one behind it: on port 80, which takes root."""
    with one(folder, *about("plain"), host=own_address(), port=80) as live:
        yield live


@contextmanager
def behind_nginx(folder: Path) -> Iterator[Live]:
    """TLS by a real nginx, with the configuration of its guide, and the guide's settings for production; but for how
    long either may say nothing."""
    given = nginx_settings()
    keys = ("--api-key", given["PORTICO_API_KEYS"], "--handshake-key", given["WEBSOCKET_HANDSHAKE_KEY"])
    (listen,) = free_ports(1)
    with one(folder, settings={**given, **OPEN, **OFTEN}) as (base_url, arguments):
        site = configuration({"8000": int(base_url.rpartition(":")[2])}, listen, folder, restart=False)
        assert site.count(" 75s;") == 2
        with nginx(site.replace(" 75s;", f" {IDLE}s;"), folder), http_once_up(f"https://127.0.0.1:{listen}"):
            certificate = ("--ca", str(folder / "gw.example.com.pem"))
            yield f"https://127.0.0.1:{listen}", (*arguments, *keys, *certificate, "--idle-timeout", str(IDLE))
