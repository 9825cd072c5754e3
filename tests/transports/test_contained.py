"""A connection in Hypercorn's hands: nothing that it does reaches another, and what should end ends."""

from dataclasses import replace
from struct import pack

import pytest
import trio
import trio.testing

from .contract import send_what_is_taken, until
from .door_stage import Stage, tasks_at_rest
from .raw import Address, RawClient, upgrade
from .script import Recorder
from .vectors import GET, VECTORS, h2_preface, whole


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("adopting", [False, True], ids=["kept", "adopting"])
async def test_one_connection_ends_nothing_but_itself(vector: bytes, adopting: bool) -> None:
    stage = Stage(h2c=True)
    if adopting:
        stage.door = replace(stage.door, adopt=lambda sock, *_: sock.close())
    async with stage.serve() as address:
        async with await RawClient.dial(address) as bystander, await RawClient.dial(address) as attacker:
            await bystander.send(GET)
            await whole(bystander)
            await send_what_is_taken(attacker, vector)
            with trio.move_on_after(0.3):
                await attacker.rest()
            await bystander.send(GET)
            assert (await whole(bystander)).startswith(b"hello 127.0.0.1 http gw")
        async with await RawClient.dial(address) as later:
            await later.send(GET)
            await whole(later)
    for _, fields in stage.lines.lines:
        for text in fields.values():
            assert str(text).isprintable()


async def test_an_error_is_counted_and_logged_as_one_safe_line() -> None:
    stage = Stage(h2c=True)
    get = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
    # Hypercorn keeps a place for each of them, and fails at the thousandth.
    priorities = b"".join(b"\x00\x00\x05\x02\x00" + pack(">IIB", 3 + 2 * n, 0, 15) for n in range(1001))
    async with stage.serve() as address, await RawClient.dial(address) as client:
        await client.send(h2_preface(get) + priorities)
        await client.ended()
        await until(lambda: stage.counts.contained_errors == 1)
    ((event, fields),) = stage.lines.lines
    assert event == "contained_error"
    assert "TooManyStreamsError" in str(fields["error"])


async def test_an_error_of_the_app_is_one_safe_line() -> None:
    stage = Stage()

    def explode(*_: object) -> Recorder:
        raise RuntimeError("a \x1b[31mbug\r\nof ours")

    stage.gate.make = explode
    async with stage.serve() as address, await RawClient.open(address) as client:
        assert (await client.closed())[0] == 1011
        await client.ended()
    ((event, fields),) = stage.lines.lines
    assert event == "hypercorn_error"
    assert r"RuntimeError: a \x1b[31mbug\r\nof ours" in str(fields["error"])


async def ends_after(address: Address, request: bytes) -> float:
    """Seconds from the answer to the end of the connection."""
    async with await RawClient.dial(address) as client:
        await client.send(request)
        await whole(client)
        start = trio.current_time()
        await client.ended()
        return trio.current_time() - start


async def test_connections_are_closed_when_they_should_be() -> None:
    took: dict[str, float] = {}

    async def measure(name: str, address: Address, request: bytes) -> None:
        took[name] = await ends_after(address, request)

    async with Stage().serve() as address, trio.open_nursery() as nursery:
        nursery.start_soon(measure, "close", address, b"GET /hello HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n")
        nursery.start_soon(measure, "1.0", address, b"GET /hello HTTP/1.0\r\nHost: gw\r\n\r\n")
        nursery.start_soon(measure, "idle", address, GET)
    # As they ended: an answer that is the last one ends its connection, and five idle seconds end the other.
    assert list(took)[-1] == "idle"
    assert took["idle"] > 4


async def test_a_kept_alive_connection_serves_many() -> None:
    async with Stage().serve() as address, await RawClient.dial(address) as client:
        for _ in range(20):
            await client.send(GET)
            await whole(client)


async def test_a_client_that_stops_reading_is_cut() -> None:
    stage = Stage(send_timeout=0.5, linger=0.2)
    async with stage.serve() as address:
        tasks = await tasks_at_rest()
        async with await RawClient.dial(address, receive_buffer=4096) as client:
            # A second request waits behind the first: it must not keep the connection either.
            await client.send(GET.replace(b"hello", b"big") * 2)
            await until(lambda: trio.lowlevel.current_statistics().tasks_living > tasks)
            await until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
            await client.ended()
            assert len(client._buffer) < 30_000_000


async def test_a_client_whose_link_is_slow_gets_everything() -> None:
    stage = Stage(send_timeout=0.4, linger=0.2)
    async with stage.serve() as address, await RawClient.dial(address, receive_buffer=65536) as client:
        await client.send(GET.replace(b"hello", b"big"))
        answer = await client.answer()
        got = len(client._buffer)
        # The kernel has megabytes of it: for seconds the gateway itself sees no progress.
        while got < int(answer.headers["content-length"]):
            with trio.fail_after(60):
                data = await client.stream.receive_some(100_000)
            assert data, f"cut after {got} bytes"
            got += len(data)
            await trio.sleep(len(data) / 4_000_000)


@pytest.mark.parametrize("start", [b"", b"GET /hel", b"POST /length HTTP/1.1\r\nHost:", b"PRI * HT"])
@pytest.mark.parametrize("adopting", [False, True], ids=["kept", "adopting"])
async def test_half_a_head_then_silence(start: bytes, adopting: bool) -> None:
    stage = Stage(handshake_timeout=0.3, linger=0.2)
    if adopting:
        stage.door = replace(stage.door, adopt=lambda *_: None)
    async with stage.serve() as address, await RawClient.dial(address) as client:
        await client.send(start)
        with trio.fail_after(60):
            await client.ended()


@pytest.mark.parametrize("adopting", [False, True], ids=["kept", "adopting"])
@pytest.mark.parametrize("head", [upgrade(extra=b"X: " + b"y" * 70_000 + b"\r\n"), GET[:-2] + b"X: " + b"y" * 20_000])
async def test_a_head_has_a_bound(head: bytes, adopting: bool) -> None:
    stage = Stage()
    taken: list[bytes] = []
    if adopting:
        stage.door = replace(stage.door, adopt=lambda sock, data, *_: taken.append(data))
    async with stage.serve() as address, await RawClient.dial(address) as client:
        await send_what_is_taken(client, head)
        assert (await client.answer()).status == 431
        await client.ended()
    assert not taken


async def test_a_long_body_that_nobody_waits_for() -> None:
    async with Stage().serve() as address, await RawClient.dial(address) as client, trio.open_nursery() as nursery:
        body = b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
        nursery.start_soon(send_what_is_taken, client, body)
        assert (await client.answer()).status in (404, 413)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("first", [b"GET /hello HTTP/1.1\r\nConnection: close\r\n", b"GET /hello HTTP/1.0\r\n"])
@pytest.mark.parametrize("cut", [0, 5, len(GET)])
async def test_what_comes_behind_the_last_request_costs_it_no_answer(first: bytes, cut: int) -> None:
    sent = first + b"Host: gw\r\n\r\n" + GET
    async with Stage().serve() as address, await RawClient.dial(address) as client:
        await client.send(sent[: len(sent) - cut])
        await client.send(sent[len(sent) - cut :])
        assert (await whole(client)).startswith(b"hello 127.0.0.1 http gw")
        await client.ended()
