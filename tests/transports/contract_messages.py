"""The transport contract: messages, and what is too much or not the protocol."""

import pytest
import trio
import trio.testing
import trio_websocket

from portico.wire.frame import Frame
from service.core.ports import OVERSIZED_HEAD

from . import raw
from .harness import (
    Harness,
    Options,
    scripted,
    send_what_is_taken,
    still_serves,
)
from .raw import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    RawClient,
    close_frame,
    frame,
    upgrade,
)
from .script import Counts, Recorder, ScriptGate, Silent, admitted


class MessageContract:
    """Part of TransportContract."""

    async def test_an_ordinary_client(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as (host, port):
            secure = raw.TLS or False
            async with trio_websocket.open_websocket(host, port, "/a%20b?x=1&y=%20", use_ssl=secure) as socket:
                await socket.send_message("grüß dich")
                assert await socket.get_message() == "grüß dich"
            recorder = await gate.recorder()
            assert (await recorder.ending())[0] == 1000
        assert recorder.handshake.path == "/a b"
        assert recorder.handshake.query == "x=1&y=%20"
        assert recorder.handshake.headers["host"].startswith(host)
        assert recorder.handshake.address == recorder.peer.address == host
        assert recorder.handshake.scheme == ("https" if secure else "http")
        assert recorder.handshake.kind == "websocket"
        assert recorder.peer.transport
        assert (counts.messages_in, counts.messages_out) == (1, 1)
        assert counts.bytes_in >= len("grüß dich".encode())

    async def test_order_is_kept(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            await client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(2000)))
            assert [await client.message() for _ in range(2000)] == [str(n) for n in range(2000)]

    @pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 4090, 65535, 65536, 300_000])
    async def test_every_length_form(self, harness: Harness, gate: ScriptGate, counts: Counts, size: int) -> None:
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            text = "".join(chr(97 + n % 26) for n in range(size))
            await client.say(text)
            assert await client.message() == text

    async def test_a_byte_at_a_time(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            for byte in frame(TEXT, b"x" * 130) + frame(PING, b"p") + frame(TEXT, b"y"):
                await client.send(bytes([byte]))
                await trio.lowlevel.checkpoint()
            assert await client.message() == "x" * 130
            assert (received := await client.frame()) is not None
            assert (received.opcode, received.payload) == (PONG, b"p")
            assert await client.message() == "y"

    async def test_fragments_interleaved_with_pings(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            await client.send(
                frame(TEXT, "grü".encode()[:3], fin=False)
                + frame(PING, b"between")
                + frame(CONT, "grü".encode()[3:], fin=False)
                + frame(PONG, b"unasked")
                + frame(CONT, b"", fin=False)
                + frame(CONT, b"!", fin=True)
                + frame(TEXT, b"next")
            )
            assert (received := await client.frame()) is not None
            assert (received.opcode, received.payload) == (PONG, b"between")
            assert await client.message() == "grü!"
            assert await client.message() == "next"

    async def test_binary_is_told_apart(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        gate.make = Silent
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            await client.send(
                frame(BINARY, b'{"a": 1}')
                + frame(BINARY, b"\xff\x00", fin=False)
                + frame(CONT, b"\xfe")
                + frame(BINARY, b"")
                + frame(TEXT, b"text")
                + close_frame(1000)
            )
            recorder = await gate.recorder()
            await recorder.ending()
        assert recorder.messages == [
            (b'{"a": 1}', False), (b"\xff\x00\xfe", False), (b"", False), (b"text", True),
        ]  # fmt: skip

    async def test_a_frame_in_the_segment_of_the_upgrade(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        async with harness.serve(gate, counts, Options()) as address, await RawClient.dial(address) as client:
            await client.send(upgrade() + frame(TEXT, b"early") + frame(TEXT, b"bird")[:3])
            assert (await client.answer()).status == 101
            assert await client.message() == "early"
            await client.send(frame(TEXT, b"bird")[3:])
            assert await client.message() == "bird"

    async def test_wherever_the_handshake_and_what_follows_are_cut(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        """At every byte from the head's end on, and so within each form of a frame's head: nothing is lost, taken
        twice, or read from the wrong place where one hands over to the next."""
        head = upgrade()
        said = [frame(TEXT, b"one"), frame(PING, b"p"), frame(TEXT, b"t" * 126), frame(TEXT, b"a", fin=False)]
        stream = head + b"".join(said) + frame(CONT, b"b") + frame(TEXT, b"end")
        inside = len(head) + len(said[0]) + len(said[1]) + 20  # of the long one
        cuts = [at for at in range(len(head) - 5, len(stream) + 1) if not inside < at < inside + 105]
        async with harness.serve(gate, counts, Options()) as address:
            for at in cuts:
                async with await RawClient.dial(address) as client:
                    await client.send(stream[:at])
                    await trio.testing.wait_all_tasks_blocked()  # it is read on its own, most of the time
                    await client.send(stream[at:])
                    assert (await client.answer()).status == 101
                    heard = [await client.frame() for _ in range(5)]
                    texts = [one.payload for one in heard if one is not None and one.opcode == TEXT]
                    assert texts == [b"one", b"t" * 126, b"ab", b"end"], at
                    assert [one.payload for one in heard if one is not None and one.opcode == PONG] == [b"p"], at

    async def test_a_greeting_comes_after_the_101(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        gate.greeting = b"welcome"
        gate.admission = admitted(subprotocol="two")
        async with harness.serve(gate, counts, Options()) as address, await RawClient.dial(address) as client:
            await client.send(upgrade(extra=b"Sec-WebSocket-Protocol: one, two\r\n"))
            answer = await client.answer()
            assert answer.status == 101
            assert answer.headers["sec-websocket-protocol"] == "two"
            assert await client.message() == "welcome"

    async def test_a_message_over_the_limit(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client, trio.open_nursery() as nursery:
                nursery.start_soon(send_what_is_taken, client, frame(TEXT, b"x" * 2 * 1024 * 1024))
                assert (await client.closed())[0] == 1009
                await client.ended()
                nursery.cancel_scope.cancel()
            await (recorder := await gate.recorder()).ending()
            await still_serves(address)
        assert recorder.messages == []
        (head,) = recorder.heads
        assert 0 < len(head) <= OVERSIZED_HEAD
        assert head == b"x" * len(head)

    async def test_how_fragments_began_that_are_too_large_together(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        gate.admission = admitted(max_message_size=1000)
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            await client.send(frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"y" * 600, fin=True))
            assert (await client.closed())[0] == 1009
            recorder = await gate.recorder()
            await recorder.ending()
        assert recorder.heads == [b"x" * 600 + b"y" * 600]

    async def test_a_frame_that_announces_the_world(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client, trio.open_nursery() as nursery:
                start = frame(BINARY, b"x" * 100_000, announce=2**40)
                nursery.start_soon(send_what_is_taken, client, start)
                assert (await client.closed())[0] == 1009
                await client.ended()
                nursery.cancel_scope.cancel()
            await still_serves(address)

    async def test_endless_fragments(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client, trio.open_nursery() as nursery:
                fragments = frame(TEXT, b"x" * 1000, fin=False) + frame(CONT, b"x" * 1000, fin=False) * 3000
                nursery.start_soon(send_what_is_taken, client, fragments)
                assert (await client.closed())[0] == 1009
                await client.ended()
                nursery.cancel_scope.cancel()
            await (recorder := await gate.recorder()).ending()
            await still_serves(address)
        assert recorder.messages == []

    async def test_the_limit_can_be_raised(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        def script(recorder: Recorder, payload: bytes) -> None:
            recorder.peer.allow_message_size(4000)
            recorder.peer.send(Frame(b"%d" % len(payload)))

        gate.make = scripted(script)
        gate.admission = admitted(max_message_size=1000)
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            await client.send(frame(TEXT, b"x" * 1000))
            assert await client.message() == "1000"
            await client.send(frame(TEXT, b"x" * 4000))
            assert await client.message() == "4000"
            await client.send(frame(TEXT, b"x" * 4001))
            assert (await client.closed())[0] == 1009

    async def test_the_rate_limit_can_be_lifted(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        def script(recorder: Recorder, payload: bytes) -> None:
            if payload == b"lift":
                recorder.peer.lift_rate_limit()
            recorder.peer.send(Frame(payload))

        gate.make = scripted(script)
        async with (
            harness.serve(gate, counts, Options(max_messages_per_second=10)) as address,
            await RawClient.open(address) as lifted,
            await RawClient.open(address) as other,
        ):
            await lifted.send(frame(TEXT, b"lift") + frame(TEXT, b"x") * 1000)
            assert [await lifted.message() for _ in range(1001)] == ["lift"] + ["x"] * 1000
            await other.send(frame(TEXT, b"x") * 1000)
            assert (await other.closed())[0] == 4029
            await lifted.say("still here")
            assert await lifted.message() == "still here"

    @pytest.mark.parametrize(
        "flood",
        [
            pytest.param(frame(PONG, b"x") * 1000, id="pongs"),
            pytest.param(frame(PING) * 1000, id="pings"),
            pytest.param(frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 1000, id="fragments"),
        ],
    )
    async def test_what_is_no_whole_message_counts_too(
        self, harness: Harness, gate: ScriptGate, counts: Counts, flood: bytes
    ) -> None:
        async with (
            harness.serve(gate, counts, Options(max_messages_per_second=10)) as address,
            await RawClient.open(address) as client,
        ):
            await send_what_is_taken(client, flood)
            assert (await client.closed())[0] == 4029

    @pytest.mark.parametrize(
        "frames",
        [
            pytest.param(frame(TEXT, b"\xc3\x28"), id="whole"),
            pytest.param(frame(TEXT, b"abc\xf0\x9f"), id="cut off"),
            pytest.param(frame(TEXT, b"\xed\xa0\x80"), id="surrogate"),
            pytest.param(frame(TEXT, b"ok \xc3", fin=False) + frame(CONT, b"\x28 not"), id="split"),
            pytest.param(frame(TEXT, b"ok \xc3", fin=False) + frame(CONT, b""), id="cut off in fragments"),
        ],
    )
    async def test_text_that_is_not_utf8(
        self, harness: Harness, gate: ScriptGate, counts: Counts, frames: bytes
    ) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client:
                await client.send(frame(TEXT, b"before") + frames)
                assert await client.message() == "before"
                assert (await client.closed())[0] == 1007
                await client.ended()
            recorder = await gate.recorder()
            ending = await recorder.ending()
            await still_serves(address)
        assert recorder.messages == [(b"before", True)]
        if harness.native:
            assert ending[0] == 1007
            assert counts.protocol_errors == 1

    @pytest.mark.parametrize(
        "frames",
        [
            pytest.param(frame(TEXT, b"a", mask=None), id="unmasked"),
            pytest.param(frame(TEXT, b"a", rsv=4), id="rsv1"),
            pytest.param(frame(TEXT, b"a", rsv=1), id="rsv3"),
            pytest.param(frame(0x3, b"a"), id="opcode 3"),
            pytest.param(frame(0xB, b""), id="opcode 11"),
            pytest.param(frame(CONT, b"a"), id="continues nothing"),
            pytest.param(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), id="text within text"),
            pytest.param(frame(PING, b"a", fin=False), id="fragmented ping"),
            pytest.param(frame(PING, b"a" * 126), id="long ping"),
            pytest.param(frame(CLOSE, b"\x03"), id="close of one byte"),
            pytest.param(close_frame(999), id="close 999"),
            pytest.param(close_frame(1004), id="close 1004"),
            pytest.param(close_frame(1005), id="close 1005"),
            pytest.param(close_frame(1006), id="close 1006"),
            pytest.param(close_frame(1015), id="close 1015"),
            pytest.param(close_frame(2999), id="close 2999"),
            pytest.param(close_frame(5000), id="close 5000"),
            pytest.param(close_frame(65535), id="close 65535"),
        ],
    )
    async def test_protocol_errors(self, harness: Harness, gate: ScriptGate, counts: Counts, frames: bytes) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as client:
                await client.send(frame(TEXT, b"before") + frames)
                assert await client.message() == "before"
                assert (await client.closed())[0] == 1002
                await client.ended()
            recorder = await gate.recorder()
            ending = await recorder.ending()
            await still_serves(address)
        assert recorder.messages == [(b"before", True)]
        if harness.native:
            assert ending[0] == 1002
            assert counts.protocol_errors == 1
