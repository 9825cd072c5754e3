"""A little gateway for the tests of what looks at gateways: the compatibility suite and the load test.

It is right in what these look at, and wrong where a fault is asked for. It shares no code with the real one, so that a
fault there cannot hide in both, and isn't a model for it: one process, plain dictionaries, no limits. It is an ASGI
application, served by Hypercorn on trio: by `serving` in the test's own nursery, by `little_gateway` in a thread, for
tests that are not async. (A gateway that does what a test's script says, message by message, is
`tests.portico.client.fake_gateway`.)
"""

import itertools
import json
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import hypercorn.trio
import trio
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

Json = dict[str, Any]
Asgi = Callable[..., Awaitable[Any]]

TARGETS = ("client_id", "user_id", "node_id", "domain_id", "cluster_id", "channel_id")


@dataclass(eq=False)
class LittlePeer:
    """One WebSocket connection."""

    send: Asgi
    dialect: str
    identity: Json = field(default_factory=dict)
    closed: bool = False
    heartbeats: int = 0

    async def say(self, message: Json | str) -> None:
        if not self.closed:
            text = message if isinstance(message, str) else json.dumps(message)
            await self.send({"type": "websocket.send", "text": text})

    async def close(self, code: int) -> None:
        if not self.closed:
            self.closed = True
            await self.send({"type": "websocket.close", "code": code, "reason": "little"})


def _in_binary(send: Asgi) -> Asgi:
    async def send_bytes(event: Json) -> None:
        await send({**event, "text": None, "bytes": event["text"].encode()} if "text" in event else event)

    return send_bytes


