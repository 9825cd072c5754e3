"""The transport contract: slow ones, floods and crowds."""

import os
from pathlib import Path

import trio

from portico.wire.frame import Frame

from .harness import (
    Harness,
    Options,
    flood,
    native_only,
    scripted,
    still_serves,
    until,
)
from .raw import (
    TEXT,
    Address,
    RawClient,
    close_frame,
    frame,
    upgrade,
)
from .script import Counts, Recorder, ScriptGate


class CrowdContract:
    """Part of TransportContract."""

    async def test_one_message_of_any_size_is_let_through(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        def script(recorder: Recorder, payload: bytes) -> None:
            recorder.peer.send(Frame(b"x" * 4_000_000))

        gate.make = scripted(script)
        async with (
            harness.serve(gate, counts, Options(outbound_limit=10_000)) as address,
            await RawClient.open(address) as client,
        ):
            await client.say("go")
            assert len(await client.message()) == 4_000_000
        assert counts.slow_closed == 0

    async def test_many_small_messages_to_one_that_reads(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        def script(recorder: Recorder, payload: bytes) -> None:
            for number in range(400):
                recorder.peer.send(Frame(b"%04d" % number + b"." * 96))

        gate.make = scripted(script)
        async with (
            harness.serve(gate, counts, Options(outbound_limit=100_000)) as address,
            await RawClient.open(address) as client,
        ):
            await client.say("go")
            assert [int((await client.message())[:4]) for _ in range(400)] == list(range(400))

    async def test_a_flood_and_a_bystander(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        native_only(harness, "fairness between connections is the server's")

        def script(recorder: Recorder, payload: bytes) -> None:
            if payload != b"f":
                recorder.peer.send(Frame(payload))

        gate.make = scripted(script)
        async with harness.serve(gate, counts, Options()) as address, trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(flood, await RawClient.open(address))
            async with await RawClient.open(address) as bystander:
                waits = []
                for _ in range(50):
                    start = trio.current_time()
                    await bystander.say("still served?")
                    await bystander.message()
                    waits.append(trio.current_time() - start)
            nursery.cancel_scope.cancel()
        assert sorted(waits)[25] < 0.5

    async def test_a_crowd_leaves_nothing_behind(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0

        async def rude(address: Address, number: int) -> None:
            client = await RawClient.dial(address)
            head = upgrade()
            match number % 6:
                case 0:
                    await client.send(head + frame(TEXT, b"x") + close_frame(1000))
                    await client.ended()
                case 1:
                    await client.send(head[: number % len(head)])
                case 2:
                    await client.send(head + frame(TEXT, b"x"))
                    await client.answer()
                    client.reset()
                case 3:
                    await client.send(head + frame(TEXT, b"x" * 9000)[:5000])
                    await client.answer()
                case 4:
                    await client.send(b"\x16\x03\x01\x00")
                    await client.ended()
                case _:
                    await client.send(head + frame(TEXT, b"\xff") + frame(TEXT, b"x") * 50)
                    await client.closed()
            await client.aclose()

        async with harness.serve(gate, counts, Options()) as address:
            await still_serves(address)
            await until(lambda: all(recorder.closings for recorder in gate.recorders))
            before = descriptors()
            tasks = trio.lowlevel.current_statistics().tasks_living
            for _ in range(5):
                async with trio.open_nursery() as nursery:
                    for number in range(60):
                        nursery.start_soon(rude, address, number)
            await until(lambda: descriptors() <= before)
            await until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
            await until(lambda: all(recorder.closings for recorder in gate.recorders))
            assert all(len(recorder.closings) == 1 for recorder in gate.recorders)
            await still_serves(address)
