from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from websockets.protocol import State

from portico.client.backoff import Backoff
from portico.client.errors import BadAddress, SentAway
from portico.client.events import Complaint, Connected, Draining, Lost, Retrying
from portico.client.handlers import CommandFailed, current_call
from portico.client.link import Link, LinkOptions
from portico.client.worker import Worker
from tests.portico.client.fake_gateway import QUICK, Events, Peer, Script, fake_gateway


async def greet(peer: Peer) -> dict[str, Any]:
    """What a gateway does on /worker: greet, hear who it is, confirm. Returns the introduction."""
    await peer.say({"type": "connect", "data": {"client_id": "made-up", "heartbeat_interval": 25}})
    introduction = await peer.next_of("connect")
    await peer.say({"type": "connect", "data": {"client_id": introduction["data"]["client_id"]}})
    return introduction


def request(request_id: str, action: str, params: object = None, *, stream: bool = False) -> dict[str, Any]:
    about = {"id": request_id, "attempt": 1, "deadline_ms": 1000, "stream": stream}
    return {
        "type": "request",
        "msg_id": request_id,
        "timestamp": 1.0,
        "data": {"action": action, "params": params, "request": about},
    }


async def ask(peer: Peer, request_id: str, action: str, params: object = None, **more: Any) -> dict[str, Any]:
    await peer.say(request(request_id, action, params, **more))
    data = (await peer.next_of("response"))["data"]
    assert isinstance(data, dict)
    return data


async def double(n: Any) -> Any:
    return n * 2


@asynccontextmanager
async def serving(script: Script, commands: dict[str, Any], **options: Any) -> AsyncIterator[Worker]:
    """A worker that runs against `script` until the body ends; then it is stopped at once."""
    async with fake_gateway(script) as gateway:
        defaults: dict[str, Any] = {"backoff": QUICK, "name": "w1", "on_event": Events()}
        worker = Worker(url=gateway.url, commands=commands, **(defaults | options))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            with trio.fail_after(60):
                yield worker
            worker.stop(now=True)


class Conversation:
    """Runs a script whose end the test waits for, and keeps its result."""

    def __init__(self, script: Callable[[Peer], Any]) -> None:
        self._script = script
        self._done = trio.Event()
        self.result: Any = None

    async def __call__(self, peer: Peer) -> None:
        if not self._done.is_set():
            self.result = await self._script(peer)
            self._done.set()
        await obey(peer)

    async def over(self) -> Any:
        await self._done.wait()
        return self.result


async def obey(peer: Peer) -> None:
    """Answer heartbeats, and a disconnect with a normal close, as a gateway does."""
    while True:
        message = await peer.next()
        if message["type"] == "heartbeat":
            await peer.say({"type": "heartbeat", "data": {}})
        elif message["type"] == "disconnect":
            return


async def talk(script: Callable[[Peer], Any], commands: dict[str, Any], **options: Any) -> Any:
    conversation = Conversation(script)
    async with serving(conversation, commands, **options):
        return await conversation.over()


async def test_it_introduces_itself() -> None:
    async def script(peer: Peer) -> Any:
        introduction = await greet(peer)
        return peer.path, introduction

    path, introduction = await talk(script, {"b": double, "a": double}, capacity=3, weight=2.0, token="sesame")
    assert path == "/worker"
    assert introduction["type"] == "connect"
    assert introduction["data"] == {
        "client_id": "w1",
        "role": "worker",
        "commands": ["a", "b"],
        "capacity": 3,
        "weight": 2.0,
        "token": "sesame",
    }
    assert introduction["msg_id"].startswith("msg_")
    assert isinstance(introduction["timestamp"], float)


async def test_async_plain_and_callable_handlers_answer_under_the_request_s_id() -> None:
    class Doubler:
        async def __call__(self, n: int) -> int:
            return n * 2

    async def script(peer: Peer) -> Any:
        await greet(peer)
        await peer.say(request("r1", "async", 1))
        response = await peer.next_of("response")
        assert response["msg_id"] == "r1"
        answers = [response["data"]]
        for n, name in enumerate(("plain", "partial", "object", "bound"), 2):
            answers.append(await ask(peer, f"r{n}", name, n))
        return answers

    commands = {
        "async": double,
        "plain": lambda n: n * 2,
        "partial": partial(double),
        "object": Doubler(),
        "bound": Doubler().__call__,
    }
    answers = await talk(script, commands)
    assert answers == [{"request_id": f"r{n}", "success": True, "result": n * 2, "error": None} for n in range(1, 6)]


