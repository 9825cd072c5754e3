"""One native connection: its head, its pings, its rate, and every way in which it ends."""

from typing import Any

import pytest
import trio

from portico.wire.codes import CloseCode
from service.core.ports import Handshake, HttpAnswer, Peer
from service.transports import connection

from .contract import Options, still_serves, until
from .native_harness import NativeHarness
from .raw import PING, PONG, TEXT, RawClient, close_frame, frame, upgrade
from .script import Counts, Recorder, ScriptGate, Silent


async def test_plain_http(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()) as address:
        for request, status, body in (
            (b"GET /hello?a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200, b"GET a\n"),
            (b"GET /hello HTTP/1.0\r\n\r\n", 200, b"GET \n"),
            (b"HEAD /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200, b""),
            (b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody", 426, None),
            (b"nonsense\r\n\r\n", 400, None),
            (b"\x16\x03\x01\x02\x00", 400, None),
        ):
            async with await RawClient.dial(address) as client:
                await client.send(request)
                answer = await client.answer()
                assert answer.status == status
                assert answer.headers["connection"] == "close"
                rest = await client.rest()
                if body is not None:
                    assert rest == body
                    assert int(answer.headers["content-length"]) == len(b"GET a\n") - (b"?" not in request) + (
                        request.startswith(b"HEAD")
                    )
    assert gate.recorders == []


async def test_a_request_whose_sender_hung_up_half_way_is_answered(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.dial(address) as client:
        await client.send(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.stream.send_eof()
        assert (await client.answer()).status == 200
        await client.ended()
        await until(lambda: harness.reactor.connection_count == 0)


async def test_pings_are_sent_and_a_mute_peer_is_closed(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options(), ping_interval=0.3, pong_timeout=0.4) as address:
        async with await RawClient.open(address) as polite, await RawClient.open(address) as mute:
            async with trio.open_nursery() as nursery:

                async def answer() -> None:
                    while True:
                        received = await polite.frame()
                        assert received is not None
                        assert received.opcode == PING
                        await polite.send(frame(PONG, received.payload))

                nursery.start_soon(answer)
                assert await mute.closed() == (4000, "no pong came in time")
                await mute.send(frame(TEXT, b"but I am here"))
                nursery.cancel_scope.cancel()
            assert gate.recorders[0].closings == []
            assert (await gate.recorders[1].ending())[0] == 4000
        assert counts.mute_closed == 1


async def test_no_pings_where_they_are_off(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options(), ping_interval=0.0):
        assert len(harness.reactor.wheel) == 0


@pytest.mark.parametrize(
    "settings", [{"max_messages_per_second": 50}, {"max_bytes_per_second": 500}], ids=["messages", "bytes"]
)
async def test_over_the_rate(
    harness: NativeHarness, gate: ScriptGate, counts: Counts, settings: dict[str, Any]
) -> None:
    async with harness.serve(gate, counts, Options(), **settings) as address:
        async with await RawClient.open(address) as client:
            await client.send(frame(TEXT, b"x" * 10) * 3000 + close_frame(1000))
            assert await client.closed() == (4029, "over the message rate limit")
            await client.ended()
        recorder = await gate.recorder()
        assert (await recorder.ending())[0] == 4029
        # A burst of two seconds, and what the bucket gained meanwhile.
        assert 100 <= len(recorder.messages) < 1000


async def test_a_peer_that_never_answers_our_close_is_cut_off(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
        recorder = await gate.recorder()
        recorder.peer.close(CloseCode.KICKED)
        assert (await recorder.ending())[0] == 4010
        assert (await client.closed())[0] == 4010
        with trio.fail_after(60):
            await client.ended()


async def test_a_peer_that_hangs_up_instead_of_answering_our_close(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address:
        async with await RawClient.open(address) as client:
            recorder = await gate.recorder()
            recorder.peer.close(CloseCode.KICKED)
            assert (await client.closed())[0] == 4010
        await until(lambda: harness.reactor.connection_count == 0)
    assert recorder.closings == [(4010, "")]


async def test_theirs_is_found_behind_big_frames(
    harness: NativeHarness, gate: ScriptGate, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 3600.0)  # it doesn't end by that
    gate.make = Silent
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
        big = frame(TEXT, b"\x88" * 200_000)
        await client.send(big[:1000])
        recorder = await gate.recorder()
        await until(lambda: counts.bytes_in > 900)
        recorder.peer.close(CloseCode.KICKED)
        await client.send(big[1000:] + frame(TEXT, b"\x88" * 300) + frame(PING, b"p"))
        for byte in close_frame(4010):
            await client.send(bytes([byte]))
        with trio.fail_after(60):
            assert (await client.closed())[0] == 4010
            await client.ended()
    assert recorder.messages == []


async def test_whoever_is_sending_what_is_too_large_is_read_up_to_its_close_before_we_end(
    harness: NativeHarness, gate: ScriptGate, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that sees our end while its client is sending resets the client, whose Close from us is lost then."""
    monkeypatch.setattr(connection, "PATIENCE", 3600.0)  # it doesn't end by that
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
        large = frame(TEXT, b"\x88" * 2 * 1024 * 1024)
        await client.send(large[:1000])
        with trio.fail_after(60):
            assert (await client.closed())[0] == 1009
        with trio.move_on_after(0.1):
            await client.ended()
            pytest.fail("it ended while the client was sending")
        await client.send(large[1000:] + frame(PING, b"p") + close_frame(1009))
        with trio.fail_after(60):
            await client.ended()
    recorder = await gate.recorder()
    assert recorder.messages == []
    assert [code for code, _ in recorder.closings] == [1009]


async def test_a_gate_that_raises(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    def broken(peer: Peer, handshake: Handshake) -> Recorder:
        raise RuntimeError("a bug of ours")

    async with harness.serve(gate, counts, Options()) as address:
        gate.make = broken
        async with await RawClient.dial(address) as client:
            await client.send(upgrade())
            assert (await client.answer()).status == 101
            assert (await client.closed())[0] == 1011
        gate.make = Recorder
        gate.admit = broken  # type: ignore[assignment,method-assign]  # what never raises, raising
        async with await RawClient.dial(address) as client:
            await client.send(upgrade())
            assert (await client.answer()).status == 500
        del gate.admit
        await still_serves(address)
    assert counts.contained_errors == 2
    assert [event for event, _ in harness.log] == ["contained_error"] * 2


async def test_the_answer_of_a_refusal_is_the_gates(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    answer = HttpAnswer(503, (("retry-after", "7"),), b"full\n")
    gate.admit = lambda handshake: answer  # type: ignore[method-assign]  # a gate that refuses all
    async with harness.serve(gate, counts, Options()) as address, await RawClient.dial(address) as client:
        # What the client says on top must not turn the answer into a reset.
        await client.send(upgrade() + frame(TEXT, b"x" * 100_000))
        received = await client.answer()
        assert (received.status, received.headers["retry-after"]) == (503, "7")
        assert await client.rest() == b"full\n"
    assert counts.handshakes_refused == 1
