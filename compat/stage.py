"""What a scenario plays on: the deployment, fresh names, and client programs of one kind.

Knows how programs are started and cleared away, and how a scenario makes sure that nothing more is on its way; it
knows no expectation of any scenario. Every name it hands out is unique to the run, so that a run doesn't meet others.
"""

import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio
import trio_websocket as tw

from compat.deployment import Deployment
from compat.expect import Json, UnmetError
from compat.program import LEAVE_LIMIT, Program


class Stage:
    """One scenario's stage; `command` starts a client program, and is empty for scenarios that need none."""

    def __init__(self, deployment: Deployment, prefix: str, command: list[str], nursery: trio.Nursery) -> None:
        self.deployment = deployment
        self.target = deployment.target
        self._prefix = prefix
        self._command = command
        self._nursery = nursery
        self._numbers = itertools.count(1)
        self._names = (f"client {number}" for number in itertools.count(1))
        self._programs: list[Program] = []

    def fresh(self, what: str) -> str:
        """A name that nobody else has."""
        return f"{self._prefix}-{what}{next(self._numbers)}"

    async def start(
        self,
        identity: Json | None = None,
        *,
        discovery: str = "websocket-info",
        address: str = "url",
        discover_only: bool = False,
        name: str | None = None,
    ) -> Program:
        """Start a client that is told to be `identity`; it may not be registered yet.

        `name` is what a failure calls it: client 1, client 2, … where it isn't given. Raises UnmetError.
        """
        told = {name: value for name, value in (identity or {}).items() if value is not None}
        arguments = ["--base-url", self.target.base_url, "--discovery", discovery, "--address", address]
        if discover_only:
            arguments.append("--discover-only")
        for option, value in told.items():
            arguments += ["--" + option.replace("_", "-"), value]
        program = await Program.start(
            name or next(self._names), self._command, arguments, timeout=self.target.timeout, nursery=self._nursery
        )
        program.identity = told
        self._programs.append(program)
        return program

    async def registered(self, name: str | None = None, /, **identity: str) -> Program:
        """A registered client; client_id and user_id are fresh where they aren't given. Raises UnmetError."""
        full: Json = {"client_id": self.fresh("client"), "user_id": self.fresh("user"), **identity}
        program = await self.start(full, name=name)
        await program.message("registration_success", client_id=full["client_id"])
        return program

    async def cast(self, *identities: Json) -> list[Program]:
        """Several registered clients, started at the same time, in the order given. Raises UnmetError."""
        programs: dict[int, Program] = {}
        faults: list[UnmetError] = []

        async def start(index: int, name: str, identity: Json) -> None:
            # Kept apart, so that the scenario fails with one sentence and not with a group of them.
            try:
                programs[index] = await self.registered(name, **identity)
            except UnmetError as fault:
                faults.append(fault)

        async with trio.open_nursery() as nursery:
            for index, identity in enumerate(identities):
                nursery.start_soon(start, index, next(self._names), identity)
        if faults:
            raise faults[0]
        return [programs[index] for index in range(len(identities))]

    async def settled(self, *programs: Program) -> None:
        """Wait until whatever was on its way to these clients has arrived.

        A marker is pushed to each one's user, behind everything that was accepted for that user before. Raises
        UnmetError where a marker doesn't come.
        """
        for user_id in dict.fromkeys(program.identity["user_id"] for program in programs):
            marker = self.fresh("marker")
            await self.deployment.push({"user_id": user_id}, marker, {})
            for program in programs:
                if program.identity["user_id"] == user_id:
                    await program.message(marker)

    @asynccontextmanager
    async def socket(
        self, url: str, *, headers: Iterable[tuple[str, str]] = ()
    ) -> AsyncIterator[tw.WebSocketConnection]:
        """A bare WebSocket for scenarios that speak another dialect; raises UnmetError where it doesn't open."""
        try:
            with trio.fail_after(self.target.timeout):
                connection = await tw.connect_websocket_url(
                    self._nursery, url, extra_headers=[(name.encode(), value.encode()) for name, value in headers]
                )
        except (OSError, ValueError, tw.HandshakeError, trio.TooSlowError) as error:
            raise UnmetError(f"{url} doesn't open: {error or type(error).__name__}") from error
        try:
            yield connection
        finally:
            with trio.move_on_after(LEAVE_LIMIT, shield=True):
                await connection.aclose()

    async def clear(self) -> None:
        """Have every program leave; takes at most a few seconds, even when cancelled."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for program in self._programs:
                    nursery.start_soon(program.leave)


def authorization(api_key: str | None) -> list[tuple[str, str]]:
    """The header with which a worker or back end shows its key, if there is one."""
    return [("Authorization", f"Bearer {api_key}")] if api_key else []