async def test_a_handler_knows_its_call() -> None:
    def plain(_: Any) -> list[Any]:
        call = current_call()
        return [call.request_id, call.command, call.attempt]

    async def script(peer: Peer) -> Any:
        await greet(peer)
        return await ask(peer, "r1", "plain")

    assert (await talk(script, {"plain": plain}))["result"] == ["r1", "plain", 1]
    with pytest.raises(LookupError):
        current_call()


async def fails(_: Any) -> None:
    raise ValueError("bad\nnews")


async def refuses(_: Any) -> None:
    raise CommandFailed("I'd rather not.")


async def unsendable(_: Any) -> object:
    return object()


async def too_large(_: Any) -> str:
    return "x" * 5000


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (fails, "ValueError: bad\\nnews"),
        (refuses, "I'd rather not."),
        (unsendable, "Unsendable: This cannot be written as JSON"),
        (too_large, "MessageTooLarge: The message has 5"),
        (lambda _: 1 // 0, "ZeroDivisionError: integer division"),
    ],
)
async def test_what_a_handler_raises_is_the_answer_s_error(handler: Any, error: str) -> None:
    async def script(peer: Peer) -> Any:
        await greet(peer)
        return await ask(peer, "r1", "x"), await ask(peer, "r2", "double", 21)

    options = LinkOptions(max_message=2000)
    answer, next_answer = await talk(script, {"x": handler, "double": double}, options=options)
    assert (answer["success"], answer["result"]) == (False, None)
    assert answer["error"].startswith(error)
    assert next_answer["result"] == 42


async def test_an_unknown_command_is_refused() -> None:
    async def script(peer: Peer) -> Any:
        await greet(peer)
        return await ask(peer, "r1", "nope")

    assert "'nope'" in (await talk(script, {"double": double}))["error"]


