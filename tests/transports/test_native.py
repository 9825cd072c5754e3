"""The native transport: the contract, and what is its own."""

import os
import selectors
import socket

import pytest
import trio
import trio.testing

from portico.wire.codes import CloseCode
from portico.wire.frame import Frame
from service.transports.poller import SelectorPoller

from .contract import Options, TransportContract, scripted, still_serves, until
from .native_harness import NativeHarness
from .raw import PING, TEXT, RawClient, close_frame, frame, upgrade
from .script import Counts, Recorder, ScriptGate


class TestNativeContract(TransportContract):
    @pytest.fixture
    def harness(self) -> NativeHarness:
        return NativeHarness()


async def test_a_send_from_outside_a_pass_goes_out_at_once(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
        recorder = await gate.recorder()
        for number in range(50):
            recorder.peer.send(Frame(b"%d" % number))
            with trio.fail_after(10):
                assert await client.message() == str(number)


async def test_a_log_that_raises(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    def broken(event: str, /, **fields: object) -> None:
        raise OSError("no space left on device")

    def raising(recorder: Recorder, payload: bytes) -> None:
        raise RuntimeError("a bug of ours")

    harness.note = broken  # type: ignore[method-assign]  # a disk that is full
    gate.make = scripted(raising)
    async with harness.serve(gate, counts, Options()) as address:
        async with await RawClient.open(address) as client:
            await client.say("raise")
            assert (await client.closed())[0] == 1011
        gate.make = Recorder
        await still_serves(address)


async def test_a_receiver_that_raises_at_the_end(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    class Bad(Recorder):
        def closed(self, code: int, reason: str) -> None:
            super().closed(code, reason)
            raise RuntimeError("a bug of ours")

    gate.make = Bad
    async with harness.serve(gate, counts, Options()) as address:
        async with await RawClient.open(address) as client:
            await client.send(close_frame(1000))
            assert (await client.closed())[0] == 1000
        await (await gate.recorder()).ending()
        await still_serves(address)
    assert counts.contained_errors >= 1


async def test_one_closes_another_in_the_same_batch(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    class Murderer(Recorder):
        def on_message(self, payload: bytes, text: bool) -> None:
            for other in gate.recorders:
                if other is not self:
                    other.peer.close(CloseCode.KICKED)
            self.peer.send(Frame(b"done"))

    gate.make = Murderer
    async with harness.serve(gate, counts, Options()) as address:
        clients = [await RawClient.open(address) for _ in range(20)]
        await gate.recorder(19)
        # All readable in one batch: whoever comes first closes the rest, whose messages no longer count.
        for client in clients:
            os.write(client.stream.socket.fileno(), frame(TEXT, b"me first"))
        await until(lambda: any(recorder.messages for recorder in gate.recorders))
        for recorder in gate.recorders:
            if not recorder.messages:
                assert (await recorder.ending())[0] == 4010
        assert sum(bool(recorder.messages) for recorder in gate.recorders) == 1
        for client in clients:
            await client.aclose()


async def test_deferred_calls_run_in_order_with_others_served_in_between(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
        recorder = await gate.recorder()
        ran: list[int] = []
        done = trio.Event()

        def call(number: int) -> None:
            ran.append(number)
            recorder.peer.send(Frame(b"%d" % number))
            if number == 1:
                raise RuntimeError("contained")
            if number < 40:
                harness.reactor.defer(lambda: call(number + 2))
            else:
                done.set()

        harness.reactor.defer(lambda: call(0))
        harness.reactor.defer(lambda: call(1))
        assert ran == []
        with trio.fail_after(60):
            await done.wait()
        assert ran == [0, 1, *range(2, 41, 2)]
        assert [int(await client.message()) for _ in ran] == ran
    assert counts.contained_errors == 1


async def test_a_cancelled_reactor_closes_everything(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with harness.serve(gate, counts, Options()) as address:
        client = await RawClient.open(address)
        half = await RawClient.dial(address)
        recorder = await gate.recorder()
        await until(lambda: harness.reactor.connection_count == 2)
    assert recorder.closings == [(1001, "")]
    assert (await client.closed())[0] == 1001
    await half.ended()
    await client.aclose()
    await half.aclose()
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_can_be_made_before_trio_runs(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    before = len(os.listdir("/proc/self/fd"))
    reactor = harness.make(gate, counts, Options())
    assert len(os.listdir("/proc/self/fd")) == before
    assert reactor.connection_count == 0


async def test_it_serves_without_epoll(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    def poller() -> SelectorPoller:
        return SelectorPoller(selectors.EpollSelector())  # kqueue's twin, as far as this system has one

    async with harness.serve(gate, counts, Options(), make_poller=poller) as address:
        await still_serves(address)
        async with await RawClient.open(address, receive_buffer=4096) as client:
            recorder = await gate.recorder(1)
            recorder.peer.send(Frame(b"x" * 4_000_000))
            await client.stream.send_eof()
            assert len(await client.message()) == 4_000_000
            await client.ended()


async def test_close_ends_run(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
        harness.reactor.close()
        assert (await client.closed())[0] == 1001


async def test_a_request_that_came_just_before_the_end_is_answered_and_the_idle_are_closed_as_is_proper(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    ask = b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"
    async with harness.serve(gate, counts, Options()) as address:
        kept, idle = [await trio.open_tcp_stream(*address) for _ in range(2)]
        for client in (kept, idle):
            await client.send_all(ask)
            assert (await client.receive_some(4096)).startswith(b"HTTP/1.1 ")
        # Nothing here waits, so the reactor is ended without a pass in between.
        harness.reactor.stop_accepting()
        assert kept.socket._sock.send(ask) == len(ask)  # type: ignore[attr-defined]  # one that doesn't wait
    async with kept, idle:
        with trio.fail_after(30):
            last = b"".join([part async for part in kept])
            assert [part async for part in idle] == []
    assert last.startswith(b"HTTP/1.1 ")
    assert b"connection: close" in last


async def test_adopting_a_socket(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()):
        for split in (0, 10, len(upgrade()), len(upgrade()) + 8):
            ours, theirs = socket.socketpair()
            data = upgrade() + frame(TEXT, b"hello")
            harness.reactor.adopt(ours, data[:split], "worker", "10.1.2.3")
            client = RawClient(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
            await client.send(data[split:])
            assert (await client.answer()).status == 101
            assert await client.message() == "hello"
            assert gate.recorders[-1].handshake.kind == "worker"
            assert gate.recorders[-1].peer.address == "10.1.2.3"
            await client.aclose()


async def test_adopting_when_all_is_over(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()):
        pass
    ours, theirs = socket.socketpair()
    with theirs:
        harness.reactor.adopt(ours, upgrade(), "websocket", "10.1.2.3")
        assert theirs.recv(1) == b""


async def test_pings_without_end_to_one_that_never_reads(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options(outbound_limit=10_000)) as address:
        async with await RawClient.open(address, receive_buffer=4096) as client:
            recorder = await gate.recorder()
            burst = frame(PING, b"p" * 125) * 1000
            with trio.move_on_after(20):
                while not recorder.closings:
                    with trio.move_on_after(0.5):
                        try:
                            await client.stream.send_all(burst)
                        except trio.BrokenResourceError:
                            break
            assert (await recorder.ending())[0] == 4008
        await still_serves(address)
    assert counts.slow_closed == 1


async def test_after_standing_still_what_came_meanwhile_is_read_before_anybody_is_given_up(
    mock_clock: trio.testing.MockClock,
) -> None:
    harness, counts = NativeHarness(), Counts()
    async with harness.serve(ScriptGate(), counts, Options()) as address:
        reactor = harness.reactor
        said, mute = [socket.create_connection(address) for _ in range(2)]
        with said, mute:
            for one in (said, mute):
                one.sendall(b"GET /livez HTTP/1.1\r\n")
            while sum(connection.idle is False for connection in reactor._connections.values()) < 2:
                await trio.lowlevel.checkpoint()
            said.sendall(b"Host: a\r\n\r\n")
            mock_clock.jump(reactor.handshake_timeout + 60)  # a laptop's lid
            said.setblocking(False)
            with trio.socket.from_stdlib_socket(said.dup()) as heard:
                assert (await heard.recv(4096)).startswith(b"HTTP/1.1 ")
            assert counts.handshakes_timed_out == 0
            for _ in range(20):
                mock_clock.jump(0.1)
                await trio.testing.wait_all_tasks_blocked()
            assert counts.handshakes_timed_out == 1, "the other one is given up all the same"
