"""The connections of a scenario: how they are left."""

import pytest
import trio
from trio.testing import MockClock

from compat.clients import BrokenClientError, Lines, Reports
from compat.connections import Connections
from compat.deployment import Target
from compat.pattern import Json


class Program:
    """A client program whose connections close `slow` seconds after it was told so."""

    runtime = ""

    def __init__(self, nursery: trio.Nursery, slow: float) -> None:
        self.lines = Lines()
        self.gone = False
        self._nursery = nursery
        self._slow = slow

    def line(self, on: str) -> Reports:
        return self.lines.line(on)

    async def tell(self, command: Json) -> None:
        if self.gone:
            raise BrokenClientError("it is gone")
        self._nursery.start_soon(self._close, command["on"])

    async def leave(self) -> None: ...

    async def _close(self, on: str) -> None:
        await trio.sleep(self._slow)
        self.line(on).put({"event": "text", "text": "{}"})  # what was on its way
        self.line(on).put({"event": "closed", "code": 1000, "reason": ""})


@pytest.mark.parametrize(("until_closed", "seconds"), [(True, 3.0), (False, 0.0)])
async def test_a_worker_is_waited_for_until_the_gateway_has_closed_it(
    autojump_clock: MockClock, *, until_closed: bool, seconds: float
) -> None:
    async with trio.open_nursery() as nursery:
        program = Program(nursery, slow=3.0)
        connections = Connections(program, Target("http://127.0.0.1:1"), "run")
        for who in ("w", "v"):
            program.line(connections[who].on).put({"event": "open", "protocol": ""})
            await connections.report(who, "connection")
        assert connections["never opened"].over is False
        begun = trio.current_time()
        await connections.leave(until_closed=until_closed)
        assert trio.current_time() - begun == pytest.approx(seconds)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("told", [False, True])
async def test_a_program_that_is_gone_is_waited_for_by_nobody(autojump_clock: MockClock, *, told: bool) -> None:
    async with trio.open_nursery() as nursery:
        program = Program(nursery, slow=3.0)
        connections = Connections(program, Target("http://127.0.0.1:1"), "run")
        program.line(connections["w"].on).put({"event": "open", "protocol": ""})
        await connections.report("w", "connection")
        if told:
            program.lines.end("it ended")
        else:
            program.gone = True
        with trio.fail_after(1):
            await connections.leave(until_closed=True)
        nursery.cancel_scope.cancel()