async def count(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


async def test_an_async_generator_streams_its_values() -> None:
    async def script(peer: Peer) -> Any:
        await greet(peer)
        await peer.say(request("r1", "count", 3, stream=True))
        return [(await peer.next_of("response"))["data"] for _ in range(4)]

    *parts, last = await talk(script, {"count": count})
    assert [(part["result"], part["partial"]) for part in parts] == [(0, True), (1, True), (2, True)]
    assert last == {"request_id": "r1", "success": True, "result": None, "error": None}


async def test_a_generator_answers_a_list_where_no_stream_is_wanted() -> None:
    async def script(peer: Peer) -> Any:
        await greet(peer)
        return await ask(peer, "r1", "count", 3), await ask(peer, "r2", "count", 10_000)

    options = LinkOptions(max_message=2000)
    answer, too_much = await talk(script, {"count": count}, options=options)
    assert answer["result"] == [0, 1, 2]
    assert too_much["error"].startswith("MessageTooLarge")


async def test_a_plain_function_does_not_hold_up_the_others() -> None:
    release = trio.Event()

    async def slow_async(_: Any) -> None:
        release.set()

    def blocks(_: Any) -> str:
        trio.from_thread.run(release.wait)
        return "done"

    async def script(peer: Peer) -> Any:
        await greet(peer)
        await peer.say(request("r1", "blocks"))
        return (await ask(peer, "r2", "other"))["request_id"], (await peer.next_of("response"))["data"]

    first, second = await talk(script, {"blocks": blocks, "other": slow_async})
    assert (first, second["request_id"], second["result"]) == ("r2", "r1", "done")


async def test_as_many_at_a_time_as_its_capacity_and_a_bounded_number_waiting() -> None:
    running = most = 0
    release = trio.Event()

    async def slow(_: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1

    async def script(peer: Peer) -> Any:
        await greet(peer)
        for n in range(7):
            await peer.say(request(f"r{n}", "slow"))
        refused = (await peer.next_of("response"))["data"]
        release.set()
        rest = [(await peer.next_of("response"))["data"] for _ in range(6)]
        return refused, rest

    refused, rest = await talk(script, {"slow": slow}, capacity=3)
    assert (refused["request_id"], refused["error"]) == ("r6", "Worker at capacity")
    assert all(answer["success"] for answer in rest)
    assert most == 3


async def test_a_cancel_event_stops_the_handler_and_no_answer_is_sent() -> None:
    stopped: list[str] = []

    async def slow(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            stopped.append(name)

    async def script(peer: Peer) -> Any:
        await greet(peer)
        await peer.say(request("r1", "slow", "first"))
        await peer.say(request("r2", "slow", "second"))
        await peer.say({"type": "custom", "data": {"event": "cancel", "request_id": "r1"}})
        await peer.say({"type": "custom", "data": {"event": "cancel", "request_id": "unknown"}})
        return await ask(peer, "r3", "double", 1), list(stopped)

    answer, at_that_moment = await talk(script, {"slow": slow, "double": double})
    assert answer["request_id"] == "r3"
    assert at_that_moment == ["first"]


async def test_a_request_that_is_asked_again_after_its_cancel_is_served() -> None:
    async def slow_first(_: Any, seen: list[int] = []) -> int:  # noqa: B006  (one list for all calls is meant)
        seen.append(1)
        if len(seen) == 1:
            await trio.sleep_forever()
        return len(seen)

    async def script(peer: Peer) -> Any:
        await greet(peer)
        await peer.say(request("r1", "x"))
        await peer.say({"type": "custom", "data": {"event": "cancel", "request_id": "r1"}})
        return await ask(peer, "r1", "x")

    assert (await talk(script, {"x": slow_first}))["result"] == 2


async def test_a_lost_connection_ends_its_handlers_and_the_worker_comes_back() -> None:
    ended = trio.Event()

    async def slow(_: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def script(peer: Peer) -> None:
        await greet(peer)
        if peer.number == 0:
            await peer.say(request("r1", "slow"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            await peer.drop()
        else:
            assert (await ask(peer, "r1", "double", 4))["result"] == 8
            answered.set()
            await obey(peer)

    answered = trio.Event()
    events = Events()
    async with serving(script, {"slow": slow, "double": double}, on_event=events) as worker:
        await ended.wait()
        await answered.wait()
        assert worker.in_flight <= 1
    assert len(events.of(Connected)) == 2


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_ending_finishes_what_is_in_flight_first(how: str) -> None:
    release = trio.Event()
    order: list[str] = []

    async def slow(_: Any) -> str:
        await release.wait()
        return "finished"

    async def script(peer: Peer) -> None:
        await greet(peer)
        await peer.say(request("r1", "slow"))
        while True:
            message = await peer.next()
            data = message["data"]
            match message["type"]:
                case "custom":
                    order.append(f"capacity {data['capacity']}")
                    # On its way before the gateway heard of it: it must still be answered.
                    await peer.say(request("r2", "slow"))
                case "heartbeat":
                    order.append("heartbeat")
                    await peer.say({"type": "heartbeat", "data": {}})
                    release.set()
                case "response":
                    order.append(f"{data['request_id']} {data['result']}")
                case "disconnect":
                    order.append("disconnect")
                    return

    events = Events()
    async with fake_gateway(script) as gateway:
        worker = Worker(url=gateway.url, commands={"slow": slow}, on_event=events)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.run)
                while not worker.in_flight:
                    await trio.testing.wait_all_tasks_blocked(0.001)
                if how == "stop":
                    worker.stop()
                else:
                    nursery.cancel_scope.cancel()
    assert order[:2] == ["capacity 0", "heartbeat"]
    assert sorted(order[2:4]) == ["r1 finished", "r2 finished"]
    assert order[4:] == ["disconnect"]
    assert len(events.of(Draining)) == 1
    assert not events.of(Lost)


@pytest.mark.parametrize("drain_seconds", [0.02, 3600.0])
async def test_ending_is_bounded_and_can_be_hurried(drain_seconds: float) -> None:
    cancelled = trio.Event()

    async def endless(_: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async def script(peer: Peer) -> None:
        await greet(peer)
        await peer.say(request("r1", "endless"))
        await obey(peer)

    async with fake_gateway(script) as gateway:
        worker = Worker(url=gateway.url, commands={"endless": endless}, drain_seconds=drain_seconds)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.run)
                while not worker.in_flight:
                    await trio.testing.wait_all_tasks_blocked(0.001)
                worker.stop()
                if drain_seconds > 1:
                    worker.stop(now=True)
    assert cancelled.is_set()


async def test_stopping_while_there_is_no_connection_ends_at_once() -> None:
    async with fake_gateway(obey) as gateway:
        pass
    events = Events()
    worker = Worker(
        url=gateway.url,
        commands={"double": double},
        on_event=events,
        backoff=Backoff(first=3600, longest=3600),
    )
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            await events.wait_for(Retrying)
            worker.stop()


async def test_a_gateway_that_never_confirms_is_left_for_another_attempt() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.forever()
        await greet(peer)
        await obey(peer)

    events = Events()
    options = LinkOptions(connect_timeout=0.2, close_timeout=0.2)
    async with serving(script, {"double": double}, on_event=events, options=options):
        await events.wait_for(Connected)
    assert "did not confirm" in str(events.of(Lost)[0])


async def test_an_older_gateway_that_only_answers_is_enough() -> None:
    async def script(peer: Peer) -> Any:
        introduction = await peer.next()
        await peer.say({"type": "connect", "data": {"client_id": introduction["data"]["client_id"]}})
        return await ask(peer, "r1", "double", 2)

    assert (await talk(script, {"double": double}))["result"] == 4


async def test_being_refused_for_good_is_raised_plainly() -> None:
    async def script(peer: Peer) -> None:
        await peer.next()
        await peer.close(4003, "set WEBSOCKET_HANDSHAKE_KEY")

    async with fake_gateway(script) as gateway:
        worker = Worker(url=gateway.url, commands={"double": double}, on_event=Events())
        with pytest.raises(SentAway, match="not allowed"):
            await worker.run()


async def test_why_it_is_refused_is_told_also_by_a_gateway_that_did_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gateway in production without any key closes at once. What it said before that tells what to set there."""
    send = Link.send

    async def send_too_late(link: Link, message: Mapping[str, object]) -> None:
        while link._socket.state is State.OPEN:  # noqa: ASYNC110 - a socket has no event for it
            await trio.sleep(0.01)
        await send(link, message)

    async def script(peer: Peer) -> None:
        await peer.say({"type": "error", "data": {"error": "set WEBSOCKET_HANDSHAKE_KEY"}})
        await peer.close(4003, "forbidden")

    monkeypatch.setattr(Link, "send", send_too_late)
    events = Events()
    async with fake_gateway(script) as gateway:
        worker = Worker(url=gateway.url, commands={"double": double}, on_event=events)
        with pytest.raises(SentAway, match="not allowed"):
            await worker.run()
    assert [str(event) for event in events.of(Complaint)] == ["the gateway says: set WEBSOCKET_HANDSHAKE_KEY"]


async def test_it_beats_at_the_gateway_s_interval() -> None:
    async def script(peer: Peer) -> Any:
        introduction = await peer.next()
        name = introduction["data"]["client_id"]
        await peer.say({"type": "connect", "data": {"client_id": name, "heartbeat_interval": 0.02}})
        return [(await peer.next())["type"] for _ in range(2)]

    assert await talk(script, {"double": double}) == ["heartbeat", "heartbeat"]


@pytest.mark.parametrize(
    "nonsense",
    [
        "not json",
        "[]",
        "{}",
        '{"type": 5, "data": []}',
        '{"type": "request"}',
        '{"type": "request", "msg_id": 7, "data": {"action": "double"}}',
        '{"type": "request", "msg_id": "x", "data": {"action": null}}',
        '{"type": "custom", "data": {"event": "cancel"}}',
        '{"type": "connect", "data": {"heartbeat_interval": "often"}}',
        '{"type": "error", "data": {"error": "unknown\\u001b[31m request"}}',
        '{"type": "tomorrow", "data": {}}',
    ],
)
async def test_nonsense_from_the_gateway_is_survived(nonsense: str) -> None:
    async def script(peer: Peer) -> Any:
        await greet(peer)
        await peer.raw(nonsense)
        return await ask(peer, "r1", "double", 2)

    events = Events()
    assert (await talk(script, {"double": double}, on_event=events))["result"] == 4
    assert len(events.of(Connected)) == 1
    assert all(str(event).isprintable() for event in events.seen)


def generator(_: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"commands": {}}, ValueError),
        ({"commands": {"": double}}, ValueError),
        ({"commands": {"x" * 129: double}}, ValueError),
        ({"commands": {"x": "double"}}, TypeError),
        ({"commands": {"x": generator}}, TypeError),
        ({"capacity": 0}, ValueError),
        ({"capacity": 1_000_001}, ValueError),
        ({"weight": 0}, ValueError),
        ({"weight": 1_000_001}, ValueError),
        ({"weight": float("nan")}, ValueError),
        ({"url": "http://localhost:8000"}, BadAddress),
    ],
)
def test_misuse_is_refused_at_once(wrong: dict[str, Any], kind: type[Exception]) -> None:
    arguments: dict[str, Any] = {"url": "ws://localhost:1", "commands": {"double": double}} | wrong
    with pytest.raises(kind):
        Worker(**arguments)
