"""The native transport over TLS: the contract of all transports, and what is TLS's own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from portico.wire.frame import Frame
from service.transports.proxies import ProxyRules
from service.transports.server_certificates import Certificates, TlsFiles
from tests.certificates import Certificate, make_certificate, swap

from . import raw
from .contract import Options
from .contract_ending import EndingContract
from .contract_life import LifeContract
from .contract_messages import MessageContract
from .contract_pressure import PressureContract
from .native_harness import NativeHarness
from .raw import CLOSE, TEXT, Address, RawClient, close_frame, frame, upgrade
from .script import Counts, ScriptGate, Silent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


class TlsHarness(NativeHarness):
    """A reactor whose ports speak TLS."""

    def __init__(self, made: Certificate) -> None:
        super().__init__()
        self.certificates = Certificates(TlsFiles(str(made.file), str(made.key)), lambda: (), self.note)
        self.certificates.load()

    @asynccontextmanager
    async def serve(
        self, gate: ScriptGate, counts: Counts, options: Options, **settings: Any
    ) -> AsyncIterator[Address]:
        """See the contract's Harness."""
        async with super().serve(gate, counts, options, certificates=self.certificates, **settings) as address:
            yield address


@pytest.fixture
def harness(made: Certificate, monkeypatch: pytest.MonkeyPatch) -> TlsHarness:
    monkeypatch.setattr(raw, "TLS", made.trusted())
    return TlsHarness(made)


class TestTlsContract(MessageContract, EndingContract):
    """Of the contract what has to do with bytes; TLS changes nothing in what is decided about them."""

    test_one_that_takes_nothing_is_closed = (
        PressureContract.test_one_that_takes_nothing_is_closed_in_time_and_nobody_waits
    )
    test_one_huge_message_to_one_that_takes_nothing = PressureContract.test_one_huge_message_to_one_that_takes_nothing
    test_the_hard_bound = PressureContract.test_the_hard_bound
    test_room = PressureContract.test_room
    test_frames_stay_whole = PressureContract.test_frames_stay_whole_whatever_comes_between
    test_no_pong_amid_a_message = LifeContract.test_no_pong_is_asked_of_one_that_is_amid_a_message
    test_no_pong_ahead_of_the_ping = LifeContract.test_no_pong_is_asked_of_one_that_reads_what_is_ahead_of_the_ping
    test_never_whole = LifeContract.test_a_message_that_is_never_whole_is_given_up
    test_one_that_stops_amid_a_message = LifeContract.test_one_that_stops_amid_a_message_is_closed


