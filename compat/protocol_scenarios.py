"""What workers, requesters, envelope clients and pages rely on, played once over bare WebSockets.

Knows the envelope, requester and user dialects and writes every message out by hand. Workers of the older kinds serve
every command, so on a deployment in use they may meet other people's requests: those are given back by leaving, which
moves them to another worker, and the scenario is skipped.
"""

import json
import math
from typing import Any, Final

import trio
import trio_websocket as tw

from compat.expect import (
    ANYTHING,
    FILLED_TEXT,
    OBJECT,
    POSITIVE,
    SECONDS,
    TEXT,
    WHOLE,
    Json,
    SkipError,
    UnmetError,
    expect,
    same,
    shown,
)
from compat.scenario import Scenario
from compat.stage import Stage, authorization

ANSWER: Final = dict.fromkeys(("request_id", "success", "data", "error", "processed_by"), ANYTHING)
ENVELOPE: Final = {"type": TEXT, "msg_id": FILLED_TEXT, "timestamp": SECONDS, "data": OBJECT}


async def _send(socket: tw.WebSocketConnection, message: Json) -> None:
    try:
        await socket.send_message(json.dumps(message))
    except tw.ConnectionClosed as error:
        raise UnmetError(f"closed while sending {shown(message)}: {error.reason}") from error


async def _text(socket: tw.WebSocketConnection, what: str, limit: float) -> str:
    try:
        with trio.fail_after(limit):
            return str(await socket.get_message())
    except trio.TooSlowError as error:
        raise UnmetError(f"no {what} within {limit:g} s") from error
    except tw.ConnectionClosed as error:
        raise UnmetError(f"closed while {what} was awaited: {error.reason}") from error


async def _receive(stage: Stage, socket: tw.WebSocketConnection, what: str, limit: float | None = None) -> Json:
    text = await _text(socket, what, stage.target.timeout if limit is None else limit)
    try:
        message = json.loads(text)
    except ValueError as error:
        raise UnmetError(f"{what} is no JSON: {shown(text)}") from error
    return expect(what, message, {})


async def _envelope(stage: Stage, socket: tw.WebSocketConnection, kind: str, limit: float | None = None) -> Json:
    message = expect(kind, await _receive(stage, socket, kind, limit), ENVELOPE)
    return expect(kind, message, {"type": same(kind)})


async def _order(stage: Stage, worker: tw.WebSocketConnection) -> Json:
    """A request as it reaches a worker, which has no time limit: that is the requester's affair."""
    return await _envelope(stage, worker, "request", math.inf)


async def _ask(stage: Stage, socket: tw.WebSocketConnection, request: Json) -> Json:
    await _send(socket, request)
    answer = expect("the answer", await _receive(stage, socket, "answer to a requester"), ANSWER)
    if "request_id" in request:
        expect("the answer", answer, {"request_id": same(request["request_id"])})
    return answer


def _may_work(stage: Stage, *, by_handshake: bool) -> None:
    if stage.deployment.environment != "production" or stage.target.api_key:
        return
    if not by_handshake:
        raise SkipError("in production such a worker needs an API key: give --api-key")
    if not stage.target.handshake_key:
        raise SkipError("in production a worker needs a secret: give --handshake-key or --api-key")


async def _work_once(stage: Stage, worker: tw.WebSocketConnection, *, fresh_id: bool) -> str:
    """Have one request of ours served by a worker that serves every command; returns who the answer says did it."""
    command, params = stage.fresh("command"), {"n": [1, {"two": 2.5}], "s": "naïve"}
    served: list[Json] = []

    async def serve() -> None:
        while True:
            request = await _order(stage, worker)
            if request["data"].get("action") != command:
                await worker.aclose()
                raise SkipError("somebody else's request came to the test's worker: the deployment is in use")
            served.append(request)
            data = {"success": True, "result": {"got": params}, "error": None}
            if fresh_id:
                answer = {"msg_id": stage.fresh("msg"), "data": {**data, "request_id": request["msg_id"]}}
            else:
                answer = {"msg_id": request["msg_id"], "data": data}
            await _send(worker, {"type": "response", "timestamp": 1732000000.5, **answer})

    async def ask() -> Json:
        async with stage.socket(stage.deployment.path("/requester")) as socket:
            for _ in range(8):
                body = {"request_id": stage.fresh("request"), "command": command, "data": params}
                answer = await _ask(stage, socket, body)
                if served or answer["processed_by"] is None:
                    return answer
        raise SkipError("other workers here serve every command and took the test's requests")

    answer = await _beside(serve, ask)
    if not served:
        raise UnmetError(f"the worker got no request, the requester got {shown(answer)}")
    expect(
        "what the worker got", served[0]["data"], {"action": same(command), "params": same(params), "request": OBJECT}
    )
    details = expect("its `request`", served[0]["data"]["request"], {"id": FILLED_TEXT, "attempt": WHOLE})
    expect("its `request`", details, {"deadline_ms": ANYTHING, "stream": same(False)})
    expect(
        "the answer",
        answer,
        {"success": same(True), "data": same({"got": params}), "error": same(None), "processed_by": FILLED_TEXT},
    )
    return str(answer["processed_by"])