class LittleGateway:
    """The application; `faults` names what it does wrong, `environment` what discovery says it is."""

    def __init__(self, faults: Iterable[str] = (), *, environment: str = "development", api_key: str = "") -> None:
        self.faults = set(faults)
        self.environment = environment
        self.api_key = api_key
        self.peers: list[LittlePeer] = []
        self.logins: dict[str, Json] = {}
        self.waiting: dict[str, tuple[LittlePeer, Json]] = {}
        self.numbers = itertools.count(1)
        self.discovered = 0
        self.login_started = trio.Event()
        self.nursery: trio.Nursery | None = None  # while it is served
        self.secrets: set[str] = set()  # what workers showed
        self.registrations = 0
        self.cuts_none_before = 0
        """Registrations, and then a push, before which nobody is cut, whatever is wrong with it."""
        self.pushed: list[Json] = []  # the notifications that were accepted
        self.base_url = ""  # while `little_gateway` serves it
        self._changed = threading.Condition()

    async def __call__(self, scope: Any, receive: Asgi, send: Asgi) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            body = b""
            while (event := await receive())["type"] == "http.request":
                body += event["body"]
                if not event.get("more_body"):
                    break
            status, answer = await self.http(scope, json.loads(body) if body else None)
            kind = b"text/plain" if "content type" in self.faults else b"application/json"
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
            await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
        else:
            await self.websocket(scope, receive, send)

    def wait_for(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """From another thread: wait until a registration or a push makes `condition` true. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"it saw {self.registrations} registrations and {len(self.pushed)} pushes so far")

    # HTTP

    async def http(self, scope: Any, body: Any) -> tuple[int, Any]:
        method, path = scope["method"], scope["path"]
        host = dict(scope["headers"])[b"host"].decode()
        if path.startswith("/api/b-client/"):
            self.discovered += 1
            if "discovery down" in self.faults or ("discovery down twice" in self.faults and self.discovered <= 2):
                return 503, {"success": False, "error": "no node"}
            return 200, self.discovery(path.rpartition("/")[2], host)
        if self.api_key and (b"authorization", f"Bearer {self.api_key}".encode()) not in scope["headers"]:
            return 403, {"error": {"code": "forbidden", "message": "a key is needed", "field": None}}
        match method, path.split("/")[2:]:
            case "POST", ["notifications"]:
                if "pushes refused" in self.faults and body != []:
                    return 403, {"error": {"code": "forbidden", "message": "not this one", "field": None}}
                return 202, await self.notify(body)
            case "POST", ["logins"]:
                return 201, await self.start_login(body)
            case "GET", ["logins"]:
                return 200, list(self.logins.values())
            case "GET", ["logins", session_id]:
                return 200, self.logins[session_id]
            case "DELETE", ["logins", session_id]:
                await self.end_login(session_id)
                return 200, {}
            case "DELETE", ["clients", client_id]:
                for peer in self.found("client_id", client_id):
                    await peer.close(1000 if "kick code" in self.faults else 4010)
                return 200, {}
        return 404, {"error": {"code": "not_found", "message": path, "field": None}}

    def discovery(self, form: str, authority: str) -> Json:
        host, _, port = authority.rpartition(":") if ":" in authority else (authority, "", "80")
        number = int(port)
        if "bind address" in self.faults:
            host = "0.0.0.0"
        now = time.time() if "timestamp" in self.faults else int(time.time() * 1000)
        if form == "info":
            there: Json = {"enabled": True, "host": host, "port": number, "environment": self.environment}
            info = {"websocket": there, "api_port": number, "websocket_port": number, "hostname": "little"}
            info |= {"local_ip": "127.0.0.1", "environment": self.environment, "timestamp": now}
            return {"success": True, "b_client_info": info}
        answer = {"websocket_url": f"ws://{host}:{number}/api/websocket", "websocket_host": host, "http_port": number}
        port_value: int | str = str(number) if "port as text" in self.faults else number
        return {**answer, "websocket_port": port_value, "environment": self.environment, "timestamp": now}

    async def notify(self, body: Any) -> Any:
        if body == []:
            return []
        if "pushes accepted late" in self.faults:
            await trio.sleep(1.0)
        with self._changed:
            self.pushed.append(body)
            self._changed.notify_all()
        answer = {"id": body.get("id", f"n{next(self.numbers)}"), "stream": None, "offset": None, "queued": 0}
        if "every fifth push dropped" in self.faults and len(self.pushed) % 5 == 0:
            return {**answer, "matched": 0}
        [(name, wanted)] = body["target"].items()
        everybody = name == "all" or ("push to all" in self.faults and not body["type"].count("marker"))
        there = [peer for peer in self.peers if peer.dialect != "requester" and peer.identity]
        peers = there if everybody else self.found(name, wanted)
        for _ in range(2 if "pushes repeated" in self.faults else 1):
            await self.push(peers, body["type"], body.get("data", {}))
        return {**answer, "matched": len(peers)}

    async def push(self, peers: list[LittlePeer], kind: str, data: Json) -> None:
        for peer in list(peers):
            if peer.dialect == "envelope":
                content = data.get("content") or json.dumps(data)
                note = {"event": kind, "payload": data, "title": kind, "content": content, "level": "info"}
                await peer.say(self.envelope("notification", note))
            elif "data wins" in self.faults:
                await peer.say({"type": kind, **data})
            else:
                await peer.say({**data, "type": kind})

    async def start_login(self, body: Json) -> Json:
        session_id = f"s{next(self.numbers)}"
        expires_at = time.time() + body["ttl"] if "ttl" in body else None
        session = {**body, "session_id": session_id, "expires_at": expires_at, "feedback": []}
        self.logins[session_id] = session
        self.login_started.set()
        if "ttl" in body and "no expiry" not in self.faults and self.nursery is not None:
            self.nursery.start_soon(self.expire, session_id, body["ttl"])
        if "no auto_login on start" not in self.faults:
            await self.push(self.found("user_id", body["user_id"]), "auto_login", self.auto_login(session))
        return session

    def auto_login(self, session: Json) -> Json:
        passed_on = {name: value for name, value in session.items() if name not in ("feedback", "ttl")}
        if "no username" in self.faults:
            del passed_on["username"]
        return {**passed_on, "message": "Please log in", "timestamp": time.time()}

    async def expire(self, session_id: str, ttl: float) -> None:
        await trio.sleep(ttl)
        if session_id in self.logins:
            await self.end_login(session_id, "expired")

    async def end_login(self, session_id: str, reason: str = "logout") -> None:
        session = self.logins.pop(session_id)
        note = {name: session[name] for name in ("session_id", "user_id", "username")}
        note |= {"reason": reason, "message": "Logged out", "timestamp": time.time()}
        if "no logout" not in self.faults:
            await self.push(self.found("user_id", session["user_id"]), "logout_notification", note)

    def found(self, name: str, wanted: str) -> list[LittlePeer]:
        return [peer for peer in self.peers if peer.identity.get(name) == wanted and peer.dialect != "requester"]

    # WebSocket

    async def websocket(self, scope: Any, receive: Asgi, send: Asgi) -> None:
        await receive()
        if "connections refused" in self.faults:
            await send({"type": "websocket.http.response.start", "status": 503, "headers": []})
            await send({"type": "websocket.http.response.body", "body": b"No.\n"})
            return
        await send({"type": "websocket.accept"})
        path = scope["path"].strip("/").split("/")
        if "binary" in self.faults:
            send = _in_binary(send)
        peer = LittlePeer(send, "")
        self.peers.append(peer)
        if authorization := dict(scope["headers"]).get(b"authorization"):
            self.secrets.add(authorization.decode())
        if path[0] == "worker":
            self.become_worker(peer)
            if "no greeting" not in self.faults:
                await peer.say(self.envelope("connect", self.greeting(peer)))
        elif path[0] == "requester":
            peer.dialect = "requester"
        elif len(path) == 2 and path[0] == "ws":
            peer.dialect, peer.identity = "user", {"user_id": path[1]}
        try:
            while (event := await receive())["type"] == "websocket.receive":
                await self.received(peer, event["text"])
        finally:
            peer.closed = True
            self.peers.remove(peer)

    async def received(self, peer: LittlePeer, text: str) -> None:
        if peer.dialect == "user":
            same_user = self.found("user_id", peer.identity["user_id"])
            for each in [peer] if "echo to one" in self.faults else same_user:
                await each.say(f"Echo: {text}")
            return
        try:
            message = json.loads(text)
        except ValueError:
            await self.bad_json(peer)
            return
        if not peer.dialect:
            kind = message.get("type")
            peer.dialect = "c_client" if kind == "c_client_register" else "requester" if not kind else "envelope"
        await {"c_client": self.c_client, "requester": self.request, "envelope": self.enveloped}[peer.dialect](
            peer, message
        )

    async def bad_json(self, peer: LittlePeer) -> None:
        if peer.dialect == "requester":
            await peer.say({**self.refusal({}, "Invalid JSON format")})
        else:
            await peer.say({"type": "error", "code": "bad_json", "message": "That is no JSON."})

    # C-Client dialect

    async def c_client(self, peer: LittlePeer, message: Json) -> None:
        match message.get("type"):
            case "c_client_register":
                await self.register(peer, message)
            case "heartbeat":
                peer.heartbeats += 1
                if "heartbeats answered late" in self.faults:
                    await trio.sleep(0.5)
                there = self.registrations >= self.cuts_none_before and (self.pushed or not self.cuts_none_before)
                if "cut after three heartbeats" in self.faults and peer.heartbeats >= 3 and there:
                    await peer.close(1011)
                elif "no heartbeat" not in self.faults:
                    for _ in range(2 if "heartbeats answered twice" in self.faults else 1):
                        await peer.say({"type": "heartbeat"})
            case "session_feedback":
                await self.feedback(peer, message)
            case _:
                await peer.say({"type": "error", "code": "unknown_type", "message": "What is that?"})
                if "error closes" in self.faults:
                    await peer.close(1003)

    async def register(self, peer: LittlePeer, message: Json) -> None:
        identity = {name: message.get(name) for name in (*TARGETS, "username")}
        too_long = len(identity["client_id"] or "") > 128 and "no rejection" not in self.faults
        if too_long or "registrations rejected" in self.faults:
            named = {name: identity[name] for name in ("client_id", "user_id", "username", "node_id")}
            await peer.say({"type": "registration_rejected", "reason": "bad_field", "message": "Long.", **named})
            return
        identity["client_id"] = identity["client_id"] or f"c{next(self.numbers)}"
        names = ("client_id",) if "id alone" in self.faults else ("client_id", "user_id", "node_id")
        for older in list(self.peers):
            alike = all(older.identity.get(name) == identity[name] for name in names)
            if older is not peer and older.identity and alike and "no 4009" not in self.faults:
                await older.close(4009)
        if not (peer.identity and "no user switch" in self.faults):
            peer.identity = identity
        with self._changed:
            self.registrations += not str(identity["client_id"]).endswith("-0")  # a load test's, before it begins
            self._changed.notify_all()
        said = {"client_id": identity["client_id"], "user_id": identity["user_id"], "node": "n"}
        said["connection_id"] = f"k{next(self.numbers)}"
        if "no node" in self.faults:
            del said["node"]
        said["resume"] = {"epoch": "e", "offsets": {}, "recovered": True}
        await peer.say({"type": "registration_success", **said, "heartbeat_interval": 25})
        for session in list(self.logins.values()):
            if session["user_id"] == identity["user_id"] and "no auto_login" not in self.faults:
                await self.push([peer], "auto_login", self.auto_login(session))

    async def feedback(self, peer: LittlePeer, message: Json) -> None:
        user = peer.identity["user_id"]
        current = next((name for name, item in self.logins.items() if item["user_id"] == user), None)
        session_id = message.get("session_id") or (None if "no current session" in self.faults else current)
        report = {"session_id": session_id, "user_id": user, "client_id": peer.identity["client_id"]}
        report |= {"success": message["success"], "message": message["message"], "timestamp": time.time()}
        if session_id in self.logins and "not recorded" not in self.faults:
            self.logins[session_id]["feedback"].append(report)
        others = [each for each in self.found("user_id", user) if each is not peer or "feedback echoed" in self.faults]
        await self.push(others, "session_feedback", report)

    # Envelope and requester dialects

    def envelope(self, kind: str, data: Json, msg_id: str | None = None) -> Json:
        return {"type": kind, "msg_id": msg_id or f"m{next(self.numbers)}", "timestamp": time.time(), "data": data}

    def become_worker(self, peer: LittlePeer) -> None:
        peer.dialect = "envelope"
        peer.identity = {"client_id": f"w{next(self.numbers)}", **peer.identity, "role": "worker"}

    def greeting(self, peer: LittlePeer) -> Json:
        return {"client_id": peer.identity["client_id"], "server_time": time.time(), "heartbeat_interval": 25}

    async def enveloped(self, peer: LittlePeer, message: Json) -> None:
        data = message.get("data") or {}
        self.secrets |= {data[name] for name in ("handshake_key", "token") if data.get(name)}
        match message["type"]:
            case "handshake":
                self.become_worker(peer)
                await peer.say(self.envelope("notification", {"title": "Handshake Successful"}))
            case "connect":
                peer.identity |= data
                if data.get("role") == "worker":
                    self.become_worker(peer)
                await peer.say(self.envelope("connect", self.greeting(peer)))
            case "request":
                params = data["params"]
                answer = {"success": True, "result": params["a"] + params["b"], "error": None}
                await peer.say(
                    self.envelope("response", {"request_id": message["msg_id"], **answer}, message["msg_id"])
                )
            case "heartbeat":
                await peer.say(self.envelope("heartbeat", {}))
            case "response":
                await self.answered(peer, message)

    async def answered(self, peer: LittlePeer, message: Json) -> None:
        data = message["data"]
        name = message["msg_id"] if "only msg_id" in self.faults else data.get("request_id", message["msg_id"])
        if name in self.waiting:
            requester, request = self.waiting.pop(name)
            worker = "somebody" if "processed_by" in self.faults else peer.identity["client_id"]
            answer = {"request_id": request["request_id"], "success": data["success"], "data": data["result"]}
            await requester.say({**answer, "error": data["error"], "processed_by": worker})

    async def request(self, peer: LittlePeer, message: Json) -> None:
        if "command" not in message:
            return await peer.say(self.refusal(message, "Missing command"))
        message.setdefault("request_id", f"r{next(self.numbers)}")
        for worker in self.peers:
            commands = worker.identity.get("commands")
            if worker.identity.get("role") == "worker" and (commands is None or message["command"] in commands):
                details = {"id": message["request_id"], "attempt": 1, "deadline_ms": 30000, "stream": False}
                data = {"action": message["command"], "params": message.get("data"), "request": details}
                order = self.envelope("request", data)
                self.waiting[order["msg_id"]] = (peer, message)
                return await worker.say(order)
        return await peer.say(self.refusal(message, "No available workers"))

    def refusal(self, message: Json, error: str) -> Json:
        name = message.get("request_id")
        return {"request_id": name, "success": False, "data": None, "error": error, "processed_by": None}


@asynccontextmanager
async def serving(gateway: LittleGateway, bind: str = "127.0.0.1:0") -> Any:
    """Serve the gateway while the block runs; gives its base URL."""
    config = Config()
    config.bind = [bind]
    config.graceful_timeout = 0.1
    config.shutdown_timeout = 0.1
    over = trio.Event()
    async with trio.open_nursery() as nursery:

        async def serve(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            app = cast("ASGIFramework", gateway)
            await hypercorn.trio.serve(app, config, shutdown_trigger=over.wait, task_status=task_status)

        [url] = await nursery.start(serve)
        async with trio.open_nursery() as gateway.nursery:
            try:
                yield url
            finally:
                gateway.nursery.cancel_scope.cancel()
                over.set()
                nursery.cancel_scope.deadline = trio.current_time() + 3


@contextmanager
def little_gateway(faults: Iterable[str] = (), *, api_key: str = "") -> Iterator[LittleGateway]:
    """Serve one in a thread while the block runs."""
    started: queue.SimpleQueue[tuple[str, trio.Event, trio.lowlevel.TrioToken] | None] = queue.SimpleQueue()
    gateway = LittleGateway(faults, api_key=api_key)

    async def main() -> None:
        async with serving(gateway) as url:
            over = trio.Event()
            started.put((url, over, trio.lowlevel.current_trio_token()))
            await over.wait()

    def serve() -> None:
        try:
            trio.run(main)
        finally:
            started.put(None)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    up = started.get(timeout=60)
    assert up is not None, "it did not come up"
    gateway.base_url, over, token = up
    try:
        yield gateway
    finally:
        trio.from_thread.run_sync(over.set, trio_token=token)
        thread.join(60)
