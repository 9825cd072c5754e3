"""The transport contract: permessage-deflate (RFC 7692), which is off unless it is asked for."""

import json
import zlib

import pytest
import trio
from websockets.trio.client import connect

from portico.wire.codes import CloseCode
from portico.wire.frame import Frame

from .harness import Harness, Options, send_what_is_taken, still_serves
from .raw import BINARY, CONT, PING, PONG, TEXT, RawClient, close_frame, frame, upgrade
from .script import Counts, ScriptGate, Silent, admitted

ON = Options(compression=True)
RSV1 = 4
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"


def deflated(payload: bytes, bits: int = 15) -> bytes:
    """The payload of a compressed message."""
    compressor = zlib.compressobj(wbits=-bits)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def compressed(payload: bytes, opcode: int = TEXT) -> bytes:
    """A whole compressed message."""
    return frame(opcode, deflated(payload), rsv=RSV1)


def in_fragments(data: bytes, size: int, between: bytes = b"") -> bytes:
    """A compressed text in frames of `size` bytes of its `data`."""
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    frames = [
        frame(CONT if number else TEXT, part, fin=number == len(parts) - 1, rsv=0 if number else RSV1)
        for number, part in enumerate(parts)
    ]
    return between.join(frames)


def inflated(payload: bytes) -> bytes:
    """What a client makes of a compressed message's payload."""
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")


