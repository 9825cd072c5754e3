"""The client programs as a run sees them: which there are, what each can do, and one of them while it runs.

A program takes one JSON object per line, and reports one per line; it holds any number of connections, each by a name.
So one process plays all the scenarios of its column. Knows command lines and reports; what a scenario makes of them is
`play`'s affair. Every wait for a report has a deadline, and what may wait to be read is bounded.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

import trio

from compat.pattern import Json, shown

START_LIMIT: Final = 60.0  # seconds for an interpreter or a browser to come up, however busy the machine is
LEAVE_LIMIT: Final = 5.0  # seconds to end
UNREAD_LIMIT: Final = 20_000  # reports of one connection that nobody has looked at

_HERE: Final = Path(__file__).parent
EVERYTHING: Final = frozenset({"headers", "subprotocols", "binary", "status", "messages", "codes", "large"})


class NoRuntimeError(Exception):
    """This kind of client can't run here; the text says what is missing."""


class BrokenClientError(Exception):
    """The client program ended, or floods its reports; the text says which."""


@dataclass(frozen=True)
class Kind:
    """One column: its name, what it is, what it can do of what scenarios may need, and how it is started."""

    name: str
    what: str
    can: frozenset[str]
    command: Callable[[], list[str]]


def _python(module: str, *packages: str) -> Callable[[], list[str]]:
    def command() -> list[str]:
        for package in packages:
            if find_spec(package) is None:
                raise NoRuntimeError(f"the Python package {package} is not installed")
        return [sys.executable, "-m", f"compat.python.{module}"]

    return command


def _curl() -> list[str]:
    if shutil.which("curl") is None:
        raise NoRuntimeError("there is no `curl` on the PATH")
    return [sys.executable, "-m", "compat.python.curl_client"]


def _wscat() -> list[str]:
    node = _node("", "wscat")()[0]
    return [
        sys.executable,
        "-m",
        "compat.python.tool_client",
        "wscat",
        node,
        str(_modules() / "wscat" / "bin" / "wscat"),
    ]


def _websocat() -> list[str]:
    found = shutil.which("websocat")
    if found is None:
        raise NoRuntimeError("there is no `websocat` on the PATH")
    return [sys.executable, "-m", "compat.python.tool_client", "websocat", found]


def _modules() -> Path:
    """The folder with the npm packages."""
    return Path(os.environ.get("COMPAT_NODE_MODULES") or "node_modules").absolute()


def _node(script: str, *packages: str) -> Callable[[], list[str]]:
    def command() -> list[str]:
        node = shutil.which("node")
        if node is None:
            raise NoRuntimeError("there is no `node` on the PATH: Node 20 or newer is needed")
        asked = subprocess.run(
            [node, "-p", "`${process.versions.node.split('.')[0]} ${typeof WebSocket}`"],
            capture_output=True, check=True, timeout=START_LIMIT,
        )  # fmt: skip
        major, websocket = asked.stdout.decode().split()
        modules = _modules()
        for package in packages:
            if not (modules / package / "package.json").is_file():
                raise NoRuntimeError(
                    f"the npm package {package} is not installed (COMPAT_NODE_MODULES names the folder)"
                )
        flags = node_flags(int(major), websocket)
        return [node, *flags, str(_HERE / "js" / script), *(str(modules / package) for package in packages)]

    return command


def node_flags(major: int, websocket: str) -> list[str]:
    """The flags that a Node needs for a WebSocket of its own.

    `websocket` is what `typeof WebSocket` gave without any. Raises NoRuntimeError where no flag helps.
    """
    if websocket == "function":
        return []
    if major < 20:
        raise NoRuntimeError(f"Node {major} has no WebSocket of its own: Node 20 or newer is needed")
    return ["--experimental-websocket", "--no-warnings"]


BARE: Final = "bare"
PAGE_LIKE: Final = EVERYTHING - {"headers", "status"}
KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind(BARE, "trio-websocket in the suite's own process", EVERYTHING, list),
        Kind("node", "JavaScript: Node's own fetch and WebSocket", PAGE_LIKE, _node("node_client.mjs")),
        Kind("ws", "JavaScript: the npm package ws", EVERYTHING, _node("ws_client.mjs", "ws")),
        Kind(
            "reconnecting-websocket",
            "JavaScript: the npm package reconnecting-websocket",
            PAGE_LIKE - {"binary"},
            _node("reconnecting_client.mjs", "reconnecting-websocket"),
        ),
        Kind("chromium", "a page in Chromium", PAGE_LIKE, _python("chromium_client", "playwright")),
        Kind("websockets", "Python: websockets on asyncio", EVERYTHING, _python("websockets_client")),
        Kind(
            "websockets-sync",
            "Python: websockets with threads, and requests",
            EVERYTHING,
            _python("sync_client", "requests"),
        ),
        Kind(
            "websocket-client",
            "Python: websocket-client, and urllib",
            EVERYTHING,
            _python("websocket_client_client", "websocket"),
        ),
        Kind("trio-websocket", "Python: trio-websocket, and httpx", EVERYTHING, _python("trio_websocket_client")),
        Kind("aiohttp", "Python: aiohttp for both", EVERYTHING, _python("aiohttp_client", "aiohttp")),
        Kind("curl", "curl: discovery, and how a handshake is answered", frozenset({"headers", "status"}), _curl),
        Kind("wscat", "the npm package wscat", EVERYTHING - {"subprotocols", "binary", "large"}, _wscat),
        Kind("websocat", "the command websocat", frozenset({"headers", "status", "messages"}), _websocat),
    )
}


