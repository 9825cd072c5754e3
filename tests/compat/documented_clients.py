"""The three client programs that are documented as programs of their own, as processes of a test.

What a program reported is kept in order; `take` hands each report out once, and waiting for one has a deadline, so that
a test fails with a sentence instead of hanging. The scenarios of the suite are played by other programs, which hold
many connections each (`compat.clients`).
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import trio

from compat.clients import NoRuntimeError, node_flags
from compat.outcome import UnmetError
from compat.pattern import Json, shown
from tests.gateways import ROOT

KINDS: Final = ("js", "asyncio", "trio")
START_LIMIT: Final = 30.0  # seconds for an interpreter to come up, however busy the machine is
LEAVE_LIMIT: Final = 5.0  # seconds to close a connection properly


async def command(kind: str) -> list[str]:
    """The command line that starts a client of one of KINDS; raises NoRuntimeError."""
    if kind != "js":
        return [sys.executable, "-m", f"compat.python.{kind}_client"]
    node = shutil.which("node")
    if node is None:
        raise NoRuntimeError("there is no `node` on the PATH: Node 20 or newer is needed")
    asked = await trio.run_process(
        [node, "-p", "`${process.versions.node.split('.')[0]} ${typeof WebSocket}`"], capture_stdout=True
    )
    major, websocket = asked.stdout.decode().split()
    return [node, *node_flags(int(major), websocket), str(ROOT / "compat" / "js" / "c_client.mjs")]


class LoneClient:
    """One of them while it runs, with its one connection; made by `start`."""

    def __init__(self, name: str, process: trio.Process, timeout: float) -> None:
        self.name = name
        self.identity: Json = {}
        self._process = process
        self._timeout = timeout
        self._reports: list[Json] = []
        self._taken: set[int] = set()
        self._news = trio.Event()
        self._silent = False
        self._stderr = b""

    @classmethod
    async def start(
        cls, name: str, command: list[str], arguments: list[str], *, timeout: float, nursery: trio.Nursery
    ) -> "LoneClient":
        """Start a program and wait until it says so.

        `timeout` is in seconds, for each later `take`. Raises UnmetError where it doesn't come up.
        """
        process = await trio.lowlevel.open_process(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        program = cls(name, process, timeout)
        nursery.start_soon(program._read_reports)
        nursery.start_soon(program._read_stderr)
        try:
            await program.take("its start", lambda report: report["event"] == "started", within=START_LIMIT)
        except BaseException:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            raise
        return program

    async def _read_reports(self) -> None:
        rest = b""
        assert self._process.stdout is not None
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            self._reports.extend(json.loads(line) for line in lines)
            self._tell()
        self._silent = True
        self._tell()

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for chunk in self._process.stderr:
            self._stderr = (self._stderr + chunk)[-4000:]

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def take(self, what: str, fits: Callable[[Json], bool], *, within: float | None = None) -> Json:
        """Wait for the first report that fits and wasn't taken yet.

        `what` names it in the failure; `within` is in seconds, the program's own timeout otherwise. Raises UnmetError
        where it doesn't come in time or the program ends without it. Cancelling is safe: nothing is taken then.
        """
        limit = self._timeout if within is None else within
        seen = 0
        with trio.move_on_after(limit):
            while True:
                for index in range(seen, len(self._reports)):
                    if index not in self._taken and fits(self._reports[index]):
                        self._taken.add(index)
                        return self._reports[index]
                seen = len(self._reports)
                if self._silent:
                    raise UnmetError(f"{self.name} ended while {what} was awaited: {self._last_words()}")
                await self._news.wait()
        raise UnmetError(f"{self.name} got no {what} within {limit:g} s; its last report was {self._last_report()}")

    async def message(self, kind: str, **fields: object) -> Json:
        """Wait for a message of a type, with these values in it; raises UnmetError."""
        what = kind + "".join(f", {name} {shown(value)}" for name, value in fields.items())
        wanted = {"type": kind, **fields}

        def fits(report: Json) -> bool:
            message = report.get("message")
            return isinstance(message, dict) and all(message.get(name) == value for name, value in wanted.items())

        message: Json = (await self.take(what, fits))["message"]
        return message

    async def closed(self, code: int) -> None:
        """Wait until the gateway closes the connection, and see that it was with `code`; raises UnmetError."""
        report = await self.take(f"close with {code}", lambda report: report["event"] == "closed")
        if report["code"] != code:
            raise UnmetError(f"{self.name} was closed with {report['code']} instead of {code}")

    async def failed(self) -> str:
        """Wait until the program gives up; returns its sentence. Raises UnmetError where it goes on or exits with 0."""
        sentence: str = (await self.take("reason to give up", lambda report: report["event"] == "failed"))["sentence"]
        with trio.move_on_after(self._timeout):
            if await self._process.wait() == 0:
                raise UnmetError(f"{self.name} failed ({shown(sentence)}) and yet exited with 0")
            return sentence
        raise UnmetError(f"{self.name} failed ({shown(sentence)}) and yet goes on running")

    def messages(self) -> list[Json]:
        """Every message so far, taken or not, in the order in which they came."""
        return [report["message"] for report in self._reports if isinstance(report.get("message"), dict)]

    async def tell(self, do: str, **further: object) -> None:
        """Give the program a command; raises UnmetError where it is gone."""
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(json.dumps({"do": do, **further}).encode() + b"\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise UnmetError(f"{self.name} ended early: {self._last_words()}") from error

    async def leave(self) -> None:
        """Have the program close its connection and end; kill it where it doesn't."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with trio.move_on_after(LEAVE_LIMIT):
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _last_report(self) -> str:
        return shown(self._reports[-1]) if self._reports else "nothing"

    def _last_words(self) -> str:
        lines = self._stderr.decode(errors="replace").strip().splitlines()
        return shown(lines[-1]) if lines else self._last_report()
