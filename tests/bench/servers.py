"""The servers that are compared: how each is started, and where it takes what.

Portico runs as in production with rates off, its log going to a file. The peers are programs of
their own below `peers/` and `node/`, each the plain one that its documentation shows.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tests.gateways import BIN, clean_environment, free_ports

from . import environment, tokens
from .environment import PYTHON, Unavailable

KEY: Final = "bench-0123456789abcdef"
_PEERS: Final = Path(__file__).parent / "peers"
_UP_LIMIT: Final = 30.0
_STARTS: Final = 3


@dataclass(frozen=True)
class Server:
    """One that is compared. `rows`: what it can do; `command` makes its command line, given its ports.

    `tokens`: whether it requires some, of clients that keep theirs when they come again, or have a new one each time.
    """

    name: str
    rows: frozenset[str]
    command: Callable[[Sequence[int]], list[str]]
    portico: bool = False
    tokens: Literal["none", "kept", "new"] = "none"
    one_port: bool = False
    socketio: bool = False
    http: bool = False

    @property
    def label(self) -> str:
        """What people call it."""
        return _LABELS[self.name]

    @property
    def path(self) -> str:
        """Where clients connect."""
        return "/socket.io/?EIO=4&transport=websocket" if self.socketio else "/ws"


@dataclass(frozen=True)
class Up:
    """A server that is up."""

    server: Server
    pid: int
    http_port: int
    port: int

    def url(self, path: str | None = None) -> str:
        """Where to connect."""
        return f"ws://127.0.0.1:{self.port}{self.server.path if path is None else path}"

    def order(self) -> dict[str, Any]:
        """What every row's load needs to know of it."""
        return {"server_pid": self.pid, "url": self.url(), "socketio": self.server.socketio}


def _portico(ports: Sequence[int]) -> list[str]:
    return [str(BIN / "portico"), "serve"]


def _hypercorn(ports: Sequence[int]) -> list[str]:
    return [str(BIN / "hypercorn"), "-k", "trio", "service.asgi:app", "--bind", f"127.0.0.1:{ports[0]}"]


def _program(name: str, *arguments: str) -> Callable[[Sequence[int]], list[str]]:
    return lambda ports: [str(PYTHON), str(_PEERS / f"{name}.py"), str(ports[0]), *arguments]


def _quart(ports: Sequence[int]) -> list[str]:
    program = str(PYTHON.parent / "hypercorn")
    return [program, "-k", "trio", "quart_server:app", "--bind", f"127.0.0.1:{ports[0]}"]


def _node(ports: Sequence[int]) -> list[str]:
    return [environment.node(), str(environment.NODE / "server.mjs"), str(ports[0])]


_SOCKETS: Final = frozenset({"fanout", "fanout1", "heartbeat", "heartbeat128", "connect", "memory"})
_WORK: Final = _SOCKETS | {"dispatch"}
_HTTP: Final = frozenset({"publish", "push1", "discover", "arrive"})
_ALL: Final = _WORK | {"flood", "crowd", "comeback"} | _HTTP

_JSON: Final = _program("websockets_server", "json")
_MSGSPEC: Final = _program("websockets_server", "msgspec")
_LABELS: Final = {
    "portico": "Portico, a port of its own",
    "door": "Portico, front door (hypercorn -k trio)",
    "serve": "Portico, front door (portico serve)",
    "tokens": "Portico, tokens required, kept by clients (EdDSA)",
    "new-tokens": "Portico, tokens required, a new one each time (EdDSA)",
    "websockets": "websockets + uvloop + json",
    "websockets-msgspec": "websockets + uvloop + msgspec",
    "fastapi": "FastAPI + uvicorn + uvloop + httptools",
    "socketio": "python-socketio + uvicorn + uvloop",
    "quart": "Quart-trio (hypercorn -k trio)",
    "node": "Node ws",
    "socketify": "socketify (uWebSockets)",
    "picows": "picows + uvloop",
}

SERVERS: Final = (
    Server("portico", _ALL, _portico, portico=True, http=True),
    Server("door", _ALL, _hypercorn, portico=True, one_port=True, http=True),
    Server("serve", _HTTP | {"connect", "fanout1", "comeback"}, _portico, portico=True, one_port=True, http=True),
    Server("tokens", frozenset({"connect"}), _portico, portico=True, tokens="kept"),
    Server("new-tokens", frozenset({"connect"}), _portico, portico=True, tokens="new"),
    Server("websockets", _WORK, _JSON),
    Server("websockets-msgspec", frozenset({"dispatch"}), _MSGSPEC),
    Server("fastapi", _SOCKETS | _HTTP, _program("fastapi_server"), http=True),
    Server("socketio", _SOCKETS, _program("socketio_server"), socketio=True),
    Server("quart", _SOCKETS | {"discover", "arrive"}, _quart),
    Server("node", _WORK, _node),
    Server("socketify", _SOCKETS, _program("socketify_server")),
    Server("picows", _SOCKETS, _program("picows_server")),
)


def _settings(server: Server, ports: Sequence[int], folder: Path) -> dict[str, object]:
    if not server.portico:
        return {"PYTHONPATH": str(_PEERS)}
    required = {}
    if server.tokens != "none":
        tokens.write_public_key(folder / "keys.pem")
        required = {"PORTICO_AUTH": "required", "PORTICO_JWT_PUBLIC_KEYS": folder / "keys.pem"}
    return {
        **required,
        "ENVIRONMENT": "production",
        "PORTICO_OPEN_REQUESTERS": "true",
        "PORTICO_OPEN_USERS": "true",
        "HOST": "127.0.0.1",
        "PORT": ports[0],
        "WEBSOCKET_PORT": "same" if server.one_port else ports[1],
        "PORTICO_API_KEYS": KEY,
        "WEBSOCKET_HANDSHAKE_KEY": KEY,
        "PORTICO_MAX_MESSAGES_PER_SECOND": 0,
        "PORTICO_MAX_BYTES_PER_SECOND": 0,
        "PORTICO_DRAIN_SECONDS": 0,
    }


@contextmanager
def running(server: Server, core: int | None, folder: Path) -> Iterator[Up]:
    """The server, up while the block runs, on that core. Raises Unavailable, with its last words, if it won't."""
    for attempt in range(1, _STARTS + 1):
        ports = free_ports(2)
        log = folder / f"{server.name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                server.command(ports),
                cwd=folder,
                env=clean_environment(**_settings(server, ports, folder)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        up = Up(server, process.pid, ports[0], ports[0] if not server.portico or server.one_port else ports[1])
        try:
            if _wait_for(process, {up.port, up.http_port}):
                yield up
                return
        finally:
            _end(process)
        if attempt == _STARTS:
            said = log.read_text(errors="replace").strip().splitlines()
            raise Unavailable(f"{server.label} doesn't start: {said[-1] if said else 'it says nothing'}")


def _wait_for(process: "subprocess.Popen[bytes]", ports: set[int]) -> bool:
    give_up = time.monotonic() + _UP_LIMIT
    for port in ports:
        while True:
            try:
                # Until something is answered: a port may be open long before anybody is behind it (Hypercorn's is), and
                # what a server does to start is not the row's work.
                with socket.create_connection(("127.0.0.1", port), 1) as connection:
                    connection.settimeout(_UP_LIMIT)
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                    connection.recv(1)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > give_up:
                    return False
                time.sleep(0.05)
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        try:
            os.killpg(process.pid, sign)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
