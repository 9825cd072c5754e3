"""The transport contract: before the upgrade."""

import pytest
import trio

from .harness import (
    Harness,
    Options,
    native_only,
    send_what_is_taken,
    still_serves,
)
from .raw import (
    RawClient,
    upgrade,
)
from .script import Counts, ScriptGate

TWICE = {
    b"Origin": (b"https://shop.example", b"https://evil.example"),
    b"Authorization": (b"Bearer a.b.c", b"Bearer d.e.f"),
    b"authorization": (b"Bearer a.b.c", b"Bearer a.b.c"),
    b"Host": (b"other.example",),  # there is one already, and one of these
    b"Upgrade": (b"h2c",),
    b"Sec-WebSocket-Key": (b"MDEyMzQ1Njc4OWFiY2RlZg==",),
    b"Sec-WebSocket-Version": (b"13",),
}


class HandshakeContract:
    """Part of TransportContract."""

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

    async def test_a_header_that_has_one_value_comes_once(
        self, harness: Harness, gate: ScriptGate, counts: Counts
    ) -> None:
        """Whoever stands in front may read the first of two, and we the last."""
        async with harness.serve(gate, counts, Options()) as address:
            for name, values in TWICE.items():
                async with await RawClient.dial(address) as client:
                    await client.send(upgrade(extra=b"".join(b"%b: %b\r\n" % (name, value) for value in values)))
                    answer = await client.answer()
                    assert answer.status == 400, name
                    assert b"There is more than one " + name.lower() + b" header." in await client.rest()
            await still_serves(address)
        assert counts.handshakes_refused == len(TWICE)
        assert len(gate.recorders) == 1

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
            with trio.fail_after(60):
                await client.ended()
            nursery.cancel_scope.cancel()
