"""The transport contract: messages that are never finished, of many connections at once."""

import pytest
import trio

from .contract_compression import OFFER, RSV1, deflated, inflated
from .harness import Harness, Options, until
from .raw import CONT, TEXT, RawClient, frame
from .script import Counts, ScriptGate

KB = 1024

LEFT_UNFINISHED = {
    "a frame": frame(TEXT, b"x" * 900 * KB)[: 400 * KB],
    "fragments": b"".join(frame(CONT if n else TEXT, b"x" * 40 * KB, fin=False) for n in range(10)),
    "a frame of a fragmented message": frame(TEXT, b"x", fin=False) + frame(CONT, b"x" * 900 * KB)[: 400 * KB],
    "compressed": frame(TEXT, deflated(b"x" * 400 * KB), rsv=RSV1, fin=False),
}


class UnfinishedContract:
    """Part of TransportContract."""

    @pytest.mark.parametrize("kind", LEFT_UNFINISHED)
    async def test_what_unfinished_messages_hold_is_bounded_in_all(
        self, harness: Harness, gate: ScriptGate, counts: Counts, kind: str
    ) -> None:
        options = Options(total_limit=2 * KB * KB, compression=kind == "compressed")
        offer = OFFER if kind == "compressed" else b""
        long = "honest " * 4000
        async with harness.serve(gate, counts, options) as address, await RawClient.open(address) as honest:
            begun = frame(TEXT, long.encode())
            await honest.send(begun[:20_000])
            hoarders = []
            for number in range(8):
                hoarders.append(await RawClient.open(address, extra=offer))
                await gate.recorder(number + 1)
                await hoarders[-1].send(LEFT_UNFINISHED[kind])
            # Eight times 400 KB: what is above 2 MiB goes, and no more than that.
            await until(lambda: sum(len(recorder.closings) for recorder in gate.recorders) >= 3)
            await honest.send(begun[20_000:])
            assert await honest.message() == long
            closings = [ending for recorder in gate.recorders for ending in recorder.closings]
            assert closings == [(1013, "too much is kept of unfinished messages")] * len(closings)
            assert len(closings) <= 4
            assert not gate.recorders[0].closings
            closed = [number for number in range(8) if gate.recorders[number + 1].closings]
            assert await hoarders[closed[0]].closed() == closings[0]
            # The others' places are free again once they have ended.
            for hoarder in hoarders:
                await hoarder.aclose()
            for number in range(8):
                await gate.recorders[number + 1].ending()
            async with await RawClient.open(address) as later:
                await later.send(LEFT_UNFINISHED["a frame"])
                with trio.fail_after(60):
                    await honest.say("still here")
                    assert await honest.message() == "still here"
            assert len(gate.recorders[0].closings) == 0
        assert counts.contained_errors == 0

    async def test_messages_that_are_finished_hold_nothing(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        """In pieces, one after the other, far more than may be kept at once; some of it with the next in one piece."""
        options = Options(total_limit=KB * KB, compression=True)
        async with (
            harness.serve(gate, counts, options) as address,
            await RawClient.open(address, extra=OFFER) as client,
        ):
            text = b"x" * 300 * KB
            squeezed = deflated(text)
            for number in range(20):
                whole = (
                    frame(TEXT, text),
                    frame(TEXT, text[:1000], fin=False) + frame(CONT, text[1000:]),
                    frame(TEXT, squeezed[:100], rsv=RSV1, fin=False) + frame(CONT, squeezed[100:]),
                    frame(TEXT, b"short") + frame(TEXT, text),
                )[number % 4]
                await client.send(whole)
                for size in (5, len(text))[number % 4 != 3 :]:
                    received = await client.frame()
                    assert received is not None
                    answer = inflated(received.payload) if received.compressed else received.payload
                    assert len(answer) == size
            assert not (await gate.recorder()).closings
