"""What must be so before a test can start: a gateway at the host that takes what the test shows it, and room for the
connections on this machine.

Knows the machine's limits and how a gateway answers. Each fault is one sentence that says what was wrong and what would
be right. A gateway that is only too busy to answer is none: how it does under load is what the test is to find out.
"""

from __future__ import annotations

import contextlib
import math
import resource
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from gevent.event import Event

from loadtest._api import Api, ApiError, parse_base_url
from loadtest._link import Link, LinkClosedError, LinkError, at_path, tls_context
from loadtest._publisher import CONNECTIONS
from loadtest._reactor import Reactor

_SPARE: Final = 128
"""Descriptors of a load process besides its connections."""
_MOST_ADDRESSES: Final = 200
_USABLE: Final = 0.8
"""Of the ports: others come and go too, and those of closed connections rest for a minute."""


def wrong_with_host(reactor: Reactor, host: str | None, timeout: float) -> str | None:
    """What is wrong with the gateway's address; None if a gateway answers there, one that is too busy included."""
    if not host:
        return "--host is missing: give the gateway's address, such as http://localhost:8000."
    try:
        api = Api(reactor, host, None, timeout)
    except ApiError as error:
        return f"--host is {error}."
    try:
        api.websocket_url()
    except ApiError as error:
        if "certificate" in str(error) or "hostname" in str(error).lower():
            paths = tls_context().cert_store_stats()["x509_ca"]
            return (
                f"The certificate at {host} is not trusted ({error}; {paths} authorities are): name its authority's "
                "file in SSL_CERT_FILE, or give the address that the certificate is for."
            )
        if error.status in (None, 400) and (scheme := _right_scheme(host, timeout)):
            return f"The address {host} fails ({error}): it is {scheme}:// there."
        if error.status is None:
            return f"Nobody is at {host} ({error}): start the gateway there, or give its address by --host."
        if error.status < 500 and error.status != 429:
            return f"What is at {host} is no gateway (discovery {error}): give the gateway's address by --host."
    finally:
        api.close()
    return None


