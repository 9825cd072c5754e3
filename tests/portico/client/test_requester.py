from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from portico.client.backoff import Backoff
from portico.client.errors import (
    ClientError,
    ConnectionLost,
    GaveUp,
    MessageTooLarge,
    NotRunning,
    NoWorkers,
    RequestFailed,
    RequestTimeout,
    SentAway,
    StreamOverrun,
    Unsendable,
    WorkerLost,
    WorkersBusy,
)
from portico.client.events import BadMessage, Complaint, Connected, Lost
from portico.client.link import LinkOptions
from portico.client.requester import Requester
from tests.portico.client.fake_gateway import QUICK, Events, Peer, fake_gateway


def ok(request: dict[str, Any], data: object, **more: object) -> dict[str, Any]:
    answer = {"request_id": request["request_id"], "success": True, "data": data, "error": None}
    return answer | {"processed_by": "w1"} | more


def failed(request: dict[str, Any], error: str) -> dict[str, Any]:
    return ok(request, None) | {"success": False, "error": error}


async def echo(peer: Peer) -> None:
    while True:
        request = await peer.next()
        if "cancel" not in request:
            await peer.say(ok(request, request["data"]))


async def mute(peer: Peer) -> None:
    await peer.forever()


def requester(url: str, **options: Any) -> Requester:
    return Requester(url=url, backoff=QUICK, **{"on_event": Events()} | options)


async def test_a_call_is_answered_and_goes_to_the_requester_path() -> None:
    async with fake_gateway(echo) as gateway, requester(gateway.url) as r:
        assert await r.request("echo", {"message": "hi"}) == {"message": "hi"}
        answer = await r.ask("echo", [1, 2])
        assert (answer.success, answer.data, answer.processed_by) == (True, [1, 2], "w1")
        assert gateway.paths == ["/requester"]


async def test_only_the_options_that_were_given_are_sent() -> None:
    seen: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.next())
            await peer.say(ok(seen[-1], None))

    async with fake_gateway(script) as gateway, requester(gateway.url) as r:
        await r.request("a")
        await r.request("b", 1, timeout=5, affinity="k", idempotent=False)
    assert seen[0].keys() == {"request_id", "command", "data"}
    assert {k: seen[1][k] for k in ("timeout", "affinity", "idempotent")} == {
        "timeout": 5,
        "affinity": "k",
        "idempotent": False,
    }
    assert seen[0]["request_id"] != seen[1]["request_id"]


async def test_answers_in_any_order_reach_their_own_calls() -> None:
    async def script(peer: Peer) -> None:
        requests = [await peer.next() for _ in range(50)]
        for request in reversed(requests):
            await peer.say(ok(request, request["data"] * 10))
        await peer.forever()

    results: dict[int, int] = {}
    async with fake_gateway(script) as gateway, requester(gateway.url) as r:

        async def call(n: int) -> None:
            results[n] = await r.request("times_ten", n)

        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(call, n)
        assert r.in_flight == 0
    assert results == {n: n * 10 for n in range(50)}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("No available workers", NoWorkers),
        ("Workers busy", WorkersBusy),
        ("Worker lost", WorkerLost),
        ("Worker response timeout", RequestTimeout),
        ("the worker's own words", RequestFailed),
    ],
)
async def test_each_cause_of_a_failure_has_its_class(error: str, kind: type[RequestFailed]) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.say(failed(await peer.next(), error))

    async with fake_gateway(script) as gateway, requester(gateway.url) as r:
        with pytest.raises(RequestFailed) as caught:
            await r.request("x")
        assert type(caught.value) is kind
        assert (caught.value.error, caught.value.processed_by) == (error, "w1")
        answer = await r.ask("x")
        assert (answer.success, answer.error) == (False, error)