async def _beside(serve: Any, ask: Any) -> Json:
    """Ask while serving; a fault or a skip on either side comes out by itself, not in a group."""
    ended: list[UnmetError | SkipError] = []
    answers: list[Json] = []

    async def keep(play: Any) -> None:
        try:
            answers.append(await play())
        except (UnmetError, SkipError) as error:
            ended.append(error)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep, serve)
        nursery.start_soon(keep, ask)
    if ended:
        raise ended[0]
    return answers[0]


async def worker_handshake(stage: Stage) -> None:
    _may_work(stage, by_handshake=True)
    url = stage.target.worker_url or stage.deployment.path("/")
    async with stage.socket(url, headers=authorization(stage.target.api_key)) as worker:
        data = {"handshake_key": stage.target.handshake_key or "", "client_type": "worker"}
        await _send(
            worker, {"type": "handshake", "msg_id": stage.fresh("msg"), "timestamp": 1732000000.5, "data": data}
        )
        message = expect("what follows a handshake", await _receive(stage, worker, "notification"), ENVELOPE)
        if message["type"] == "connect":  # the greeting of the workers' own port
            message = await _envelope(stage, worker, "notification")
        expect("what follows a handshake", message, {"type": same("notification")})
        expect("the notification", message["data"], {"title": same("Handshake Successful")})
        await _work_once(stage, worker, fresh_id=True)


async def worker_silent(stage: Stage) -> None:
    _may_work(stage, by_handshake=False)
    url = stage.target.worker_url or stage.deployment.path("/worker")
    async with stage.socket(url, headers=authorization(stage.target.api_key)) as worker:
        greeting = await _envelope(stage, worker, "connect")
        fields = {"client_id": FILLED_TEXT, "server_time": ANYTHING, "heartbeat_interval": POSITIVE}
        client_id = expect("connect", greeting["data"], fields)["client_id"]
        by = await _work_once(stage, worker, fresh_id=False)
        expect("the answer", {"processed_by": by}, {"processed_by": same(client_id)})


async def requester_round_trip(stage: Stage) -> None:
    _may_work(stage, by_handshake=True)
    good, bad = stage.fresh("command"), stage.fresh("command")
    worker_id = stage.fresh("worker")
    seen: list[Any] = []

    def mine(answer: Json, params: Any) -> None:
        if params not in seen and answer["processed_by"] is not None:
            raise SkipError("other workers here serve every command and took the test's requests")
        expect("the answer", answer, {"processed_by": same(worker_id)})

    async def serve() -> None:
        while True:
            request = await _order(stage, worker)
            params = request["data"].get("params")
            seen.append(params)
            data = {"request_id": request["msg_id"], "success": True, "result": params, "error": None}
            if request["data"].get("action") == bad:
                data |= {"success": False, "result": None, "error": "the disk is full"}
            await _send(worker, {"type": "response", "msg_id": stage.fresh("msg"), "data": data})

    async def ask() -> Json:
        async with stage.socket(stage.deployment.path("/requester")) as socket:
            # All at once: the answers come as they are ready, each under its own request_id.
            bodies = {stage.fresh("request"): [index, {"text": "naïve"}] for index in range(20)}
            for name, body in bodies.items():
                await _send(socket, {"request_id": name, "command": good, "data": body})
            while bodies:
                answer = expect("the answer", await _receive(stage, socket, "answer to a requester"), ANSWER)
                if answer["request_id"] not in bodies:
                    raise UnmetError(f"an answer to no request, or the second to one: {shown(answer)}")
                body = bodies.pop(answer["request_id"])
                mine(answer, body)
                expect("the answer", answer, {"success": same(True), "data": same(body), "error": same(None)})
            answer = await _ask(stage, socket, {"request_id": stage.fresh("request"), "command": bad, "data": {}})
            mine(answer, {})
            expect("a worker's error", answer, {"success": same(False), "error": same("the disk is full")})
            answer = await _ask(stage, socket, {"command": good, "data": {"id": None}})
            mine(answer, {"id": None})
            return expect("the answer to a request without an id", answer, {"request_id": FILLED_TEXT})

    # Not on /worker: until its `connect` it would serve every command there.
    async with stage.socket(stage.deployment.path("/ws"), headers=authorization(stage.target.api_key)) as worker:
        token = stage.target.handshake_key
        data = {"client_id": worker_id, "role": "worker", "commands": [good, bad], "capacity": 4}
        await _send(worker, {"type": "connect", "data": {**data, **({"token": token} if token else {})}})
        expect("connect", (await _envelope(stage, worker, "connect"))["data"], {"client_id": same(worker_id)})
        await _beside(serve, ask)


