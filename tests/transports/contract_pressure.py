"""The transport contract: readers that are served more than they can take at once, and those that take nothing."""

from collections.abc import Callable
from functools import partial
from random import Random

import pytest
import trio

from portico.wire.codes import CloseCode
from portico.wire.frame import Frame
from service.core.ports import BACKLOG

from .harness import Harness, Options, until
from .raw import CLOSE, PING, PONG, TEXT, RawClient, Received, close_frame, frame
from .script import Counts, ScriptGate

KB = 1024


def numbered(number: int, size: int) -> Frame:
    """A message that says which one it is."""
    return Frame(b"%08d" % number + b"." * (size - 8))


async def read_numbers(client: RawClient, count: int, *, rate: float | None = None) -> list[int]:
    """The numbers of the next messages; at most `rate` bytes are read a second."""
    numbers = []
    for _ in range(count):
        text = await client.message()
        numbers.append(int(text[:8]))
        if rate is not None:
            await trio.sleep(len(text) / rate)
    return numbers


class PressureContract:
    """Part of TransportContract."""

    async def test_a_burst_far_above_the_limit_to_one_that_reads(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        for attempt, (count, size) in enumerate(((400, 5 * KB), (12, 700 * KB), (40, 100 * KB))):
            async with (
                harness.serve(gate, counts, Options(outbound_limit=64 * KB)) as address,
                await RawClient.open(address) as client,
            ):
                recorder = await gate.recorder(attempt)
                for number in range(count):
                    recorder.peer.send(numbered(number, size))
                assert await read_numbers(client, count) == list(range(count))
        assert counts.slow_closed == 0

    async def test_a_slow_link_that_never_stops_taking(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        options = Options(outbound_limit=64 * KB, slow_seconds=0.5)
        async with (
            harness.serve(gate, counts, options) as address,
            await RawClient.open(address, receive_buffer=64 * KB) as client,
        ):
            recorder = await gate.recorder()
            for number in range(300):
                recorder.peer.send(numbered(number, 10 * KB))
            # Three times as long as one may take nothing, and longer than the closing of one that takes nothing.
            assert await read_numbers(client, 300, rate=1000 * KB) == list(range(300))
        assert counts.slow_closed == 0

    async def test_one_that_takes_nothing_is_closed_in_time_and_nobody_waits(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        options = Options(outbound_limit=64 * KB, slow_seconds=0.5)
        async with (
            harness.serve(gate, counts, options) as address,
            await RawClient.open(address, receive_buffer=4096) as slow,
            await RawClient.open(address) as other,
        ):
            recorder = await gate.recorder(0)
            for number in range(100):
                recorder.peer.send(numbered(number, 64 * KB))
            with trio.fail_after(60):
                while not recorder.closings:
                    await other.say("quick")
                    assert await other.message() == "quick"
                    await trio.sleep(0.01)
            assert (await recorder.ending())[0] == 4008
            await slow.ended()
        assert counts.slow_closed == 1
        assert len(recorder.closings) == 1

    async def test_one_huge_message_to_one_that_takes_nothing(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        options = Options(outbound_limit=64 * KB, slow_seconds=0.3)
        async with harness.serve(gate, counts, options) as address:
            slow = await RawClient.open(address, receive_buffer=4096)
            recorder = await gate.recorder(0)
            recorder.peer.send(Frame(b"x" * 8_000_000))
            assert (await recorder.ending())[0] == 4008
            await slow.aclose()

    async def test_the_hard_bound(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        options = Options(outbound_limit=64 * KB, hard_limit=8 * KB * KB, slow_seconds=60)
        async with harness.serve(gate, counts, options) as address:
            slow = await RawClient.open(address, receive_buffer=4096)
            recorder = await gate.recorder(0)
            sent = 0
            with trio.fail_after(60):
                while not counts.slow_closed:
                    recorder.peer.send(numbered(sent, 64 * KB))
                    sent += 1
                    await trio.lowlevel.checkpoint()
            assert (await recorder.ending())[0] == 4008
            # What the kernel has taken is the reader's; it is bounded by the system.
            assert 8 * KB < sent * 64 < 24 * KB
            await slow.aclose()

    async def test_the_bound_of_the_process_is_for_whoever_takes_least(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        options = Options(outbound_limit=64 * KB, total_limit=12 * KB * KB, slow_seconds=60)
        async with (
            harness.serve(gate, counts, options) as address,
            await RawClient.open(address, receive_buffer=4096) as stuck,
            await RawClient.open(address) as reader,
        ):
            recorders = [await gate.recorder(number) for number in range(2)]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(read_numbers, reader, 300))
                number = 0
                with trio.fail_after(60):
                    while number < 300 or not counts.slow_closed:
                        recorders[0].peer.send(numbered(number, 64 * KB))
                        if number < 300:
                            recorders[1].peer.send(numbered(number, 64 * KB))
                        number += 1
                        await trio.sleep(0.002)
            assert (await recorders[0].ending())[0] == 4008
            assert recorders[1].closings == []
            await stuck.aclose()

    async def test_frames_that_many_wait_for_count_once(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        options = Options(outbound_limit=64 * KB, total_limit=8 * KB * KB, slow_seconds=60)
        async with harness.serve(gate, counts, options) as address:
            clients = [await RawClient.open(address, receive_buffer=4096) for _ in range(10)]
            recorders = [await gate.recorder(number) for number in range(10)]
            for number in range(60):
                to_all = numbered(number, 100 * KB)
                for recorder in recorders:
                    recorder.peer.send(to_all)

            async def read_all(client: RawClient) -> None:
                assert await read_numbers(client, 60) == list(range(60))
                await client.aclose()

            # All at once: one that takes nothing while others read for long, on a slow machine, would be cut.
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(read_all, client)
        assert counts.slow_closed == 0

    async def test_room(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with (
            harness.serve(gate, counts, Options()) as address,
            await RawClient.open(address, receive_buffer=4096) as client,
        ):
            peer = (await gate.recorder()).peer
            calls: list[str] = []
            assert not peer.has_backlog
            peer.when_room(lambda: calls.append("at once"))
            assert calls == [], "never within the call"
            await until(lambda: calls == ["at once"])
            for number in range(100):
                peer.send(numbered(number, 100 * KB))
            assert peer.has_backlog
            peer.when_room(lambda: calls.append("first"))
            peer.when_room(lambda: calls.append("second"))
            await trio.sleep(0.05)
            assert calls == ["at once"], "nobody reads"
            assert peer.has_backlog
            assert await read_numbers(client, 100) == list(range(100))
            await until(lambda: calls == ["at once", "first", "second"])
            assert not peer.has_backlog

    async def test_room_that_is_there_after_one_write(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            peer = (await gate.recorder()).peer
            room = trio.Event()
            peer.send(Frame(b"x" * (BACKLOG + 1)))
            assert peer.has_backlog
            peer.when_room(room.set)
            with trio.fail_after(60):
                assert len(await client.message()) == BACKLOG + 1
                await room.wait()

    async def test_no_room_is_told_of_after_the_end(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            client = await RawClient.open(address, receive_buffer=4096)
            recorder = await gate.recorder()
            calls: list[str] = []
            for number in range(100):
                recorder.peer.send(numbered(number, 100 * KB))
            recorder.peer.when_room(lambda: calls.append("told"))
            client.reset()
            await recorder.ending()
            calls.clear()
            recorder.peer.when_room(lambda: calls.append("told"))
            await trio.sleep(0.1)
            assert calls == []

    async def test_a_call_for_room_that_raises_ends_nothing(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        def fail() -> None:
            raise RuntimeError("a bug")

        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            peer = (await gate.recorder()).peer
            room = trio.Event()
            peer.when_room(fail)
            peer.when_room(room.set)
            with trio.fail_after(60):
                await room.wait()
            await client.say("still here")
            assert await client.message() == "still here"
        assert counts.contained_errors == 1

    @pytest.mark.parametrize("ending", ["ours", "theirs", "slow"])
    async def test_frames_stay_whole_whatever_comes_between(
        self, harness: Harness, gate: ScriptGate, counts: Counts, ending: str
    ) -> None:
        """Big and small messages, answers, pongs and a Close, in a queue that goes out piece by piece."""
        chance = Random(ending)
        options = Options(outbound_limit=64 * KB, slow_seconds=0.2 if ending == "slow" else 5.0, ping_interval=0.05)
        async with (
            harness.serve(gate, counts, options) as address,
            await RawClient.open(address, receive_buffer=4096) as client,
        ):
            recorder = await gate.recorder()
            said: list[bytes] = []  # by the server, in order
            asked: list[bytes] = []
            pinged: list[bytes] = []

            def answer(payload: bytes, text: bool) -> None:
                said.append(payload)
                recorder.peer.send(Frame(payload))

            recorder.on_message = answer  # type: ignore[method-assign]

            async def talk() -> None:
                """In pieces that have nothing to do with frames."""
                stream = b""
                for n in range(40):
                    if chance.random() < 0.5:
                        pinged.append(b"p%d" % n)
                        stream += frame(PING, pinged[-1])
                    else:
                        asked.append(b"%08d" % n + b"a" * chance.choice((0, 100, 200, 70_000)))
                        stream += frame(TEXT, asked[-1])
                while stream:
                    size = chance.choice((1, 3, 500, 20_000))
                    await client.send(stream[:size])
                    stream = stream[size:]

            async def push() -> None:
                for n in range(80):
                    said.append(b"%08d" % (1000 + n) + b"s" * chance.choice((0, 117, 118, 5000, 66_000)))
                    recorder.peer.send(Frame(said[-1]))
                    if not n % 7:
                        await trio.sleep(0.001)

            heard: list[Received] = []

            async def hear(until: Callable[[], bool]) -> None:
                while not until() and (received := await client.frame()) is not None:
                    heard.append(received)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk)
                nursery.start_soon(push)
                nursery.start_soon(hear, lambda: bool(said) and len(texts(heard)) >= 80 + len(asked) > 80)
            assert texts(heard) == said
            for n in range(200 if ending == "slow" else 20):
                said.append(b"%08d" % n + b"e" * 30_000)
                recorder.peer.send(Frame(said[-1]))
            if ending == "ours":
                recorder.peer.close(CloseCode.KICKED, "enough")
            elif ending == "theirs":
                await client.send(close_frame(1000))
            else:
                await until(lambda: bool(recorder.closings))
            await hear(lambda: bool(heard) and heard[-1].opcode == CLOSE)
            assert texts(heard) == said[: len(texts(heard))]
            if heard[-1].opcode == CLOSE:  # on a machine that is busy for seconds, the server has waited long enough
                code = {"ours": 4010, "theirs": 1000, "slow": 4008}[ending]
                assert int.from_bytes(heard[-1].payload[:2], "big") == code
                assert len(texts(heard)) == len(said) or ending == "slow"
            # In their order; some are left out where much waits (RFC 6455 section 5.5.3).
            pongs = iter(pinged)
            assert all(one.payload in pongs for one in heard if one.opcode == PONG)
            assert {one.opcode for one in heard} <= {TEXT, PING, PONG, CLOSE}


def texts(heard: list[Received]) -> list[bytes]:
    """The messages among some frames."""
    return [one.payload for one in heard if one.opcode == TEXT]