class Client(Protocol):
    """A client program that runs."""

    runtime: str

    async def tell(self, command: Json) -> None:
        """Give it a command; raises BrokenClientError where it is gone. Cancelling may leave half a command."""

    def line(self, on: str) -> "Reports":
        """What it reports of the connection of that name."""


class Reports:
    """What is reported of one connection, in order."""

    def __init__(self) -> None:
        self._put, self._take = trio.open_memory_channel[Json](math.inf)

    def put(self, report: Json) -> None:
        """Add a report; beyond what may wait, the last place is for the complaint."""
        waiting = self._put.statistics().current_buffer_used
        if waiting < UNREAD_LIMIT:
            self._put.send_nowait(report)
        elif waiting == UNREAD_LIMIT:
            self._put.send_nowait({"event": "broken", "why": f"it sent {UNREAD_LIMIT} unexpected messages"})

    async def take(self, within: float) -> Json | None:
        """The next report; None where none comes in `within` seconds. Cancelling is safe."""
        with trio.move_on_after(within):
            return await self._take.receive()
        return None

    def at_hand(self) -> Json | None:
        """The next report, if it is there already."""
        try:
            return self._take.receive_nowait()
        except trio.WouldBlock:
            return None


class Lines:
    """The reports of a client's connections, by their names."""

    def __init__(self) -> None:
        self._lines: dict[str, Reports] = {}
        self._broken: str | None = None

    def line(self, on: str) -> Reports:
        """The reports of one connection."""
        if on not in self._lines:
            self._lines[on] = Reports()
            if self._broken is not None:
                self._lines[on].put({"event": "broken", "why": self._broken})
        return self._lines[on]

    def end(self, why: str) -> None:
        """Tell every connection, of now and later, that the program is gone."""
        self._broken = why
        for line in self._lines.values():
            line.put({"event": "broken", "why": why})


class ProcessClient:
    """A client program that is a process of its own; `running` starts and ends it."""

    def __init__(self, name: str, process: trio.Process) -> None:
        self.name = name
        self.runtime = ""
        self._process = process
        self._lines = Lines()
        self._started = trio.Event()
        self._stderr = b""
        self._sending = trio.Lock()

    @classmethod
    async def start(cls, kind: Kind, nursery: trio.Nursery) -> "ProcessClient":
        """Start a program and wait until it says so; raises NoRuntimeError where it can't run here."""
        command = await trio.to_thread.run_sync(kind.command)
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=_HERE.parent
        )
        client = cls(kind.name, process)
        nursery.start_soon(client._read_reports)
        nursery.start_soon(client._read_stderr)
        with trio.move_on_after(START_LIMIT):
            await client._started.wait()
        if not client.runtime:
            await client.leave()
            raise NoRuntimeError(f"the program doesn't start: {client._last_words()}")
        return client

    async def _read_reports(self) -> None:
        assert self._process.stdout is not None
        parts: list[bytes | bytearray] = []
        async for chunk in self._process.stdout:
            *whole, rest = bytes(chunk).split(b"\n")
            for line in whole:
                self._report(b"".join([*parts, line]))
                parts = []
            parts.append(rest)
        self._lines.end(f"the client program ended: {self._last_words()}")
        self._started.set()

    def _report(self, line: bytes) -> None:
        report = json.loads(line)
        if report["event"] == "started":
            self.runtime = report["runtime"]
            self._started.set()
        else:
            self._lines.line(report["on"]).put(report)

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for chunk in self._process.stderr:
            self._stderr = (self._stderr + chunk)[-4000:]

    def _last_words(self) -> str:
        lines = self._stderr.decode(errors="replace").strip().splitlines()
        return shown(lines[-1]) if lines else "it said nothing"

    async def tell(self, command: Json) -> None:
        assert self._process.stdin is not None
        try:
            async with self._sending:
                await self._process.stdin.send_all(json.dumps(command).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise BrokenClientError(f"the client program ended: {self._last_words()}") from error

    def line(self, on: str) -> Reports:
        return self._lines.line(on)

    async def leave(self) -> None:
        """Have the program end; kill it where it doesn't. Takes at most some seconds, when cancelled too."""
        assert self._process.stdin is not None
        with trio.CancelScope(shield=True):
            await self._process.stdin.aclose()
            with trio.move_on_after(LEAVE_LIMIT):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