async def cancelled_when_sent(call: Callable[[], Awaitable[object]]) -> None:
    """Make this call, and leave it once it waits for its answer."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()


async def test_a_cancelled_call_is_forgotten_and_its_late_answer_dropped() -> None:
    release = trio.Event()

    async def script(peer: Peer) -> None:
        first = await peer.next()
        await release.wait()
        await peer.say(ok(first, "late"))
        await echo(peer)

    async with fake_gateway(script) as gateway, requester(gateway.url) as r:
        await cancelled_when_sent(partial(r.request, "slow"))
        assert r.in_flight == 0
        release.set()
        assert await r.request("echo", "next") == "next"
        assert r.dropped == 1


async def leave_by_cancelling(r: Requester) -> None:
    await cancelled_when_sent(partial(r.request, "slow"))


async def leave_a_stream_by_cancelling(r: Requester) -> None:
    async def stream() -> None:
        async for _ in r.stream("slow"):
            pass

    await cancelled_when_sent(stream)


async def leave_a_stream_early(r: Requester) -> None:
    async with aclosing(r.stream("slow")) as parts:
        async for _ in parts:
            break


async def wait_no_longer(r: Requester) -> None:
    with pytest.raises(RequestTimeout):
        await r.request("slow", timeout=0.3)  # it has to be sent by then


@pytest.mark.parametrize(
    "leave", [leave_by_cancelling, leave_a_stream_by_cancelling, leave_a_stream_early, wait_no_longer]
)
async def test_a_call_whose_caller_leaves_is_taken_back(
    leave: Callable[[Requester], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico.client.requester.GRACE", 0.01)
    seen: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        first = await peer.next()
        if first.get("stream"):
            await peer.say(ok(first, 1, partial=True))
        seen.extend((first, await peer.next()))
        await peer.say(failed(first, "Cancelled"))
        await echo(peer)

    async with fake_gateway(script) as gateway, requester(gateway.url) as r:
        await leave(r)
        assert r.in_flight == 0
        with trio.fail_after(30):
            assert await r.request("echo", "next") == "next"
        assert r.dropped == 0  # its end was asked for, and is no late answer
    first, second = seen
    assert second == {"request_id": first["request_id"], "cancel": True}


async def test_nothing_is_taken_back_that_was_answered_or_never_sent() -> None:
    seen: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.next()
            await peer.drop()
        while True:
            seen.append(await peer.next())
            await peer.say(ok(seen[-1], "done") if seen[-1]["command"] != "bad" else failed(seen[-1], "no"))

    async with fake_gateway(script) as gateway, requester(gateway.url, max_in_flight=1) as r:
        with pytest.raises(ConnectionLost):
            await r.request("lost")
        assert await r.request("a") == "done"
        assert [part async for part in r.stream("b")] == ["done"]
        with pytest.raises(RequestFailed):
            await r.request("bad")
        with trio.CancelScope() as scope:
            scope.cancel()
            await r.request("never")
        async with aclosing(r.stream("c")) as parts:
            async for _ in parts:
                break  # at its last part, which is its answer
        assert await r.request("d") == "done"
    assert [message.get("command") for message in seen] == ["a", "b", "bad", "c", "d"]


async def test_a_timeout_of_our_own_when_the_gateway_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.client.requester.GRACE", 0.01)
    async with fake_gateway(mute) as gateway, requester(gateway.url) as r:
        with pytest.raises(RequestTimeout):
            await r.request("x", timeout=0.01)
        with pytest.raises(RequestTimeout):
            async for _ in r.stream("x", timeout=0.01):
                pass
        assert r.in_flight == 0


async def test_a_cancelled_call_s_late_error_is_not_reported_but_a_complaint_is() -> None:
    async def script(peer: Peer) -> None:
        first, _taken_back, second = await peer.next(), await peer.next(), await peer.next()
        await peer.say(failed(first, "No available workers"))
        await peer.say(failed(first, "Missing command") | {"request_id": None})
        await peer.say(ok(second, 2))
        await peer.forever()

    events = Events()
    async with fake_gateway(script) as gateway, requester(gateway.url, on_event=events) as r:
        await cancelled_when_sent(partial(r.request, "x"))
        assert await r.request("y") == 2
        assert r.dropped == 2
    assert [str(event) for event in events.of(Complaint)] == ["the gateway says: Missing command"]
    assert events.of(BadMessage) == []


async def test_what_is_in_flight_when_the_connection_is_lost_fails_and_the_next_call_works() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.next()
            await peer.next()
            await peer.drop()
        await echo(peer)

    errors: list[ClientError] = []
    events = Events()
    async with fake_gateway(script) as gateway, requester(gateway.url, on_event=events) as r:

        async def call() -> None:
            try:
                await r.request("x")
            except ConnectionLost as lost:
                errors.append(lost)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
        assert [type(error) for error in errors] == [ConnectionLost, ConnectionLost]
        assert await r.request("echo", "again") == "again"
        assert gateway.connections == 2
    assert len(events.of(Lost)) == 1


async def test_a_call_made_while_there_is_no_connection_waits_for_the_next() -> None:
    dropped = trio.Event()

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.drop()
            dropped.set()
        await echo(peer)

    events = Events()
    async with fake_gateway(script) as gateway:
        gateway.slam = 1
        async with requester(gateway.url, on_event=events) as r:
            await events.wait_for(Lost, 2)
            assert await r.request("echo", 1) == 1


async def test_being_sent_away_ends_every_call_with_the_reason() -> None:
    async def script(peer: Peer) -> None:
        await peer.next()
        await peer.close(4010, "enough of you")

    async with fake_gateway(script) as gateway, requester(gateway.url) as r:
        with pytest.raises(ConnectionLost, match="4010"):
            await r.request("x")
        with trio.fail_after(60), pytest.raises(SentAway, match="kicked"):
            await r.request("y")


async def test_entering_raises_plainly_when_nobody_is_there() -> None:
    async with fake_gateway(mute) as gateway:
        pass
    backoff = Backoff(first=0.001, longest=0.001, max_attempts=2)
    with pytest.raises(GaveUp):
        async with Requester(url=gateway.url, backoff=backoff, on_event=Events()):
            raise AssertionError("never entered")


async def test_outside_of_its_block_it_is_not_usable() -> None:
    async with fake_gateway(echo) as gateway:
        r = requester(gateway.url)
        with pytest.raises(NotRunning):
            await r.request("x")
        async with r:
            pass
        with pytest.raises(NotRunning):
            await r.request("x")


async def test_calls_that_still_wait_when_the_block_ends_are_told() -> None:
    errors: list[ClientError] = []

    async def call(r: Requester) -> None:
        try:
            await r.request("x")
        except ClientError as error:
            errors.append(error)

    async with fake_gateway(mute) as gateway, trio.open_nursery() as nursery, requester(gateway.url) as r:
        nursery.start_soon(call, r)
        while not r.in_flight:
            await trio.lowlevel.checkpoint()
    assert [type(error) for error in errors] == [NotRunning]


async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    async with fake_gateway(echo) as gateway:
        with pytest.raises(KeyError, match="mine"):
            async with requester(gateway.url):
                raise KeyError("mine")


async def test_misuse_costs_nobody_the_connection() -> None:
    async with fake_gateway(echo) as gateway:
        async with requester(gateway.url, options=LinkOptions(max_message=500)) as r:
            with pytest.raises(Unsendable):
                await r.request("x", object())
            with pytest.raises(MessageTooLarge):
                await r.request("x", "y" * 500)
            assert r.in_flight == 0
            assert await r.request("x", "fine") == "fine"
        assert gateway.connections == 1


@pytest.mark.parametrize("wrong", [{"max_in_flight": 0}, {"stream_buffer": 0}])
def test_no_room_for_any_call_is_refused_at_once(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        requester("ws://localhost:1", **wrong)


async def test_no_more_calls_are_in_flight_than_allowed() -> None:
    release = trio.Event()
    arrived: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        for _ in range(3):
            arrived.append(await peer.next())  # noqa: PERF401  (they arrive one by one)
        await release.wait()
        for request in arrived:
            await peer.say(ok(request, None))
        await echo(peer)

    async with fake_gateway(script) as gateway, requester(gateway.url, max_in_flight=3) as r:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(r.request, "x")
            while len(arrived) < 3:
                await trio.testing.wait_all_tasks_blocked(0.001)
            assert r.in_flight == 3
            release.set()
        assert r.in_flight == 0


async def test_a_stream_yields_its_parts_in_order_and_a_last_value() -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.next()
            assert request["stream"] is True
            for n in range(5):
                await peer.say(ok(request, n, partial=True))
            await peer.say(ok(request, request["data"]))

    async with fake_gateway(script) as gateway, requester(gateway.url) as r:
        assert [part async for part in r.stream("count")] == [0, 1, 2, 3, 4]
        assert [part async for part in r.stream("count", "end")] == [0, 1, 2, 3, 4, "end"]
        assert r.in_flight == 0


async def test_a_stream_that_fails_halfway_raises_after_its_parts() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.next()
        await peer.say(ok(request, 1, partial=True))
        await peer.say(failed(request, "Worker lost"))
        await peer.forever()

    parts: list[int] = []
    async with fake_gateway(script) as gateway, requester(gateway.url) as r:

        async def collect() -> None:
            async for part in r.stream("count"):
                parts.append(part)  # noqa: PERF401  (what came before the error is wanted)

        with pytest.raises(WorkerLost):
            await collect()
    assert parts == [1]


async def test_leaving_a_stream_early_drops_the_rest() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.next()
        for n in range(20):
            await peer.say(ok(request, n, partial=True))
        await peer.say(ok(request, None))
        await echo(peer)

    async with fake_gateway(script) as gateway, requester(gateway.url) as r:
        async with aclosing(r.stream("count")) as parts:
            async for part in parts:
                assert part == 0
                break
        assert r.in_flight == 0
        assert await r.request("echo", "still here") == "still here"


async def test_a_stream_that_is_not_read_overruns_after_its_buffer_and_harms_no_other() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.next()
        for n in range(20):
            await peer.say(ok(request, n, partial=True))
        await echo(peer)

    got: list[int] = []
    async with fake_gateway(script) as gateway, requester(gateway.url, stream_buffer=4) as r:

        async def dawdle() -> None:
            async for part in r.stream("count"):
                got.append(part)
                if part == 0:
                    assert await r.request("echo", "other") == "other"

        with pytest.raises(StreamOverrun):
            await dawdle()
    assert got[0] == 0
    assert len(got) <= 5


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda peer: peer.raw("not json"),
        lambda peer: peer.say([]),
        lambda peer: peer.say({}),
        lambda peer: peer.say({"request_id": "unknown", "success": True}),
        lambda peer: peer.say({"request_id": None, "success": False, "error": "Invalid JSON format"}),
    ],
)
async def test_nonsense_from_the_gateway_harms_no_call(nonsense: Callable[[Peer], Awaitable[None]]) -> None:
    async def script(peer: Peer) -> None:
        request = await peer.next()
        await nonsense(peer)
        await peer.say(ok(request, "fine"))
        await peer.forever()

    async with fake_gateway(script) as gateway, requester(gateway.url) as r:
        assert await r.request("x") == "fine"


async def test_it_says_when_it_is_connected() -> None:
    events = Events()
    async with fake_gateway(echo) as gateway, requester(gateway.url, on_event=events):
        assert str(events.of(Connected)[0]) == f"connected to {gateway.url}/requester"


@pytest.mark.parametrize(("api_key", "largest"), [(None, 2**20), ("sesame", 5 * 2**20)])
async def test_with_a_key_it_may_send_as_much_as_the_gateway_takes_from_those(
    api_key: str | None, largest: int
) -> None:
    async with (
        fake_gateway(echo) as gateway,
        requester(gateway.url, options=LinkOptions(api_key=api_key)) as r,
    ):
        with pytest.raises(MessageTooLarge, match=str(largest)):
            await r.request("echo", "x" * largest)
        assert len(await r.request("echo", "x" * (2**20 - 1000))) == 2**20 - 1000
