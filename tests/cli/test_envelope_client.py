"""The client behind `portico connect`: it asks, is asked, keeps its name, and knows when not to come back."""

from typing import Any

import pytest
import trio

from portico.client.errors import ConnectionLost, RegistrationRejected, RequestFailed, RequestTimeout
from portico.client.link import LinkOptions
from portico.wire.messages import Identity
from service.cli import envelope_client
from service.cli.envelope_client import EnvelopeClient
from tests.portico.client.fake_gateway import QUICK, Events, FakeGateway, Peer, fake_gateway


def client(gateway: FakeGateway, got: list[dict[str, Any]] | None = None, **identity: str) -> EnvelopeClient:
    return EnvelopeClient(
        url=gateway.url,
        identity=Identity(**identity),
        token="sesame",
        options=LinkOptions(connect_timeout=10),
        on_message=([] if got is None else got).append,
        on_event=Events(),
        backoff=QUICK,
    )


def greeting(asked: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"type": "connect", "msg_id": asked["msg_id"], "data": {"client_id": "made-1", **more}}


def answer(asked: dict[str, Any], **data: object) -> dict[str, Any]:
    return {"type": "response", "msg_id": asked["msg_id"], "data": data}


def question(number: int) -> dict[str, Any]:
    return {"type": "request", "msg_id": f"q{number}", "data": {"action": f"ask{number}", "params": number}}


async def test_it_asks_and_an_answer_goes_to_who_asked() -> None:
    async def script(peer: Peer) -> None:
        registered = await peer.next()
        assert registered["data"] == {"role": "client", "user_id": "u1", "token": "sesame"}
        await peer.say(greeting(registered))
        first, second, third = [await peer.next_of("request") for _ in range(3)]
        await peer.say(answer(second, success=False, error="no"))
        # A request that the gateway itself refuses is answered by an error.
        await peer.say({"type": "error", "data": {"msg_id": third["msg_id"], "error": "bad"}})
        await peer.say(answer(first, success=True, result=[first["data"]["params"]]))
        await peer.forever()

    results: dict[str, object] = {}

    async def ask(connected: EnvelopeClient, action: str, started: trio.Event) -> None:
        started.set()
        try:
            results[action] = await connected.request(action, {"a": 1}, timeout=30)
        except RequestFailed as failed:
            results[action] = failed.error

    async with fake_gateway(script) as gateway:
        connected = client(gateway, user_id="u1")
        with trio.fail_after(30):
            async with connected.running(), trio.open_nursery() as nursery:
                for action in ("first", "second", "third"):
                    nursery.start_soon(ask, connected, action, started := trio.Event())
                    await started.wait()
                    await trio.testing.wait_all_tasks_blocked(0.01)
    assert results == {"first": [{"a": 1}], "second": "no", "third": "bad"}


async def test_the_oldest_question_is_answered_first_and_no_more_wait_than_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(envelope_client, "MOST_QUESTIONS", 2)
    answers: list[Any] = []
    told = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.say(greeting(await peer.next()))
        for number in (1, 2, 3):
            await peer.say(question(number))
        answers.extend([await peer.next_of("response") for _ in range(2)])
        told.set()
        await peer.forever()

    got: list[dict[str, Any]] = []
    async with fake_gateway(script) as gateway:
        connected = client(gateway, got)
        with trio.fail_after(30):
            async with connected.running():
                while len(got) < 3:  # noqa: ASYNC110 - what is told to `on_message`, which is no event
                    await trio.sleep(0.001)
                first = await connected.answer({"ok": 1})
                second = await connected.answer(error="no")
                assert await connected.answer(3) is None
                await told.wait()
    assert [call and call.command for call in (first, second)] == ["ask2", "ask3"]
    assert [one["msg_id"] for one in answers] == ["q2", "q3"]
    assert [one["data"]["success"] for one in answers] == [True, False]
    assert [one["data"]["action"] for one in got] == ["ask1", "ask2", "ask3"]


async def test_it_comes_back_under_its_name_and_what_was_asked_is_lost() -> None:
    names: list[Any] = []

    async def script(peer: Peer) -> None:
        registered = await peer.next()
        names.append(registered["data"].get("client_id"))
        await peer.say(greeting(registered))
        if peer.number == 0:
            await peer.say(question(1))
            await peer.next_of("request")
            await peer.drop()
        else:
            await peer.say(answer(await peer.next_of("request"), success=True, result="again"))
        await peer.forever()

    async with fake_gateway(script) as gateway:
        connected = client(gateway)
        with trio.fail_after(30):
            async with connected.running():
                with pytest.raises(ConnectionLost):
                    await connected.request("pay", None, timeout=30)
                assert await connected.request("pay", None, timeout=30) == "again"
                assert connected.questions == {}, "who asked is gone"
    assert names == [None, "made-1"]


async def test_what_is_not_answered_in_time_is_forgotten() -> None:
    async def script(peer: Peer) -> None:
        await peer.say(greeting(await peer.next(), heartbeat_interval=0.01))
        asked = await peer.next_of("request")
        await peer.next_of("heartbeat")
        await peer.say(answer(asked, success=True, result="late"))
        await peer.forever()

    got: list[dict[str, Any]] = []
    async with fake_gateway(script) as gateway:
        connected = client(gateway, got)
        with trio.fail_after(30):
            async with connected.running():
                with pytest.raises(RequestTimeout, match="No answer within 0 s"):
                    await connected.request("pay", None, timeout=0)
                while not got:  # noqa: ASYNC110 - a late answer is a message like any other
                    await trio.sleep(0.001)
    assert got[0]["data"]["result"] == "late"


async def test_who_is_refused_does_not_come_back() -> None:
    async def script(peer: Peer) -> None:
        await peer.next()
        await peer.say({"type": "error", "data": {"code": "forbidden", "error": "You may not."}})
        await peer.forever()

    async with fake_gateway(script) as gateway:
        with trio.fail_after(30), pytest.raises(RegistrationRejected, match="You may not"):
            async with client(gateway).running():
                pass
        assert gateway.connections == 1
