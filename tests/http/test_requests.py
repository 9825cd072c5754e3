"""Requests over HTTP: to workers, and to one connected client."""

import json
from typing import Any

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from portico.wire.frame import Frame
from portico.wire.messages import Identity
from service.http.requests import HttpCaller
from tests.fakes import MemoryPeer, Stage, stages

from .stage import BEARER, KEY, LOCAL, OUTSIDE, SessionOwner, house, house_of, problem


class Asker:
    """A call that is under way."""

    def __init__(self) -> None:
        self.answer: httpx.Response | None = None

    async def run(self, at: SessionOwner, path: str, body: object, **more: Any) -> None:
        self.answer = await at.call("POST", path, json=body, **more)

    @property
    def result(self) -> tuple[int, Any]:
        assert self.answer is not None
        return self.answer.status_code, self.answer.json()


async def asked(peer: MemoryPeer, count: int = 1) -> list[Any]:
    """The requests that a peer has been sent, once everything has come to rest."""
    await wait_all_tasks_blocked(0.01)
    found = [message for message in peer.take() if message["type"] == "request"]
    assert len(found) == count
    return found


def done(request: Any, **data: object) -> dict[str, object]:
    return {"type": "response", "data": {"request_id": request["msg_id"], **data}}


async def test_a_worker_answers() -> None:
    at = house()
    session, peer = at.stage.worker("w1")
    call = Asker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run, at, "/api/requests", {"command": "echo", "data": {"n": 1}, "timeout": 7.5})
        [request] = await asked(peer)
        assert request["data"]["action"] == "echo"
        assert request["data"]["params"] == {"n": 1}
        assert request["data"]["request"]["deadline_ms"] == 7500
        at.stage.say(session, done(request, success=True, result="Echo"))
    assert call.result == (
        200,
        {"request_id": request["msg_id"], "success": True, "data": "Echo", "error": None, "processed_by": "w1"},
    )


async def test_a_workers_own_error_is_an_answer() -> None:
    at = house()
    session, peer = at.stage.worker("w1")
    call = Asker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run, at, "/api/requests", {"command": "echo", "request_id": "mine"})
        [request] = await asked(peer)
        assert request["data"]["params"] == {}
        at.stage.say(session, done(request, success=False, error="Worker lost"))
    assert call.result == (
        200,
        {"request_id": "mine", "success": False, "data": None, "error": "Worker lost", "processed_by": "w1"},
    )


async def test_no_worker_is_503_at_once() -> None:
    at = house()
    answer = await at.call("POST", "/api/requests", json={"command": "echo"})
    assert answer.status_code == 503
    body = answer.json()
    assert body.pop("request_id")
    assert body == {"success": False, "data": None, "error": "No available workers", "processed_by": None}


async def test_a_full_queue_is_503_a_late_answer_504_a_lost_worker_502() -> None:
    at = house(queue_limit=1)
    session, peer = at.stage.worker("w1", capacity=1)
    first, second = Asker(), Asker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.run, at, "/api/requests", {"command": "slow", "timeout": 5})
        await asked(peer)
        nursery.start_soon(second.run, at, "/api/requests", {"command": "slow", "idempotent": False})
        await wait_all_tasks_blocked(0.01)
        busy = await at.call("POST", "/api/requests", json={"command": "slow"})
        assert (busy.status_code, busy.json()["error"]) == (503, "Workers busy")
        at.stage.pass_time(6)
        await asked(peer)
        at.stage.close(session)
    assert first.result[0] == 504
    assert first.result[1]["error"] == "Worker response timeout"
    assert second.result[0] == 502
    assert second.result[1]["error"] == "Worker lost"


