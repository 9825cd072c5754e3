"""`portico worker module:name --reload`: each change of the file is a worker anew."""

import signal
from functools import partial
from pathlib import Path

import trio

from tests.cli.running import BARE, PORTICO
from tests.cli.test_worker import greet
from tests.portico.client.fake_gateway import Peer, fake_gateway


async def test_a_change_starts_the_worker_anew_and_a_broken_file_waits_for_the_next(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def first(data): return 1\nworker = first\n")
    commands: list[list[str]] = []
    names: list[str] = []
    came = trio.Event()

    async def script(peer: Peer) -> None:
        nonlocal came
        about = await greet(peer)
        commands.append(about["commands"])
        names.append(about["client_id"])
        came.set()
        came = trio.Event()
        while (message := await peer.next())["type"] != "disconnect":
            if message["type"] == "heartbeat":
                await peer.say({"type": "heartbeat", "data": {}})

    async def until(count: int) -> None:
        while len(commands) < count:
            await came.wait()

    said = b""
    waiting = trio.Event()

    async def read(process: trio.Process) -> None:
        nonlocal said
        assert process.stderr is not None
        async for part in process.stderr:
            said += part
            if b"waiting for a change" in said:
                waiting.set()

    async with fake_gateway(script) as gateway, trio.open_nursery() as nursery:
        words = ["worker", "mine", "--url", gateway.url, "--name", "w1", "--reload"]
        start = partial(trio.run_process, [*PORTICO, *words], cwd=tmp_path, stderr=-1, check=False, env=BARE)
        process = await nursery.start(start)
        nursery.start_soon(read, process)
        with trio.fail_after(60):
            await until(1)
            file.write_text("def second(data: return 2\n")
            await waiting.wait()
            file.write_text("def second(data): return 2\nworker = second\n")
            await until(2)
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0, said.decode()
    assert commands == [["first"], ["second"]]
    assert names == ["w1"] * 2
    assert b"changed: mine.py" in said
    assert b"SyntaxError" in said
