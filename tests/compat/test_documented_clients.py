import sys

import pytest
import trio

from compat.clients import NoRuntimeError, node_flags
from compat.outcome import UnmetError

from .documented_clients import LoneClient

STARTED = "import json, sys\ndef say(**r): print(json.dumps(r), flush=True)\nsay(event='started')\n"


async def start(nursery: trio.Nursery, script: str, timeout: float = 20.0) -> LoneClient:
    return await LoneClient.start("it", [sys.executable, "-c", STARTED + script], [], timeout=timeout, nursery=nursery)


def test_node_gets_the_flag_only_where_it_wants_it() -> None:
    assert node_flags(20, "undefined") == ["--experimental-websocket", "--no-warnings"]
    assert node_flags(20, "function") == []
    assert node_flags(22, "function") == []
    with pytest.raises(NoRuntimeError, match="Node 18 has no WebSocket"):
        node_flags(18, "undefined")


async def test_reports_are_handed_out_once_and_in_any_order() -> None:
    async with trio.open_nursery() as nursery:
        script = "for n in (1, 2, 1): say(event='message', message={'type': 'a', 'n': n})\nsys.stdin.read()"
        program = await start(nursery, script)
        assert (await program.message("a", n=2))["n"] == 2
        assert [(await program.message("a", n=1))["n"] for _ in range(2)] == [1, 1]
        assert [message["n"] for message in program.messages()] == [1, 2, 1]
        await program.leave()


async def test_what_does_not_come_in_time_is_named_with_the_last_report() -> None:
    async with trio.open_nursery() as nursery:
        program = await start(nursery, "say(event='open')\nsys.stdin.read()", timeout=0.5)
        await program.take("opening", lambda report: report["event"] == "open", within=60)
        with pytest.raises(
            UnmetError, match=r'^it got no kick, n 1 within 0.5 s; its last report was {"event": "open"}$'
        ):
            await program.message("kick", n=1)
        await program.leave()


async def test_a_program_that_ends_instead_is_quoted() -> None:
    async with trio.open_nursery() as nursery:
        program = await start(nursery, "sys.exit('The house is closed.')")
        with pytest.raises(UnmetError, match=r'^it ended while a was awaited: "The house is closed."$'):
            await program.message("a")
        await program.leave()


async def test_a_program_that_does_not_start_is_quoted() -> None:
    async with trio.open_nursery() as nursery:
        command = [sys.executable, "-c", "import sys; sys.exit('No.')"]
        with pytest.raises(UnmetError, match=r'^it ended while its start was awaited: "No."$'):
            await LoneClient.start("it", command, [], timeout=20, nursery=nursery)


async def test_another_close_code_is_named() -> None:
    async with trio.open_nursery() as nursery:
        program = await start(nursery, "say(event='closed', code=1000, reason='')\nsys.stdin.read()")
        with pytest.raises(UnmetError, match="closed with 1000 instead of 4010"):
            await program.closed(4010)
        await program.leave()


async def test_giving_up_with_exit_code_0_is_a_fault() -> None:
    async with trio.open_nursery() as nursery:
        bad = await start(nursery, "say(event='failed', sentence='No.')")
        good = await start(nursery, "say(event='failed', sentence='No.')\nsys.exit(1)")
        with pytest.raises(UnmetError, match="yet exited with 0"):
            await bad.failed()
        assert await good.failed() == "No."
        await bad.leave()
        await good.leave()


async def test_commands_reach_the_program() -> None:
    async with trio.open_nursery() as nursery:
        program = await start(nursery, "say(event='message', message=json.loads(input()))")
        await program.tell("heartbeat", type="heartbeat")
        assert await program.message("heartbeat") == {"do": "heartbeat", "type": "heartbeat"}
        await program.leave()