async def test_a_caller_that_hangs_up_cancels_its_request_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    at = house()
    session, peer = at.stage.worker("w1")
    come, came = trio.open_memory_channel[Frame](10)
    monkeypatch.setattr(peer, "send", come.send_nowait)

    async def next_message() -> Any:
        with trio.fail_after(10):
            return json.loads((await came.receive()).payload)

    stays = Asker()
    async with at.serving() as base, trio.open_nursery() as nursery:

        async def leave(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
            with trio.CancelScope() as scope:
                task_status.started(scope)
                async with httpx.AsyncClient(base_url=base, timeout=None) as caller:
                    await caller.post("/api/requests", json={"command": "slow"})

        nursery.start_soon(stays.run, at, "/api/requests", {"command": "slow"})
        kept = await next_message()
        scope = await nursery.start(leave)
        dropped = await next_message()
        scope.cancel()
        cancel = await next_message()
        assert cancel["data"] == {"event": "cancel", "request_id": dropped["msg_id"]}
        at.stage.say(session, done(kept, success=True, result=1))
    assert stays.result[0] == 200
    assert at.stage.gateway.counters.requests["cancelled"] == 1


async def test_the_queue_is_fair_between_addresses_not_calls() -> None:
    at = house(api_keys=[KEY])
    session, peer = at.stage.worker("w1", capacity=1)
    async with trio.open_nursery() as nursery:

        async def call(data: object, peer: tuple[str, int]) -> None:
            await Asker().run(at, "/api/requests", {"command": "many", "data": data}, peer=peer, headers=BEARER)

        for n in range(4):
            nursery.start_soon(call, n, LOCAL)
            await wait_all_tasks_blocked(0.01)
        nursery.start_soon(call, "other", OUTSIDE)
        await wait_all_tasks_blocked(0.01)
        order = []
        for _ in range(5):
            [request] = await asked(peer)
            order.append(request["data"]["params"])
            at.stage.say(session, done(request, success=True, result=None))
    assert order.index("other") <= 2


def test_callers_with_a_key_count_for_it_wherever_they_are_and_others_for_their_address() -> None:
    callers = [HttpCaller(key, address) for key in ("shop", None) for address in ("127.0.0.1", "2001:db8::1")]
    assert [caller.party for caller in callers] == [
        "key shop",
        "key shop",
        "address 127.0.0.1",
        "address 2001:db8::/64",
    ]


BAD = [
    (b"{}", "missing_field", "{name}"),
    (b'{"{name}": ""}', "bad_field", "{name}"),
    (b'{"{name}": null}', "missing_field", "{name}"),
    (b'{"{name}": "%s"}' % (b"x" * 129), "bad_field", "{name}"),
    (b'{"{name}": "a", "timeout": 0}', "bad_field", "timeout"),
    (b'{"{name}": "a", "timeout": 86401}', "bad_field", "timeout"),
    (b'{"{name}": "a", "timeout": "1"}', "bad_field", "timeout"),
    (b'{"{name}": "a", "{name}": "b"}', "bad_json", "{name}"),
    (b'{"{name}": "a", "{rest}": NaN}', "bad_json", None),
    (b'{"{name}": "a", "{rest}": [1e999]}', "bad_json", None),
    (b'{"{name}": "a", "{rest}": %s}' % (b"1" * 400), "bad_json", None),
    (b'{"{name}": "a", "{rest}": "\xff"}', "bad_json", None),
    (b'[{"{name}": "a"}]', "not_an_object", None),
    (b"", "bad_json", None),
]


@pytest.mark.parametrize(("body", "code", "field"), BAD)
@pytest.mark.parametrize(
    ("path", "name", "rest"), [("/api/requests", "command", "data"), ("/api/clients/c1/requests", "action", "params")]
)
async def test_a_bad_request_is_refused_and_nothing_asked(
    path: str, name: str, rest: str, body: bytes, code: str, field: str | None
) -> None:
    at = house()
    _, worker = at.stage.worker("c1")
    body = body.replace(b"{name}", name.encode()).replace(b"{rest}", rest.encode())
    answer = await at.call("POST", path, content=body)
    assert problem(answer) == (400, code, field and field.replace("{name}", name))
    assert worker.take() == []


@pytest.mark.parametrize(
    "request_id", ["7", "-0.5e3", "true", "false", '"a:b"', '"\\u00e9"', '"' + "x" * 256 + '"', "0"]
)
async def test_a_request_id_is_any_scalar_and_comes_back_as_it_came(request_id: str) -> None:
    body = b'{"request_id": %b, "command": "echo"}' % request_id.encode()
    answer = await house().call("POST", "/api/requests", content=body)
    assert answer.status_code == 503
    assert answer.text.startswith('{"request_id":' + request_id + ',"success":false,')


@pytest.mark.parametrize("request_id", ["{}", "[1]", '"' + "x" * 257 + '"', "1" * 257])
async def test_what_is_no_scalar_or_too_long_is_no_request_id(request_id: str) -> None:
    body = b'{"request_id": %b, "command": "echo"}' % request_id.encode()
    assert problem(await house().call("POST", "/api/requests", content=body)) == (400, "bad_field", "request_id")


async def test_a_request_too_large() -> None:
    body = b'{"command": "a", "data": "' + b"x" * (1 << 20) + b'"}'
    assert problem(await house().call("POST", "/api/requests", content=body)) == (413, "too_large", None)


# One connected client


async def test_a_client_is_asked_and_its_answer_given() -> None:
    at = house()
    session, peer = at.stage.connect("/ws")
    at.stage.say(session, {"type": "connect", "data": {"client_id": "tills/7 ä"}})
    peer.take()
    call = Asker()
    async with trio.open_nursery() as nursery:
        path = "/api/clients/tills%2F7%20%C3%A4/requests"
        nursery.start_soon(call.run, at, path, {"action": "open_drawer", "params": [1], "timeout": 3})
        [request] = await asked(peer)
        assert (request["data"]["action"], request["data"]["params"]) == ("open_drawer", [1])
        at.stage.say(session, done(request, success=True, result={"open": True}))
    assert call.result == (
        200,
        {
            "request_id": request["msg_id"],
            "client_id": "tills/7 ä",
            "success": True,
            "result": {"open": True},
            "error": None,
        },
    )


async def test_a_client_that_says_nothing_and_one_that_goes() -> None:
    at = house()
    session, peer = at.stage.connect("/ws")
    at.stage.say(session, {"type": "connect", "data": {"client_id": "c1"}})
    peer.take()
    silent, lost = Asker(), Asker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(silent.run, at, "/api/clients/c1/requests", {"action": "a", "timeout": 1})
        await asked(peer)
        at.stage.pass_time(2)
        nursery.start_soon(lost.run, at, "/api/clients/c1/requests", {"action": "a"})
        await wait_all_tasks_blocked(0.01)
        at.stage.close(session)
    assert (silent.result[0], silent.result[1]["error"]) == (504, "Worker response timeout")
    assert (lost.result[0], lost.result[1]["error"]) == (502, "Worker lost")


async def test_who_cannot_be_asked() -> None:
    at = house()
    without_answers(at.stage, "c1")
    call = {"action": "a"}
    assert problem(await at.call("POST", "/api/clients/nobody/requests", json=call)) == (404, "not_found", "client_id")
    answer = await at.call("POST", "/api/clients/c1/requests", json=call)
    assert problem(answer) == (409, "unknown_dialect", "client_id")
    assert "the dialect user" in answer.json()["error"]["message"]


def without_answers(stage: Stage, client_id: str) -> None:
    """A client of a dialect in which nobody can be asked."""
    session, _ = stage.connect("/ws/ann")
    stage.gateway.registration.register(session, Identity(client_id=client_id))


async def test_a_c_client_of_another_node_is_asked() -> None:
    first, second = stages(2)
    at = house_of(first)
    client, peer = second.client(client_id="c1")
    call = Asker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run, at, "/api/clients/c1/requests", {"action": "get_cookies", "params": {"a": 1}})
        await wait_all_tasks_blocked(0.01)
        [question] = peer.take()
        assert question == {"type": "get_cookies", "request_id": question["request_id"], "data": {"a": 1}}
        second.say(client, {"request_id": question["request_id"], "success": True, "data": ["x"]})
    assert (call.result[0], call.result[1]["success"], call.result[1]["result"]) == (200, True, ["x"])