def _right_scheme(host: str, timeout: float) -> str | None:
    """The scheme that --host should have, where it has the other one: found out by a TLS handshake."""
    address = parse_base_url(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((address.host, address.port), timeout) as sock:
            context.wrap_socket(sock, server_hostname=address.host).close()
    except ssl.SSLError as error:
        return "http" if address.secure and error.reason == "WRONG_VERSION_NUMBER" else None
    except OSError:
        return None
    return None if address.secure else "https"


class Door(NamedTuple):
    """Where one kind of users comes in: the path (None: that of discovery's address), the option that gives the secret
    which it shows, and the secret, if there is one. It shows it in the handshake; with `as_worker` it doesn't, but in
    `connect`, where a gateway takes the handshake key too."""

    path: str | None
    option: str
    secret: str | None
    as_worker: bool = False

    @property
    def in_handshake(self) -> str | None:
        """What it shows in the handshake."""
        return None if self.as_worker else self.secret


def wrong_with_key(reactor: Reactor, host: str, key: str | None, timeout: float) -> str | None:
    """Why a test that pushes can't; None if it can. Found out by pushing an empty list."""
    api = Api(reactor, host, key, timeout)
    try:
        api.push([])
    except ApiError as error:
        if error.status in (404, 405, 426):
            return (
                f"What is at {host} takes no pushes (it {error}): give the gateway's address for HTTP by --host, not "
                "that of a port for WebSockets."
            )
        if error.status in (401, 403):
            named = "the key of --api-key is refused" if key else "--api-key is missing"
            return (
                f"The gateway at {host} lets this test push nothing, since {named} (it answered {error.status}): give "
                "one of its PORTICO_API_KEYS, of scope publish, by LOADTEST_API_KEY, or push nothing (--push-rate 0 "
                "--broadcast-rate 0)."
            )
    finally:
        api.close()
    return None


def wrong_with_doors(reactor: Reactor, host: str, doors: Iterable[Door], name: str, timeout: float) -> str | None:
    """Why one of these kinds of users can't come in; None if they can. Found out by a handshake of each, and by what
    C-Clients and workers say first, under this name.
    """
    api = Api(reactor, host, None, timeout)
    try:
        there = str(api.websocket_url().content)
    except ApiError:
        return None  # `wrong_with_host` judges that
    finally:
        api.close()
    for door in dict.fromkeys(doors):
        url = there if door.path is None else at_path(there, door.path.format(name=name))
        try:
            refusal = _refusal(reactor, url, door, name, timeout)
        except LinkError as error:
            if error.nobody:
                return (
                    f"The gateway at {host} says that its WebSockets are at {there}, and nobody is there ({error}): "
                    "start that process, or set PORTICO_PUBLIC_WEBSOCKET_URL to where they are."
                )
            if error.status == 404:
                return f"There is no {url} ({error}): give the gateway's address by --host."
            refusal = str(error) if error.status in (401, 403) else None
        if refusal is not None:
            variable = "LOADTEST_" + door.option.removeprefix("--").replace("-", "_").upper()
            named = f"what {door.option} gives is refused" if door.secret else f"{door.option} is missing"
            return f"Nobody gets in at {url}, since {named} ({refusal}): give one that is valid there by {variable}."
    return None


def _refusal(reactor: Reactor, url: str, door: Door, name: str, timeout: float) -> str | None:
    """How a registration is refused; None where it isn't, where nothing is answered, or where nobody registers. Raises
    LinkError."""
    shown: dict[str, object] = {"token": door.secret} if door.secret else {}
    first: dict[str, object]
    if door.path is None:
        first = {"type": "c_client_register", "client_id": name, "user_id": name, "username": name, **shown}
    else:
        # Of a command that nobody asks for.
        worker = {"client_id": name, "role": "worker", "commands": ["load_test_preflight"], **shown}
        first = {"type": "connect", "data": worker}
    link = Link.open(reactor, url, timeout, token=door.in_handshake)
    try:
        if door.path is not None and not door.as_worker:
            return None
        answer = _Answer(name)
        link.attach(answer)
        link.send(msgspec.json.encode(first))
        answer.came.wait(timeout)
        reason = answer.reason
        return f"the registration was rejected: {reason!a}" if reason in ("unauthorized", "forbidden") else None
    finally:
        link.close(timeout)


class _Answer:
    """Waits for what a link says to a registration under this name; why it is refused, if it is."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.came = Event()
        self.reason: str | None = None

    def on_message(self, payload: bytes, arrived: float, *, binary: bool) -> None:
        if self.came.is_set():
            return
        with contextlib.suppress(msgspec.MsgspecError):
            said = msgspec.json.decode(payload, type=_Said)
            if said.type == "connect" and said.data.client_id != self._name:
                return  # what a worker is greeted with
            self.reason = said.reason or said.data.code
        self.came.set()

    def on_closed(self, error: LinkClosedError) -> None:
        self.came.set()


class _Data(msgspec.Struct):
    client_id: str | None = None
    code: str | None = None


class _Said(msgspec.Struct):
    """Of a `registration_rejected` the `reason`; of an envelope, such as `error` or `connect`, the `data`."""

    type: str
    reason: str | None = None
    data: _Data = msgspec.field(default_factory=_Data)


def wrong_with_room(host: str, users: int, processes: int, machines: bool) -> str | None:
    """What this machine lacks for that many users; None if nothing.

    Args:
        host: the gateway's base URL.
        users: how many there will be at most.
        processes: how many load processes share them.
        machines: whether they may be on several machines, whose ports nobody here can count.
    """
    share = math.ceil(users / processes)
    needed = share + CONNECTIONS + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            room = max(0, hard - CONNECTIONS - _SPARE)
            several = math.ceil(users / room) if room else 0
            return (
                f"{users} users in {processes} process{'es' * (processes > 1)} need {needed} file descriptors each, "
                f"and {hard} are allowed: raise the limit (ulimit -Hn {needed})"
                + (f", or share them among --processes {several}" if several else "")
                + (f", or ask for at most {room * processes} users." if room else ".")
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    if not machines and not is_loopback(host) and users > (room := usable_ports()):
        return (
            f"{users} users need as many local ports, and this machine has {room} for one gateway: widen "
            "net.ipv4.ip_local_port_range, spread the load over more machines (--master, --worker), or ask for at most "
            f"{room} users."
        )
    if is_loopback(host) and source_addresses(host, users) > _MOST_ADDRESSES:
        return (
            f"{users} users are more than loopback has ports for: ask for at most {usable_ports() * _MOST_ADDRESSES}."
        )
    return None


def source_addresses(host: str, users: int) -> int:
    """How many local addresses that many connections to that host must come from: several, on loopback, where the ports
    of one are not enough.
    """
    return max(1, math.ceil(users / usable_ports())) if is_loopback(host) else 1


def is_loopback(host: str) -> bool:
    """Whether that base URL is this machine's IPv4 loopback."""
    try:
        name = parse_base_url(host).host
    except ApiError:
        return False
    return name == "localhost" or name.startswith("127.")


def usable_ports() -> int:
    """How many connections one local address can have to one port."""
    try:
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        low, high = 49152, 65535
    return int((high - low + 1) * _USABLE)
