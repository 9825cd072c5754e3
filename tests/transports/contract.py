"""What every transport does, as one suite: subclass TransportContract and give it a `harness` fixture.

Knows the ports and the bytes on the wire; must never know which transport it is run over, beyond the
three traits that a Harness states about itself. Real sockets throughout.
"""

import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
import trio
import trio_websocket

from service.core.ports import Handshake, Peer
from service.wire.codes import CloseCode
from service.wire.frame import Frame

from .raw import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Address,
    RawClient,
    close_frame,
    frame,
    upgrade,
)
from .script import Admitted, Counts, Recorder, ScriptGate, Silent


@dataclass(frozen=True)
class Options:
    """What a server under test is started with. Sizes in bytes, times in seconds."""

    outbound_limit: int = 256 * 1024
    handshake_timeout: float = 5.0


class Harness(Protocol):
    """How the suite starts the transport under test.

    `native`: it parses the head and the frames itself, so that exact HTTP answers, exact codes in
    `Receiver.closed` for errors, and fairness between connections are its own doing.
    """

    name: str
    native: bool

    def serve(self, gate: ScriptGate, counts: Counts, options: Options) -> AbstractAsyncContextManager[Address]:
        """Serve on loopback, port 0, until the block is left; gives the address. Plain HTTP, where the
        transport answers it, is `script.plain_http`."""


def native_only(harness: Harness, why: str) -> None:
    """Skip where something else than our own code decides."""
    if not harness.native:
        pytest.skip(why)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what has no event: descriptors, tasks, buffers in the kernel."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the kernel has no event for us
            await trio.sleep(0.01)


async def still_serves(address: Address) -> None:
    """A new client is served: whatever happened before ended that connection only."""
    async with await RawClient.open(address) as client:
        await client.say("still there?")
        assert await client.message() == "still there?"


def scripted(script: Callable[[Recorder, bytes], None]) -> Callable[[Peer, Handshake], Recorder]:
    """A receiver that does `script(recorder, payload)` for each message."""

    class Scripted(Recorder):
        def on_message(self, payload: bytes, text: bool) -> None:
            script(self, payload)

    return Scripted