def envelope_client(stage: Stage, client_id: str) -> tuple[Any, MemoryPeer]:
    """A client that can be asked; what it was sent for connecting has been taken."""
    session, peer = stage.connect("/ws")
    stage.say(session, {"type": "connect", "data": {"client_id": client_id}})
    peer.take()
    return session, peer


async def test_workers_and_clients_of_other_nodes_are_asked() -> None:
    first, second = stages(2)
    at = house_of(first)
    worker, worker_peer = second.worker("w1")
    client, client_peer = envelope_client(second, "c1")
    second.pass_time(0.1)
    to_worker, to_client = Asker(), Asker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(to_worker.run, at, "/api/requests", {"command": "echo"})
        [request] = await asked(worker_peer)
        nursery.start_soon(to_client.run, at, "/api/clients/c1/requests", {"action": "beep", "params": [1]})
        [question] = await asked(client_peer)
        assert (question["data"]["action"], question["data"]["params"]) == ("beep", [1])
        second.say(worker, done(request, success=True, result="Echo"))
        second.say(client, done(question, success=True, result="beeped"))
    assert to_worker.result[0] == to_client.result[0] == 200
    assert to_worker.result[1]["processed_by"] == "w1"
    assert to_client.result[1]["result"] == "beeped"


async def test_a_client_of_another_node_that_goes_is_lost_and_one_in_another_dialect_is_not_asked() -> None:
    first, second, third = stages(3)
    at = house_of(first)
    client, client_peer = envelope_client(second, "c1")
    without_answers(third, "c2")
    call = Asker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run, at, "/api/clients/c1/requests", {"action": "beep"})
        await asked(client_peer)
        second.close(client)
    assert (call.result[0], call.result[1]["error"]) == (502, "Worker lost")
    answer = await at.call("POST", "/api/clients/c2/requests", json={"action": "beep"})
    assert problem(answer) == (409, "unknown_dialect", "client_id")
    answer = await at.call("POST", "/api/clients/c3/requests", json={"action": "beep"})
    assert problem(answer) == (404, "not_found", "client_id")


