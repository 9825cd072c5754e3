"""The transport contract: bytes that flow are life; who is silent is gone."""

import pytest
import trio

from portico.wire.frame import Frame

from .harness import Harness, Options, send_what_is_taken, still_serves
from .raw import CONT, TEXT, RawClient, frame
from .script import Counts, ScriptGate, Silent

PATIENT = Options(ping_interval=0.2, pong_timeout=0.4)
HASTY = Options(ping_interval=0.2, pong_timeout=0.4, message_timeout=0.5)


class LifeContract:
    """Part of TransportContract."""

    async def test_one_that_answers_no_ping_is_closed(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, PATIENT) as address, await RawClient.open(address) as mute:
            recorder = await gate.recorder()
            assert (await recorder.ending())[0] == 4000
            assert (await mute.closed())[0] == 4000
        assert counts.mute_closed == 1

    async def test_the_port_of_a_peer_is_known(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            recorder = await gate.recorder()
            assert recorder.peer.port == client.stream.socket.getsockname()[1]

    async def test_no_pong_is_asked_of_one_that_is_amid_a_message(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        gate.make = Silent
        message = frame(TEXT, b"x" * 200_000)
        async with harness.serve(gate, counts, PATIENT) as address, await RawClient.open(address) as sender:
            recorder = await gate.recorder()
            for start in range(0, len(message), 15_000):  # 1.7 s, several times what a pong may take
                await send_what_is_taken(sender, message[start : start + 15_000])
                await trio.sleep(0.12)
            with trio.fail_after(60):
                while not recorder.messages:
                    assert not recorder.closings, recorder.closings
                    await trio.sleep(0.01)
        assert counts.mute_closed == 0

    async def test_no_pong_is_asked_of_one_that_reads_what_is_ahead_of_the_ping(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        async with (
            harness.serve(gate, counts, PATIENT) as address,
            await RawClient.open(address, receive_buffer=65536) as reader,
        ):
            recorder = await gate.recorder()
            for _ in range(70):
                recorder.peer.send(Frame(b"x" * 80_000))
            for _ in range(70):  # 5.6 MB in 1.8 s
                assert len(await reader.message()) == 80_000
                await trio.sleep(0.025)
            assert recorder.closings == []
        assert counts.mute_closed == 0

    @pytest.mark.parametrize("fragments", [False, True])
    async def test_a_message_that_is_never_whole_is_given_up(
        self, harness: Harness, gate: ScriptGate, counts: Counts, fragments: bool
    ) -> None:
        begun = frame(TEXT, b"x", fin=False) if fragments else frame(TEXT, b"x" * 200_000)[:1000]
        piece = frame(CONT, b"x", fin=False) if fragments else b"x"
        async with harness.serve(gate, counts, HASTY) as address, await RawClient.open(address) as sender:
            recorder = await gate.recorder()
            await sender.send(begun)
            with trio.fail_after(60):
                while not recorder.closings:  # bytes flow, and every ping would be answered
                    await send_what_is_taken(sender, piece)
                    await trio.sleep(0.02)
            assert (await recorder.ending())[0] == 4000
            await still_serves(address)

    async def test_one_that_stops_amid_a_message_is_closed(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        async with harness.serve(gate, counts, PATIENT) as address, await RawClient.open(address) as sender:
            await sender.send(frame(TEXT, b"x" * 200_000)[:50_000])
            recorder = await gate.recorder()
            assert (await recorder.ending())[0] == 4000