async def test_large_messages_both_ways_beside_small_ones(
    harness: TlsHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address:
        large, small = await RawClient.open(address, receive_buffer=4096), await RawClient.open(address)
        async with large, small:
            (await gate.recorder(0)).peer.allow_message_size(0)
            text = "0123456789abcdef" * (2 << 16)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(large.send, frame(TEXT, text.encode()) + frame(TEXT, b"behind it"))
                for number in range(20):
                    await small.say(str(number))
                    assert await small.message() == str(number)
                assert await large.message() == text
                assert await large.message() == "behind it"


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 4096, b"\x16\x03\x01"]
)
async def test_what_is_no_tls_ends_without_a_word_in_the_clear(
    harness: TlsHarness, gate: ScriptGate, counts: Counts, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(raw, "TLS", None)
    async with harness.serve(gate, counts, Options(handshake_timeout=0.5)) as address:
        async with await RawClient.dial(address) as client:
            await client.send(said)
            heard = await client.rest()
            assert b"HTTP" not in heard
            assert heard[:1] in (b"", b"\x15"), "an alert or nothing"
        assert counts.handshakes_refused + counts.handshakes_timed_out == 1
        assert counts.contained_errors == 0
    assert not gate.recorders


async def test_a_record_that_was_tampered_with_ends_the_connection(
    harness: TlsHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
        recorder = await gate.recorder()
        await client.say("whole")
        assert await client.message() == "whole"
        await client.stream.socket.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await recorder.ending() == (1006, "")
        assert (await client.rest()) == b""
        assert (counts.protocol_errors, counts.contained_errors) == (1, 0)
    assert [payload for payload, _ in recorder.messages] == [b"whole"]


async def test_the_end_is_told_by_tls_too(harness: TlsHarness, gate: ScriptGate, counts: Counts) -> None:
    assert raw.TLS is not None
    # Without close_notify a client can't tell an end from one that somebody on the way has made.
    async with harness.serve(gate, counts, Options()) as address:
        plain = await trio.open_tcp_stream(*address)
        stream = trio.SSLStream(plain, raw.TLS, server_hostname="127.0.0.1")  # strict: wants close_notify
        await stream.send_all(upgrade() + close_frame(1000))
        heard = b""
        with trio.fail_after(10):
            while part := await stream.receive_some():  # raises BrokenResourceError where it was left out
                heard += part
        assert heard.endswith(b"\x88\x02\x03\xe8")
        await stream.aclose()


async def test_what_is_half_out_is_finished_before_a_slow_one_is_closed(
    harness: TlsHarness, gate: ScriptGate, counts: Counts
) -> None:
    options = Options(outbound_limit=1 << 16, hard_limit=1 << 20)
    gate.make = Silent
    async with harness.serve(gate, counts, options) as address:
        async with await RawClient.open(address, receive_buffer=4096) as client:
            peer = (await gate.recorder()).peer
            number = 0
            while counts.slow_closed == 0:
                peer.send(Frame(b"%06d" % number + b"." * 5000))
                number += 1
                await trio.lowlevel.checkpoint()
            # Frames in their order, none torn, then our Close: the peer reads on now.
            for expected in range(number):
                received = await client.frame()
                assert received is not None
                if received.opcode == CLOSE:
                    assert int.from_bytes(received.payload[:2], "big") == 4008
                    assert expected
                    break
                assert received.payload[:6] == b"%06d" % expected
            else:
                pytest.fail("no Close")
        assert counts.contained_errors == 0


# Certificates that are read again


async def test_new_connections_get_the_new_certificate_and_the_old_ones_go_on(
    made: Certificate, gate: ScriptGate, counts: Counts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_certificate(tmp_path, "first"), make_certificate(tmp_path, "second")
    used = replace(first, file=tmp_path / "used.pem", key=tmp_path / "used.key")
    swap(used, first)
    harness = TlsHarness(used)
    monkeypatch.setattr(raw, "TLS", first.trusted())
    async with trio.open_nursery() as nursery, harness.serve(gate, counts, Options()) as address:
        nursery.start_soon(harness.certificates.run)
        async with await RawClient.open(address) as old:
            swap(used, second)
            with trio.fail_after(15):
                while not any(event == "certificate_read" for event, _ in harness.log):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            monkeypatch.setattr(raw, "TLS", second.trusted())
            async with await RawClient.open(address) as new:
                await new.say("new")
                assert await new.message() == "new"
            await old.say("still here")
            assert await old.message() == "still here"
        nursery.cancel_scope.cancel()


HSTS = (("strict-transport-security", "max-age=31536000"),)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (upgrade("/", version="12"), 426),
        (upgrade("/", key="short"), 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"no head at all\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: gw\r\nContent-Length: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
async def test_browsers_are_told_to_come_by_https_in_answers_to_what_is_malformed_too(
    harness: TlsHarness, gate: ScriptGate, counts: Counts, monkeypatch: pytest.MonkeyPatch, said: bytes, status: int
) -> None:
    async with (
        harness.serve(gate, counts, Options(), https_headers=HSTS) as address,
        await RawClient.dial(address) as client,
    ):
        await client.send(said)
        answer = await client.answer()
    assert answer.status == status
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    monkeypatch.setattr(raw, "TLS", None)
    plain = NativeHarness()
    async with (
        plain.serve(gate, counts, Options(), https_headers=HSTS) as address,
        await RawClient.dial(address) as client,
    ):
        await client.send(said)
        answer = await client.answer()
    assert answer.status == status
    assert "strict-transport-security" not in answer.headers


async def test_whom_a_proxy_says_to_have_come_by_https_is_told_too(gate: ScriptGate, counts: Counts) -> None:
    plain = NativeHarness()
    trusting = ProxyRules(("127.0.0.1",)).resolve
    for scheme in ("https", "http"):
        async with (
            plain.serve(gate, counts, Options(), https_headers=HSTS, resolve_source=trusting) as address,
            await RawClient.dial(address) as client,
        ):
            await client.send(upgrade("/", version="12", extra=b"X-Forwarded-Proto: %s\r\n" % scheme.encode()))
            answer = await client.answer()
        assert answer.status == 426
        assert ("strict-transport-security" in answer.headers) == (scheme == "https")