async def test_where_a_node_does_not_say_whether_it_has_the_client_the_caller_may_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = stages(2)
    at = house_of(first)
    envelope_client(second, "c1")
    monkeypatch.setattr(second.gateway.cluster_messages, "on_message", lambda *_: None)
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await at.call("POST", "/api/clients/c1/requests", json={"action": "beep"}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked(0.01)
        first.pass_time(1.2)
    assert problem(answers[0]) == (503, "unavailable", None)


@pytest.mark.parametrize(
    ("path", "body", "likely"),
    [
        ("/api/requests", {"command": "echo", "time_out": 3}, "timeout"),
        ("/api/requests", {"command": "echo", "idempotence": False}, "idempotent"),
        ("/api/clients/c1/requests", {"action": "echo", "parms": {}}, "params"),
    ],
)
async def test_a_field_that_is_not_known_is_refused(path: str, body: dict[str, Any], likely: str) -> None:
    at = house()
    at.stage.worker("w1")
    answer = await at.call("POST", path, json=body)
    assert problem(answer) == (400, "bad_field", list(body)[1])
    assert repr(likely) in answer.json()["error"]["message"]


async def test_null_counts_as_absent() -> None:
    at = house()
    session, peer = at.stage.worker("w1")
    call = Asker()
    nulls = {"data": None, "timeout": None, "request_id": None, "affinity": None, "idempotent": None}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run, at, "/api/requests", {"command": "echo", **nulls})
        [request] = await asked(peer)
        at.stage.say(session, done(request, success=True, result="Echo"))
    assert call.result[0] == 200