def bomb(size: int) -> bytes:
    """A message of zeros that is `size` bytes long compressed, and a thousand times that afterwards."""
    compressor = zlib.compressobj(9, wbits=-15)
    # A full flush ends at a byte and refers to nothing before it, so the same block may follow any number of times.
    block = compressor.compress(bytes(1 << 20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return (block * (size // len(block) + 1))[:size]


class CompressionContract:
    """Part of TransportContract."""

    async def test_it_is_off_by_default(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, Options()) as address:
            async with await RawClient.dial(address) as client:
                await client.send(upgrade(extra=OFFER))
                answer = await client.answer()
                assert answer.status == 101
                assert "sec-websocket-extensions" not in answer.headers
                await client.say("x" * 1000)
                assert await client.message() == "x" * 1000
                await client.send(compressed(b"not agreed on"))
                assert (await client.closed())[0] == 1002
            await still_serves(address)

    async def test_who_offers_nothing_gets_nothing(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, ON) as address, await RawClient.dial(address) as client:
            await client.send(upgrade())
            assert "sec-websocket-extensions" not in (await client.answer()).headers
            await client.say("x" * 1000)
            received = await client.frame()
            assert received is not None
            assert (received.compressed, received.payload) == (False, b"x" * 1000)
            await client.send(compressed(b"not agreed on"))
            assert (await client.closed())[0] == 1002

    @pytest.mark.parametrize(
        ("offer", "answer"),
        [
            ("permessage-deflate", AGREED),
            ("permessage-deflate; client_max_window_bits", AGREED),
            ("permessage-deflate; server_max_window_bits=9", f"{AGREED}; server_max_window_bits=9"),
            ("permessage-deflate; server_max_window_bits=8, permessage-deflate", AGREED),
            ("permessage-deflate; unknown, permessage-deflate; client_no_context_takeover", AGREED),
            ("x-other, permessage-deflate", AGREED),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
            ("x-webkit-deflate-frame", None),
            ("; = ,,", None),
        ],
    )
    async def test_offers(
        self, harness: Harness, gate: ScriptGate, counts: Counts, offer: str, answer: str | None
    ) -> None:
        async with harness.serve(gate, counts, ON) as address, await RawClient.dial(address) as client:
            await client.send(upgrade(extra=b"Sec-WebSocket-Extensions: %s\r\n" % offer.encode()))
            head = await client.answer()
            assert head.status == 101
            assert head.headers.get("sec-websocket-extensions") == answer
            await client.say("hello")
            assert await client.message() == "hello"

    @pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
    async def test_an_ordinary_client_that_offers_it(
        self, harness: Harness, gate: ScriptGate, counts: Counts, on: bool
    ) -> None:
        texts = ["", "grüß dich", json.dumps([{"id": n, "name": "Ünal"} for n in range(2000)]), "x" * 300_000]
        async with harness.serve(gate, counts, Options(compression=on)) as (host, port):
            async with connect(f"ws://{host}:{port}/") as client:
                assert bool(client.protocol.extensions) == on
                for text in texts * 2:
                    await client.send(text)
                    assert await client.recv() == text
                await client.send(part for part in ("a" * 500, "", "ü" * 500))
                assert await client.recv() == "a" * 500 + "ü" * 500
            recorder = await gate.recorder()
            assert (await recorder.ending())[0] == 1000
        assert [payload.decode() for payload, _ in recorder.messages[:-1]] == texts * 2

    async def test_what_gains_nothing_goes_as_it_is(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, ON) as address, await RawClient.open(address, extra=OFFER) as client:
            for text, expected in ((b"short", False), (b"x" * 255, False), (b"x" * 256, True)):
                await client.send(compressed(text))
                received = await client.frame()
                assert received is not None
                assert received.compressed is expected
                assert (inflated(received.payload) if expected else received.payload) == text

    @pytest.mark.parametrize("size", [1, 7, 1000])
    async def test_fragments_with_pings_between(
        self, harness: Harness, gate: ScriptGate, counts: Counts, size: int
    ) -> None:
        text = ("grüß " * 30).encode()
        async with harness.serve(gate, counts, ON) as address, await RawClient.open(address, extra=OFFER) as client:
            await client.send(in_fragments(deflated(text), size, frame(PING, b"p")) + frame(TEXT, b"after"))
            received = await client.frame()
            while received is not None and received.opcode == PONG:
                assert received.payload == b"p"
                received = await client.frame()
            assert received is not None
            assert received.payload == text
            assert await client.message() == "after"

    async def test_a_compressed_byte_at_a_time(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        gate.make = Silent
        data = compressed(b"x" * 200 + b"y", BINARY) + in_fragments(deflated(b"z" * 300), 3) + compressed(b"")
        async with harness.serve(gate, counts, ON) as address, await RawClient.open(address, extra=OFFER) as client:
            for byte in data + close_frame(1000):
                await client.send(bytes([byte]))
                await trio.lowlevel.checkpoint()
            await (recorder := await gate.recorder()).ending()
        assert recorder.messages == [(b"x" * 200 + b"y", False), (b"z" * 300, True), (b"", True)]

    async def test_blocks_that_are_marked_as_the_last(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        # RFC 7692 section 7.2.3.5
        hello = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"
        async with harness.serve(gate, counts, ON) as address, await RawClient.open(address, extra=OFFER) as client:
            await client.send(frame(TEXT, hello, rsv=RSV1) + frame(TEXT, hello[:-1] + hello, rsv=RSV1))
            assert await client.message() == "Hello"
            assert await client.message() == "HelloHello"

    @pytest.mark.parametrize(
        ("frames", "code"),
        [
            pytest.param(compressed(b"\xc3\x28"), 1007, id="not UTF-8"),
            pytest.param(in_fragments(deflated(b"ok \xc3"), 2), 1007, id="cut off in fragments"),
            pytest.param(frame(TEXT, b"\xff\xff\xff", rsv=RSV1), 1007, id="no deflate"),
            pytest.param(frame(TEXT, b"\x03\x00" * 5000, rsv=RSV1), 1007, id="nothing but last blocks"),
            pytest.param(in_fragments(b"\xf3\x48\xff\xff\xff\xff", 3), 1007, id="no deflate, later"),
            pytest.param(
                frame(TEXT, deflated(b"a"), fin=False, rsv=RSV1) + frame(CONT, b"", rsv=RSV1), 1002, id="rsv1 on more"
            ),
            pytest.param(frame(TEXT, b"a", fin=False) + frame(CONT, b"", rsv=RSV1), 1002, id="rsv1 on plain more"),
            pytest.param(frame(CONT, deflated(b"a"), rsv=RSV1), 1002, id="continues nothing"),
            pytest.param(frame(PING, b"a", rsv=RSV1), 1002, id="rsv1 on a ping"),
            pytest.param(frame(TEXT, deflated(b"a"), rsv=RSV1 | 2), 1002, id="rsv2 as well"),
            pytest.param(frame(TEXT, deflated(b"a"), rsv=RSV1, mask=None), 1002, id="unmasked"),
            pytest.param(
                frame(TEXT, deflated(b"a"), fin=False, rsv=RSV1) + frame(CONT, b"", mask=None), 1002, id="unmasked more"
            ),
            pytest.param(
                frame(TEXT, deflated(b"a"), fin=False, rsv=RSV1) + frame(TEXT, b"b"), 1002, id="text within text"
            ),
            pytest.param(
                frame(TEXT, deflated(b"a"), fin=False, rsv=RSV1) + compressed(b"b"), 1002, id="compressed within it"
            ),
            pytest.param(
                frame(TEXT, deflated(b"a"), fin=False, rsv=RSV1) + frame(PING, b"", fin=False), 1002, id="half a ping"
            ),
        ],
    )
    async def test_what_is_wrong(
        self, harness: Harness, gate: ScriptGate, counts: Counts, frames: bytes, code: int
    ) -> None:
        async with harness.serve(gate, counts, ON) as address:
            async with await RawClient.open(address, extra=OFFER) as client:
                await client.send(compressed(b"before") + frames)
                assert await client.message() == "before"
                assert (await client.closed())[0] == code
                await client.ended()
            recorder = await gate.recorder()
            ending = await recorder.ending()
            await still_serves(address)
        assert recorder.messages == [(b"before", True)]
        if harness.native:
            assert ending[0] == code
            assert counts.protocol_errors == 1

    @pytest.mark.parametrize("pieces", [1, 64], ids=["whole", "in fragments"])
    async def test_a_bomb(self, harness: Harness, gate: ScriptGate, counts: Counts, pieces: int) -> None:
        data = bomb(1 << 20)
        async with harness.serve(gate, counts, ON) as address:
            async with await RawClient.open(address, extra=OFFER) as client, trio.open_nursery() as nursery:
                nursery.start_soon(send_what_is_taken, client, in_fragments(data, len(data) // pieces))
                assert (await client.closed())[0] == 1009
                await client.ended()
                nursery.cancel_scope.cancel()
            await (recorder := await gate.recorder()).ending()
            await still_serves(address)
        assert recorder.messages == []

    async def test_the_limit_is_for_what_it_inflates_to(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        gate.admission = admitted(max_message_size=70_000)
        gate.make = Silent
        async with harness.serve(gate, counts, ON) as address, await RawClient.open(address, extra=OFFER) as client:
            await client.send(compressed(b"x" * 70_000) + in_fragments(deflated(b"y" * 70_000), 10))
            await client.send(compressed(b"x" * 70_001))
            assert (await client.closed())[0] == 1009
            recorder = await gate.recorder()
            await recorder.ending()
        assert [len(payload) for payload, _ in recorder.messages] == [70_000, 70_000]
        assert recorder.heads == [b"x" * 4096]

    async def test_a_frame_announced_too_large(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        async with harness.serve(gate, counts, ON) as address, await RawClient.open(address, extra=OFFER) as client:
            await client.send(frame(TEXT, deflated(b"x"), rsv=RSV1, announce=2**40))
            assert (await client.closed())[0] == 1009
            await client.ended()
            recorder = await gate.recorder()
            await recorder.ending()
        assert recorder.heads == [b"x"]

    async def test_our_close_amid_a_compressed_frame(self, harness: Harness, gate: ScriptGate, counts: Counts) -> None:
        data = compressed(bytes(range(256)) * 40)
        async with harness.serve(gate, counts, ON) as address:
            async with await RawClient.open(address, extra=OFFER) as client:
                await client.send(compressed(b"here") + data[:100])
                assert await client.message() == "here"
                recorder = await gate.recorder()
                recorder.peer.close(CloseCode.KICKED)
                assert (await client.closed())[0] == 4010
                await client.send(data[100:] + close_frame(4010))
                await client.ended()
            assert (await recorder.ending())[0] == 4010
        assert len(recorder.messages) == 1

    async def test_one_compression_for_many(
        self, harness: Harness, gate: ScriptGate, counts: Counts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if harness.name == "asgi":
            pytest.skip("over ASGI each connection gets its text, and compresses it for itself")
        asked: list[int] = []
        compress = Frame._deflate

        def watched(news: Frame, bits: int) -> bytes:
            asked.append(bits)
            return compress(news, bits)

        monkeypatch.setattr(Frame, "_deflate", watched)
        news = Frame(b"news " * 200)
        narrow = b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n"
        gate.make = Silent
        async with harness.serve(gate, counts, ON) as address:
            clients = [await RawClient.open(address, extra=extra) for extra in (OFFER, OFFER, narrow, narrow, OFFER)]
            plain = await RawClient.open(address)
            await gate.recorder(5)
            for recorder in gate.recorders:
                recorder.peer.send(news)
            received = [await client.frame() for client in clients]
            for client in clients:
                await client.aclose()
            async with plain:
                assert await plain.message() == news.payload.decode()
        assert [inflated(one.payload) for one in received if one is not None and one.compressed] == [news.payload] * 5
        assert sorted(asked) == [10, 15]

    async def test_a_client_that_vanishes_amid_a_compressed_message(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        async with harness.serve(gate, counts, ON) as address:
            async with await RawClient.open(address, extra=OFFER) as client:
                await client.send(frame(TEXT, deflated(b"x" * 1000)[:3], fin=False, rsv=RSV1))
                recorder = await gate.recorder()
                client.reset()
            assert (await recorder.ending())[0] == 1006
            await still_serves(address)
