"""The native transport: the contract, and what is its own."""

import errno
import os
import resource
import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from portico.wire.codes import CloseCode
from portico.wire.frame import Frame
from service.core.ports import Handshake, HttpAnswer, Peer
from service.transports.poller import SelectorPoller

from .contract import Options, TransportContract, scripted, still_serves, until
from .native_harness import NativeHarness
from .raw import PING, PONG, TEXT, RawClient, close_frame, frame, upgrade
from .script import Counts, Recorder, ScriptGate, Silent


@pytest.fixture
def harness() -> NativeHarness:
    return NativeHarness()


@pytest.fixture
def gate() -> ScriptGate:
    return ScriptGate()


@pytest.fixture
def counts() -> Counts:
    return Counts()


class TestNativeContract(TransportContract):
    @pytest.fixture
    def harness(self) -> NativeHarness:
        return NativeHarness()


# ---- plain HTTP on a WebSocket port


async def test_plain_http(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()) as address:
        for request, status, body in (
            (b"GET /hello?a HTTP/1.1\r\nHost: x\r\n\r\n", 200, b"GET a\n"),
            (b"GET /hello HTTP/1.0\r\n\r\n", 200, b"GET \n"),
            (b"HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n", 200, b""),
            (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", 426, None),
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


async def test_a_wrong_version_is_told_the_right_one(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.dial(address) as client:
        await client.send(upgrade(version="8"))
        answer = await client.answer()
    assert (answer.status, answer.headers["sec-websocket-version"]) == (426, "13")
    assert counts.handshakes_refused == 1


# ---- pings


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


# ---- rates


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


# ---- closing


async def test_a_peer_that_never_answers_our_close_is_cut_off(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
        recorder = await gate.recorder()
        recorder.peer.close(CloseCode.KICKED)
        assert (await recorder.ending())[0] == 4010
        assert (await client.closed())[0] == 4010
        with trio.fail_after(5):
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


async def test_theirs_is_found_behind_big_frames(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
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
        with trio.fail_after(1.5):  # sooner than by patience alone
            assert (await client.closed())[0] == 4010
            await client.ended()
    assert recorder.messages == []


async def test_a_send_from_outside_a_pass_goes_out_at_once(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
        recorder = await gate.recorder()
        for number in range(50):
            recorder.peer.send(Frame(b"%d" % number))
            with trio.fail_after(1):
                assert await client.message() == str(number)


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


# ---- the reactor itself


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
        with trio.fail_after(5):
            await done.wait()
        assert ran == [0, 1, *range(2, 41, 2)]
        assert [int(await client.message()) for _ in ran] == ran
    assert counts.contained_errors == 1


async def test_drain(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()) as address:
        readers = [await RawClient.open(address) for _ in range(20)]
        deaf = await RawClient.open(address, receive_buffer=4096)
        await gate.recorder(20)
        gate.recorders[20].peer.send(Frame(b"x" * 8_000_000))
        half = await RawClient.dial(address)
        await half.send(upgrade()[:30])
        await until(lambda: harness.reactor.connection_count == 22)
        late = socket.create_connection(address)  # in the accept queue, at best
        start = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def read(client: RawClient) -> None:
                assert await client.closed() == (1012, "retry_within_ms=300")
                await client.send(close_frame(1012))
                await client.ended()

            for client in readers:
                nursery.start_soon(read, client)
            await harness.reactor.drain(0.3)
        assert 0.3 <= trio.current_time() - start < 5
        assert harness.reactor.connection_count == 0
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(address)
        assert all(recorder.closings == [(1012, "retry_within_ms=300")] for recorder in gate.recorders)
        late.close()
        for client in (deaf, half, *readers):
            await client.aclose()


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


async def test_a_port_that_is_taken(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()) as (host, port):
        with pytest.raises(OSError, match=rf"Cannot listen on {host} port {port}: .+\.") as caught:
            await harness.reactor.listen(host, port, "websocket")
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match="no address or known name"):
            await harness.reactor.listen("no.such.host.invalid", 0, "websocket")


async def test_both_families_on_one_port(harness: NativeHarness, gate: ScriptGate, counts: Counts) -> None:
    async with harness.serve(gate, counts, Options()), trio.open_nursery() as nursery:
        try:
            probe = socket.socket(socket.AF_INET6)
            probe.bind(("::1", 0))
            probe.close()
        except OSError:
            pytest.skip("no IPv6 here")
        found = await nursery.start(harness.reactor.listen, "::", 0, "worker")
        for host in ("127.0.0.1", "::1"):
            async with await RawClient.open((host, found[0][1])):
                recorder = await gate.recorder(len(gate.recorders) - 1)
                assert recorder.peer.address == host
        nursery.cancel_scope.cancel()


@contextmanager
def few_descriptors() -> Iterator[None]:
    """As if the process had none left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest + 2 - len(os.listdir("/proc/self/fd")))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare, default=highest) + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in spare:
            os.close(fd)


async def test_out_of_descriptors_accepting_pauses_and_resumes(
    harness: NativeHarness, gate: ScriptGate, counts: Counts
) -> None:
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as bystander:
        waiting = socket.socket()
        waiting.setblocking(False)
        with few_descriptors():
            assert waiting.connect_ex(address) in (0, errno.EINPROGRESS)
            with trio.fail_after(10):
                while "accept_paused" not in [event for event, _ in harness.log]:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            await bystander.say("still served")
            assert await bystander.message() == "still served"
        client = RawClient(trio.SocketStream(trio.socket.from_stdlib_socket(waiting)))
        await client.send(upgrade())
        assert (await client.answer()).status == 101
        await client.aclose()
    assert [event for event, _ in harness.log if event == "accept_resumed"]
    assert counts.accept_pauses == [event for event, _ in harness.log].count("accept_paused")


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
