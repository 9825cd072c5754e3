"""The transport contract: how connections end."""

import socket

import pytest

from portico.wire.codes import CloseCode
from portico.wire.frame import Frame

from .harness import (
    Harness,
    Options,
    scripted,
    still_serves,
)
from .raw import (
    CONT,
    PING,
    TEXT,
    RawClient,
    close_frame,
    frame,
)
from .script import Counts, Recorder, ScriptGate, Silent


class EndingContract:
    """Part of TransportContract."""

    async def test_nothing_received_is_lost(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        gate.make = Silent
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            await client.send(b"".join(frame(TEXT, b"%d" % n) for n in range(8)) + close_frame(1000))
            recorder = await gate.recorder()
            await recorder.ending()
        assert recorder.messages == [(b"%d" % n, True) for n in range(8)]
        assert recorder.closings == [(1000, "")]

    async def test_at_the_end_it_is_known_how_much_went_each_way(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        if not hasattr(socket, "TCP_INFO"):
            pytest.skip("This system doesn't tell.")

        def script(recorder: Recorder, payload: bytes) -> None:
            recorder.peer.send(Frame(payload * 10))

        gate.make = scripted(script)
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client:
                await client.send(frame(TEXT, b"x" * 5000))
                assert await client.message() == "x" * 50_000
                await client.send(close_frame(1000))
                await client.closed()
                await client.ended()
            recorder = await gate.recorder()
            await recorder.ending()
        assert recorder.traffic is not None
        taken, received = recorder.traffic
        assert 50_000 < taken < 60_000
        assert 5000 < received < 7000

    @pytest.mark.parametrize("code", [1000, 1001, 1003, 1011, 1012, 3000, 3999, 4000, 4321, 4999])
    async def test_codes_that_may_be_sent(self, harness: Harness, gate: ScriptGate, counts: Counts, code: int) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client:
                await client.send(close_frame(code, "weil’s".encode()))
                assert (await client.closed())[0] == code
                await client.ended()
            recorder = await gate.recorder()
            ending = await recorder.ending()
        assert ending[0] == code
        if harness.native:
            assert ending[1] == "weil’s"

    async def test_a_close_without_a_code(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client:
                await client.send(close_frame())
                assert (await client.closed())[0] in (1005, 1000)
                await client.ended()
            assert (await (await gate.recorder()).ending())[0] == 1005

    async def test_a_close_within_a_fragmented_message(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client:
                await client.send(frame(TEXT, b"half", fin=False) + close_frame(1000) + frame(CONT, b"?"))
                assert (await client.closed())[0] == 1000
                await client.ended()
            recorder = await gate.recorder()
            assert (await recorder.ending())[0] == 1000
        assert recorder.messages == []

    async def test_close_twice(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client:
                await client.send(close_frame(4000) + close_frame(4001) + frame(PING) + frame(TEXT, b"late"))
                assert (await client.closed())[0] == 4000
                await client.ended()
            recorder = await gate.recorder()
            await recorder.ending()
            await still_serves(address)
        assert [code for code, _ in recorder.closings] == [4000]
        assert recorder.messages == []

    async def test_the_server_closes(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        def script(recorder: Recorder, payload: bytes) -> None:
            recorder.peer.send(Frame(b"last words"))
            recorder.peer.close(CloseCode.RESTARTING, "retry_within_ms=20000")
            recorder.peer.send(Frame(b"never seen"))
            recorder.peer.close(CloseCode.KICKED, "never seen either")

        gate.make = scripted(script)
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client:
                await client.say("go")
                assert await client.message() == "last words"
                assert await client.closed() == (1012, "retry_within_ms=20000")
                await client.send(close_frame(1012))
                await client.ended()
            recorder = await gate.recorder()
            assert (await recorder.ending())[0] == 1012
        assert len(recorder.closings) == 1

    async def test_a_busy_sender_sees_the_close(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        class Once(Silent):
            def on_message(self, payload: bytes, text: bool) -> None:
                self.peer.close(CloseCode.KICKED, "enough")

        gate.make = Once
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client:
                await client.send(frame(TEXT, b"x" * 100) * 5000)
                assert await client.closed() == (4010, "enough")
            recorder = await gate.recorder()
            await recorder.ending()
            gate.make = Recorder
            await still_serves(address)
        assert recorder.after_closed == 0

    async def test_sending_to_one_that_is_gone(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client:
                await client.send(close_frame(1000))
                recorder = await gate.recorder()
                await recorder.ending()
                recorder.peer.send(Frame(b"anyone?"))
                recorder.peer.close(CloseCode.NORMAL)
                recorder.peer.allow_message_size(1)
                assert (await client.closed())[0] == 1000
                assert await client.rest() == b""
            recorder.peer.send(Frame(b"anyone?"))
            await still_serves(address)
        assert len(recorder.closings) == 1

    async def test_a_peer_that_vanishes(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            for hang_up in ("reset", "eof", "half a frame"):
                client = await RawClient.open(address)
                await client.say("here")
                assert await client.message() == "here"
                if hang_up == "half a frame":
                    await client.send(frame(TEXT, b"x" * 100)[:50])
                if hang_up == "reset":
                    client.reset()
                else:
                    await client.aclose()
                recorder = await gate.recorder(len(gate.recorders) - 1)
                assert (await recorder.ending())[0] == 1006, hang_up
                assert len(recorder.closings) == 1
            await still_serves(address)

    async def test_a_receiver_that_raises(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        def script(recorder: Recorder, payload: bytes) -> None:
            if payload == b"raise":
                raise RuntimeError("a bug of ours")
            recorder.peer.send(Frame(payload))

        gate.make = scripted(script)
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client, await RawClient.open(address) as other:
                await client.say("raise")
                assert (await client.closed())[0] == 1011
                await other.say("untouched")
                assert await other.message() == "untouched"
            await (await gate.recorder()).ending()
        assert counts.contained_errors == 1
