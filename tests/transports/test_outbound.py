"""Whose turn it is to be written to: those just heard come before a fan-out's backlog, which keeps its order."""

import os

import pytest

from portico.wire.frame import Frame
from service.transports import native
from service.transports.connection import Connection

from .contract import Options
from .native_harness import NativeHarness
from .raw import TEXT, RawClient, close_frame, frame
from .script import Counts, Recorder, ScriptGate

CROWD = 400  # more than is written between two looks at the clock


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """The connections that were written to, in order."""
    order: list[Connection] = []
    flush = Connection.flush

    def noted(connection: Connection) -> None:
        order.append(connection)
        flush(connection)

    monkeypatch.setattr(Connection, "flush", noted)
    return order


async def test_those_just_heard_come_before_the_backlog(
    written: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every pass is over at its first look at the clock, so that a fan-out takes several.
    monkeypatch.setattr(native, "PASS_SECONDS", 0.0)
    harness, gate, counts = NativeHarness(), ScriptGate(), Counts()
    async with harness.serve(gate, counts, Options()) as address:
        clients = [await RawClient.open(address) for _ in range(CROWD)]
        await gate.recorder(CROWD - 1)
        peers = [recorder.peer for recorder in gate.recorders]
        written.clear()
        # In the same turn of this task, so that the reactor finds both: a question from the last of the crowd, and
        # the fan-out to all others.
        os.write(clients[-1].stream.socket.fileno(), frame(TEXT, b"asked"))
        for peer in peers[:-1]:
            peer.send(Frame(b"to all"))
        assert await clients[-1].message() == "asked"
        behind = written.index(peers[-1])  # type: ignore[arg-type]  # a native Peer is a Connection
        assert behind <= native._FLUSHES, "the answer stood behind the fan-out"
        for client in clients[:-1]:
            assert await client.message() == "to all"
        fan_out = [peer for peer in written if peer is not peers[-1]]
        assert fan_out[: CROWD - 1] == peers[:-1], "everybody, in the order of the sends"
        for client in clients:
            await client.aclose()


@pytest.mark.parametrize(("seconds", "writes"), [(60.0, 1), (0.0, 20)])
async def test_what_is_written_waits_for_more_while_more_comes_in(
    written: list[Connection], monkeypatch: pytest.MonkeyPatch, seconds: float, writes: int
) -> None:
    """Twenty messages for one client, each found by another look at what has come: one write, or as many as looks."""
    monkeypatch.setattr(native, "GATHER_SECONDS", seconds)
    monkeypatch.setattr(native, "PASS_SECONDS", 60.0)
    monkeypatch.setattr(native, "_EVENTS", 1)
    harness, gate, counts = NativeHarness(), ScriptGate(), Counts()

    class ToTheFirst(Recorder):
        def on_message(self, payload: bytes, text: bool) -> None:
            gate.recorders[0].peer.send(Frame(payload))

    gate.make = ToTheFirst
    async with harness.serve(gate, counts, Options()) as address:
        clients = [await RawClient.open(address) for _ in range(21)]
        first = (await gate.recorder(20), gate.recorders[0].peer)[1]
        written.clear()
        # In the same turn of this task, so that the reactor finds all of them.
        for number, client in enumerate(clients[1:]):
            os.write(client.stream.socket.fileno(), frame(TEXT, b"%d" % number))
        assert {await clients[0].message() for _ in range(20)} == {str(number) for number in range(20)}
        assert written.count(first) == writes  # type: ignore[arg-type]  # a native Peer is a Connection
        for client in clients:
            await client.aclose()


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4321])
async def test_a_close_in_the_segment_of_data_is_answered_alike(code: int) -> None:
    harness, gate, counts = NativeHarness(), ScriptGate(), Counts()
    async with harness.serve(gate, counts, Options()) as address, await RawClient.open(address) as client:
        await client.send(frame(TEXT, b"one") + frame(TEXT, b"two") + close_frame(code))
        assert [await client.message(), await client.message()] == ["one", "two"]
        assert await client.closed() == (code, "")
        await client.ended()
        recorder: Recorder = await gate.recorder()
        assert await recorder.ending() == (code, "")
    assert [payload for payload, _ in recorder.messages] == [b"one", b"two"]
    assert counts.protocol_errors == 0