class TransportContract:
    """The suite. Fixtures: `harness` (yours), `gate` and `counts` (a fresh one each)."""

    @pytest.fixture
    def gate(self) -> ScriptGate:
        return ScriptGate()

    @pytest.fixture
    def counts(self) -> Counts:
        return Counts()

    # ---- messages

    async def test_an_ordinary_client(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as (host, port):
            async with trio_websocket.open_websocket(host, port, "/a%20b?x=1&y=%20", use_ssl=False) as socket:
                await socket.send_message("grüß dich")
                assert await socket.get_message() == "grüß dich"
            recorder = await gate.recorder()
            assert (await recorder.ending())[0] == 1000
        assert recorder.handshake.path == "/a b"
        assert recorder.handshake.query == "x=1&y=%20"
        assert recorder.handshake.headers["host"].startswith(host)
        assert recorder.handshake.address == recorder.peer.address == host
        assert recorder.handshake.scheme == "http"
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

    async def test_a_greeting_comes_after_the_101(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        gate.greeting = b"welcome"
        gate.admission = Admitted(subprotocol="two")
        async with harness.serve(gate, counts, Options()) as address, await RawClient.dial(address) as client:
            await client.send(upgrade(extra=b"Sec-WebSocket-Protocol: one, two\r\n"))
            answer = await client.answer()
            assert answer.status == 101
            assert answer.headers["sec-websocket-protocol"] == "two"
            assert await client.message() == "welcome"

    # ---- what is too much

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
        gate.admission = Admitted(max_message_size=1000)
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            await client.send(frame(TEXT, b"x" * 1000))
            assert await client.message() == "1000"
            await client.send(frame(TEXT, b"x" * 4000))
            assert await client.message() == "4000"
            await client.send(frame(TEXT, b"x" * 4001))
            assert (await client.closed())[0] == 1009

    # ---- what is not the protocol

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

    # ---- the end

    async def test_nothing_received_is_lost(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        gate.make = Silent
        async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
            await client.send(b"".join(frame(TEXT, b"%d" % n) for n in range(8)) + close_frame(1000))
            recorder = await gate.recorder()
            await recorder.ending()
        assert recorder.messages == [(b"%d" % n, True) for n in range(8)]
        assert recorder.closings == [(1000, "")]

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
        native_only(harness, "the library answers 1002 or 1000 as it likes")
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

    # ---- slow ones, floods, crowds

    async def test_a_slow_reader_is_closed_and_nobody_waits(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        async with (
            harness.serve(gate, counts, Options()) as address,
            await RawClient.open(address, receive_buffer=4096) as slow,
            await RawClient.open(address) as other,
        ):
            recorder = await gate.recorder(0)
            big = Frame(b"x" * 65536)
            with trio.fail_after(20):
                while not recorder.closings:
                    for _ in range(8):
                        recorder.peer.send(big)
                    await other.say("quick")
                    assert await other.message() == "quick"
            assert (await recorder.ending())[0] == 4008
            await slow.ended()
        assert counts.slow_closed == 1
        assert len(recorder.closings) == 1

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

    # ---- before the upgrade

    async def test_refusals(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            for path, status in (("/refused", 403), ("/nowhere", 404)):
                async with await RawClient.dial(address) as client:
                    await client.send(upgrade(path))
                    answer = await client.answer()
                    assert answer.status == status
                    if status == 403:
                        assert answer.headers["x-why"] == "script"
            await still_serves(address)
        assert counts.handshakes_refused == 2

    @pytest.mark.parametrize(
        ("head", "statuses"),
        [
            pytest.param(upgrade(version="12"), {426, 400}, id="version 12"),
            pytest.param(upgrade(version="x"), {426, 400}, id="version x"),
            pytest.param(upgrade(key="c2hvcnQ="), {400}, id="short key"),
            pytest.param(upgrade(key="?" * 24), {400}, id="not base64"),
            pytest.param(upgrade(method="POST"), {400, 404, 405, 426}, id="POST"),
            pytest.param(upgrade(extra=b"Content-Length: 4\r\n") + b"body", {400}, id="body"),
            pytest.param(upgrade(extra=b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", {400}, id="chunked body"),
            pytest.param(upgrade(extra=b"Sec-WebSocket-Protocol: caf\xe9\r\n"), {400}, id="high byte in protocol"),
            pytest.param(upgrade(extra=b"Sec-WebSocket-Extensions: \xff\r\n"), {400}, id="high byte in extensions"),
            pytest.param(upgrade().replace(b"localhost", b"loc\x80lhost"), {400}, id="high byte in host"),
            pytest.param(upgrade(extra=b"X: a\x00b\r\n"), {400}, id="control byte"),
            pytest.param(upgrade(extra=b"X: " + b"y" * 70_000 + b"\r\n"), {400, 431}, id="long header"),
        ],
    )
    async def test_handshakes_that_are_wrong(
        self, harness: Harness, gate: ScriptGate, counts: Counts, head: bytes, statuses: set[int]
    ) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.open(address) as bystander:
                async with await RawClient.dial(address) as client:
                    await send_what_is_taken(client, head)
                    answer = await client.answer()
                    if harness.native:
                        assert answer.status in statuses
                        assert answer.headers["connection"] == "close"
                        await client.ended()
                    else:
                        assert answer.status != 101
                await bystander.say("untouched")
                assert await bystander.message() == "untouched"
            await still_serves(address)

    async def test_half_a_handshake_then_silence(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options(handshake_timeout=0.3)) as address:
            async with await RawClient.dial(address) as client:
                await client.send(upgrade()[:40])
                await client.ended()
            async with await RawClient.dial(address) as client:
                await client.ended()
            await still_serves(address)
        assert len(gate.recorders) == 1

    async def test_a_byte_now_and_then_is_no_handshake(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        native_only(harness, "the deadline for a head is the server's")
        async with (
            harness.serve(gate, counts, Options(handshake_timeout=0.3)) as address,
            await RawClient.dial(address) as client,
            trio.open_nursery() as nursery,
        ):

            async def dribble() -> None:
                for byte in upgrade():
                    await send_what_is_taken(client, bytes([byte]))
                    await trio.sleep(0.05)

            nursery.start_soon(dribble)
            with trio.fail_after(5):
                await client.ended()
            nursery.cancel_scope.cancel()


async def send_what_is_taken(client: RawClient, data: bytes) -> None:
    """Send until done or until the server has had enough."""
    try:
        await client.stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def flood(client: RawClient) -> None:
    """Tiny frames without end, until cancelled."""
    async with client:
        burst = frame(TEXT, b"f") * 10_000
        while True:
            await client.stream.send_all(burst)