async def requester_bad_input(stage: Stage) -> None:
    async with stage.socket(stage.deployment.path("/requester")) as socket:
        await socket.send_message("not json")
        answer = expect("the answer to no JSON", await _receive(stage, socket, "answer"), ANSWER)
        expect("the answer to no JSON", answer, {"success": same(False), "error": same("Invalid JSON format")})
        answer = await _ask(stage, socket, {"request_id": stage.fresh("request"), "data": {}})
        expect("the answer to no command", answer, {"success": same(False), "error": same("Missing command")})


async def requester_no_worker(stage: Stage) -> None:
    # The first message decides the dialect here: an object with `command`.
    async with stage.socket(stage.deployment.path("/ws")) as socket:
        request = {"request_id": stage.fresh("request"), "command": stage.fresh("nobody"), "data": {}}
        answer = await _ask(stage, socket, request)
        if answer["processed_by"] is not None:
            raise SkipError("workers here serve every command")
        expect(
            "the answer", answer, {"success": same(False), "data": same(None), "error": same("No available workers")}
        )


async def envelope_client(stage: Stage) -> None:
    async with stage.socket(stage.deployment.path("/")) as socket:
        client_id, user = stage.fresh("client"), stage.fresh("user")
        data: Json = {"client_id": client_id, "role": "client", "user_id": user}
        await _send(socket, {"type": "connect", "msg_id": stage.fresh("msg"), "timestamp": 1732000000.5, "data": data})
        greeting = await _envelope(stage, socket, "connect")
        expect("connect", greeting["data"], {"client_id": same(client_id), "heartbeat_interval": POSITIVE})
        msg_id = stage.fresh("msg")
        data = {"action": "calculate", "params": {"a": 10, "b": 20, "op": "+"}}
        await _send(socket, {"type": "request", "msg_id": msg_id, "data": data})
        response = expect("response", await _envelope(stage, socket, "response"), {"msg_id": same(msg_id)})
        wanted = {"request_id": msg_id, "success": True, "result": 30, "error": None}
        expect("response", response["data"], {name: same(value) for name, value in wanted.items()})
        kind = stage.fresh("event")
        await stage.deployment.push({"user_id": user}, kind, {"content": "Hello", "n": 1})
        pushed = (await _envelope(stage, socket, "notification"))["data"]
        wanted = {
            "event": kind,
            "payload": {"content": "Hello", "n": 1},
            "title": kind,
            "content": "Hello",
            "level": "info",
        }
        expect("notification", pushed, {name: same(value) for name, value in wanted.items()})
        await _send(socket, {"type": "heartbeat", "msg_id": stage.fresh("msg"), "data": {}})
        await _envelope(stage, socket, "heartbeat")


async def user_dialect(stage: Stage) -> None:
    user, kind = stage.fresh("user"), stage.fresh("event")
    url = stage.deployment.path(f"/ws/{user}")
    async with stage.socket(url) as first, stage.socket(url) as second:
        await first.send_message("Hello, 安")
        for socket in (first, second):
            text = await _text(socket, "echo", stage.target.timeout)
            if text != "Echo: Hello, 安":
                raise UnmetError(f"the echo should be {shown('Echo: Hello, 安')}, is {shown(text)}")
        await stage.deployment.push({"user_id": user}, kind, {"n": 1})
        for socket in (first, second):
            message = await _receive(stage, socket, "push")
            expect("a push in the user dialect", message, {"type": same(kind), "n": same(1)})


def _row(name: str, what: str, play: Any, *, needs_api: bool = False) -> Scenario:
    return Scenario(name, what, play, needs_api=needs_api, by_client=False)


PROTOCOL_SCENARIOS: Final = (
    _row("worker-handshake", "an older worker: handshake first, answers under a fresh msg_id", worker_handshake),
    _row("worker-silent", "a worker that says nothing serves every command", worker_silent),
    _row("requester-round-trip", "20 requests at once through a worker, its error, no id", requester_round_trip),
    _row("requester-bad-input", "no JSON, no command", requester_bad_input),
    _row("requester-no-worker", "a command that no worker serves", requester_no_worker),
    _row("envelope-client", "connect, calculate, a push, a heartbeat", envelope_client, needs_api=True),
    _row("user-dialect", "the echo to all of the user's connections, and a push", user_dialect, needs_api=True),
)
