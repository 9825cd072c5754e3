"""Plays one scenario: each step in its turn, with a client program and the deployment's HTTP.

Promises that what arrives is looked at in full: the next message of a connection is the one that the scenario expects,
so that one too many fails as well as one too few; and at its end nothing more may be on its way. Only what is
obviously somebody else's (an event of a type that no part of the contract has, and without a name of this run) is
passed over. Every wait has a deadline. The transcript is kept, for the certificate.
"""

import itertools
import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from compat.address import why_not
from compat.clients import BrokenClientError, Client, Reports
from compat.deployment import Answer, Deployment
from compat.outcome import SkipError, UnmetError
from compat.pattern import Json, MisfitError, Names, shown
from compat.script import Scenario, Step
from compat.tokens import at, hidden, names, with_token

SESSION_TTL: Final = 600  # seconds: a login session that a killed run leaves behind ends by itself
TRANSCRIPT_LINE: Final = 2000
CONTRACT: Final = frozenset({
    "registration_success", "registration_rejected", "auto_login", "logout_notification", "session_feedback",
    "heartbeat", "error", "stream_gap", "server_draining", "user_connected_on_another_client",
    "user_connected_on_another_node", "connect", "disconnect", "handshake", "response", "custom", "token_refresh",
})  # fmt: skip
ABOUT_TOKENS: Final = frozenset({"auth-off", "auth-required", "tokens", "token"})
PATIENT: Final = 15.0  # seconds for an HTTP call that waits for a worker, on top of the time limit


class Connection:
    """One connection of the scenario."""

    def __init__(self, on: str, reports: Reports) -> None:
        self.on = on
        self.reports = reports
        self.dialect = ""
        self.identity: Json = {}
        self.over = False


class Play:
    """One scenario being played; `run` is its whole life."""

    def __init__(
        self, scenario: Scenario, client: Client, deployment: Deployment, prefix: str, nursery: trio.Nursery
    ) -> None:
        self.scenario = scenario
        self.transcript: list[str] = []
        self._client = client
        self._deployment = deployment
        self._target = deployment.target
        self._prefix = prefix
        self._nursery = nursery
        self._connections: dict[str, Connection] = {}
        self._asked: dict[str, trio.MemoryReceiveChannel[Answer | UnmetError]] = {}
        self._answer: Answer | None = None
        self._opened: Json = {}
        self._count = 0
        self._shows = self._shown_token()
        self._names = Names(self._fresh, self._given())

    def _fresh(self, what: str) -> str:
        self._count += 1
        return f"{self._prefix}-{what}{self._count}"

    def _given(self) -> Json:
        base = urlsplit(self._target.base_url)
        secure = base.scheme == "https"
        found = urlsplit(self._deployment.found.websocket_url)
        return {
            "base": self._target.base_url,
            "host": f"[{base.hostname}]" if ":" in (base.hostname or "") else base.hostname,
            "http_port": self._target.http_port or base.port or (443 if secure else 80),
            "ws_scheme": "wss" if secure else found.scheme,
            "handshake_key": self._target.handshake_key or "",
            "worker_token": self._target.handshake_key or self._target.api_key or None,
            "bearer": f"Bearer {self._target.api_key}",
            **names(self._target.token),
        }

    def _shown_token(self) -> str | None:
        """The token that goes with every connection: where they are required, and the scenario isn't about them."""
        required = self._deployment.found.auth == "required"
        return self._target.token if required and not self.scenario.needs & ABOUT_TOKENS else None

    async def run(self) -> None:
        """Play every step, and see that nothing more comes; raises UnmetError or SkipError."""
        try:
            for index, step in enumerate(self.scenario.steps):
                await self._step(step, self._next_verb(index))
            await self._finish()
        except MisfitError as error:
            raise UnmetError(str(error)) from error
        except BrokenClientError as error:
            raise UnmetError(str(error)) from error

    def _next_verb(self, index: int) -> str:
        """What the same one does next."""
        who = self.scenario.steps[index].who
        return next((step.verb for step in self.scenario.steps[index + 1 :] if step.who == who), "")

    async def _step(self, step: Step, next_verb: str) -> None:
        do: Callable[..., Any] = getattr(self, "_" + step.verb.replace("-", "_"))
        if step.verb in ("arrives", "connects"):
            await do(step, next_verb == "refused")
        else:
            await do(step)

    async def leave(self) -> None:
        """Close what is still open, without waiting for it."""
        for connection in self._connections.values():
            if not connection.over:
                try:
                    await self._client.tell({"do": "close", "on": connection.on})
                except BrokenClientError:
                    return

    # Connections

    def _connection(self, who: str) -> Connection:
        if who not in self._connections:
            on = f"{self._prefix}-{who}"
            self._connections[who] = Connection(on, self._client.line(on))
        return self._connections[who]

    def _again(self, who: str) -> Connection:
        """A connection of that name; where it had one that is over, a new one."""
        old = self._connections.pop(who, None)
        if old is not None:
            on = f"{old.on}+"
            self._connections[who] = Connection(on, self._client.line(on))
        return self._connection(who)

    async def _tell(self, who: str, do: str, connection: Connection, **further: object) -> None:
        await self._client.tell({"do": do, "on": connection.on, **further})

    def _note(self, who: str, sign: str, what: object) -> None:
        text = what if isinstance(what, str) else json.dumps(what, ensure_ascii=False)
        text = hidden(text, self._target.token)
        if len(text) > TRANSCRIPT_LINE:
            text = f"{text[:TRANSCRIPT_LINE]}… ({len(text)} characters)"
        self.transcript.append(f"{who} {sign} {text}")

    async def _report(self, who: str, what: str) -> Json:
        connection = self._connection(who)
        report = await connection.reports.take(self._target.timeout)
        if report is None:
            raise UnmetError(f"{who} got no {what} within {self._target.timeout:g} s")
        self._note(who, "<", report.get("text") if report["event"] == "text" else report)
        if report["event"] == "broken":
            raise BrokenClientError(report["why"])
        if report["event"] == "closed":
            connection.over = True
        return report

    async def _discovers(self, step: Step) -> None:
        connection = self._again(step.who)
        self._note(step.who, ">", f"discovers {step.words[0]}")
        await self._tell(step.who, "discover", connection, form=step.words[0], base=self._target.base_url)

    async def _found(self, step: Step) -> None:
        report = await self._report(step.who, "answer of discovery")
        if report["event"] != "found" or report["status"] != 200:
            raise UnmetError(f"discovery should answer 200, gave {shown(report)}")
        if not str(report["content_type"]).startswith("application/json"):
            raise UnmetError(
                f"discovery: the content type should be application/json, is {shown(report['content_type'])}"
            )
        self._names.fit("discovery", step.value, _json("discovery", report["text"]))

    async def _arrives(self, step: Step, refused: bool) -> None:
        form, way = step.words or ("websocket-info", "url")
        if (reason := why_not(way, self._target.base_url)) is not None:
            raise SkipError(reason)
        connection = self._again(step.who)
        self._note(step.who, ">", f"discovers {form}, connects by {way}")
        await self._tell(step.who, "arrive", connection, form=form, way=way, base=self._target.base_url)
        report = await self._report(step.who, "answer of discovery")
        if report["event"] == "found" and report["status"] != 200:
            raise UnmetError(f"discovery should answer 200, gave {shown(report)}")
        if report["event"] == "found":
            await self._report(step.who, "address")
        await self._open(step.who, report, refused)

    async def _connects(self, step: Step, refused: bool) -> None:
        value = step.value or {}
        path = str(self._names.fill(step.words[0]))
        url = self._deployment.path(path)
        if path in ("@workers", "@older"):
            url = self._target.worker_url or self._deployment.path("/worker" if path == "@workers" else "/")
        elif path.startswith("@http"):
            url = "ws" + self._target.base_url.removeprefix("http") + path.removeprefix("@http")
        if self._shows is not None:
            url = at(url, self._shows)
        headers = self._names.fill(value.get("headers", {}))
        if path in ("/worker", "@workers", "@older") and self._target.api_key and "authorization" not in headers:
            headers["authorization"] = f"Bearer {self._target.api_key}"
        connection = self._again(step.who)
        self._note(step.who, ">", f"connects to {url} {shown(value) if value else ''}")
        await self._tell(
            step.who,
            "connect",
            connection,
            url=url,
            headers=headers,
            protocols=self._names.fill(value.get("protocols", [])),
        )
        await self._report(step.who, "address")
        await self._open(step.who, None, refused)
        if path in ("/worker", "@workers"):
            connection.dialect = "envelope"
        if path == "@older" and self._target.worker_url:
            await self._text(step.who, "the greeting of the workers' own port")
        if "protocol" in value:
            self._names.fit(f"the subprotocol of {step.who}", value["protocol"], self._opened.get("protocol", ""))

    async def _open(self, who: str, report: Json | None, refused: bool) -> None:
        if report is None or report["event"] != "refused":
            report = await self._report(who, "connection")
        self._opened = report
        if refused:
            if report["event"] != "refused":
                raise UnmetError(f"{who} should have been refused, and got in")
            self._connection(who).over = True
        elif report["event"] != "open":
            raise UnmetError(f"{who} doesn't get in: {shown(report.get('why'))} ({report.get('status')})")

    async def _refused(self, step: Step) -> None:
        status = self._opened.get("status")
        if status is not None and str(status) not in step.words:
            raise UnmetError(f"{step.who} should be refused with {' or '.join(step.words)}, is with {status}")

    async def _sends(self, step: Step) -> None:
        message = self._names.fill(step.value)
        if self._shows is not None:
            message = with_token(message, self._shows)
        await self._send(step.who, json.dumps(message), "send")

    async def _sends_text(self, step: Step) -> None:
        await self._send(step.who, str(self._names.fill(step.value)), "send")

    async def _sends_binary(self, step: Step) -> None:
        await self._send(step.who, json.dumps(self._names.fill(step.value)), "send_binary")

    async def _send(self, who: str, text: str, do: str) -> None:
        connection = self._connection(who)
        self._note(who, ">", text)
        message = _maybe_json(text)
        if isinstance(message, dict) and message.get("type") == "c_client_register":
            connection.dialect, connection.identity = "c_client", message
        elif isinstance(message, dict) and message.get("type") in ("connect", "handshake"):
            connection.dialect = "envelope"
            connection.identity = message.get("data") or {}
        await self._tell(who, do, connection, text=text)

    async def _gets(self, step: Step) -> None:
        text = await self._text(step.who, shown(step.value, 80))
        self._names.fit(f"what {step.who} gets", step.value, _json(f"what {step.who} gets", text))

    async def _gets_text(self, step: Step) -> None:
        self._names.fit(f"what {step.who} gets", step.value, await self._text(step.who, shown(step.value, 80)))

    async def _text(self, who: str, what: str) -> str:
        """The next message, others' left out; raises UnmetError."""
        deadline = trio.current_time() + self._target.timeout
        while True:
            report = await self._report(who, what)
            if report["event"] == "closed":
                raise UnmetError(
                    f"{who} was closed with {report['code']} ({shown(report['reason'])}) instead of getting {what}"
                )
            if report["event"] != "text":
                raise UnmetError(f"{who} got {shown(report)} instead of {what}")
            text: str = report["text"]
            if not self._is_others(_maybe_json(text), text):
                return text
            if trio.current_time() > deadline:
                raise UnmetError(f"{who} got no {what} within {self._target.timeout:g} s, only what is others'")

    def _is_others(self, message: Any, text: str) -> bool:
        if not isinstance(message, dict) or self._prefix in text:
            return False
        data = message.get("data")
        if message.get("type") == "request" and "msg_id" in message:
            raise SkipError("somebody else's request came to the test's worker: the deployment is in use")
        if message.get("type") == "notification" and isinstance(data, dict):
            return data.get("event") not in CONTRACT
        return isinstance(message.get("type"), str) and message["type"] not in CONTRACT and "msg_id" not in message

    async def _closes(self, step: Step) -> None:
        connection = self._connection(step.who)
        self._note(step.who, ">", "closes")
        code = int(step.words[0]) if step.words else 1000
        await self._tell(step.who, "close", connection, code=code)
        connection.over = True
        while (await self._report(step.who, "end of its connection"))["event"] != "closed":
            continue

    async def _closed(self, step: Step) -> None:
        report = await self._report(step.who, f"close with {' or '.join(step.words)}")
        while report["event"] == "text" and self._is_others(_maybe_json(report["text"]), report["text"]):
            report = await self._report(step.who, f"close with {' or '.join(step.words)}")
        if report["event"] != "closed":
            raise UnmetError(f"{step.who} should be closed with {' or '.join(step.words)}, got {shown(report)}")
        if str(report["code"]) not in step.words:
            raise UnmetError(f"{step.who} should be closed with {' or '.join(step.words)}, was with {report['code']}")
        if step.value is not None:
            self._names.fit("the reason of the close", step.value, report["reason"])

    async def _settles(self, step: Step) -> None:
        """Let a marker through behind all that was accepted for this client before; it must come next."""
        connection = self._connection(step.who)
        field = "user_id" if connection.identity.get("user_id") else "client_id"
        marker = self._fresh("marker")
        body = {"target": {field: connection.identity[field]}, "type": marker, "data": {}}
        answer = await self._call("POST", "/api/notifications", body)
        if answer.status != 202:
            raise UnmetError(f"a push should be answered with 202, was with {answer.status} {shown(answer.text)}")
        for who, other in self._connections.items():
            if not other.over and other.identity.get(field) == connection.identity[field]:
                message = _json("a marker", await self._text(who, f"marker {marker}"))
                kind = message["data"].get("event") if other.dialect == "envelope" else message.get("type")
                if kind != marker:
                    raise UnmetError(f"{who} shouldn't have got {shown(message)}")

    async def _finish(self) -> None:
        """Whoever can be asked answers a heartbeat at once: what comes before that is one message too many."""
        able = [(who, one) for who, one in self._connections.items() if not one.over]
        for who, one in able:
            if one.dialect == "c_client":
                await self._send(who, '{"type": "heartbeat"}', "send")
            elif one.dialect == "envelope":
                await self._send(who, '{"type": "heartbeat", "msg_id": "last", "data": {}}', "send")
        for who, one in able:
            if one.dialect:
                text = await self._text(who, "heartbeat")
                message = _maybe_json(text)
                if not isinstance(message, dict) or message.get("type") != "heartbeat":
                    raise UnmetError(f"{who} shouldn't have got {shown(text)}")
            while (report := one.reports.at_hand()) is not None:
                if report["event"] != "text" or not self._is_others(_maybe_json(report["text"]), report["text"]):
                    raise UnmetError(f"{who} shouldn't have got {shown(report)}")

    async def _share(self, step: Step) -> None:
        """So many requests come to the workers that the value names, each to any of them; each is answered.

        The value says how many each of them should have had, and whether they had them in turn. A request's params are
        its number, from 1 on.
        """
        total, takers = int(step.words[0]), {who: 0 for who in step.value if who != "in_turn"}
        had: dict[int, str] = {}
        failures: list[Exception] = []

        async def take(who: str) -> None:
            try:
                while True:
                    request = _json(f"what {who} gets", await self._text(who, "request"))
                    self._names.fit(f"what {who} gets", {"type": "request", "msg_id": "<filled>"}, request)
                    had[request["data"]["params"]] = who
                    response = {"type": "response", "data": {"request_id": request["msg_id"], "success": True}}
                    # Cancelling may leave half a command.
                    with trio.CancelScope(shield=True):
                        await self._send(who, json.dumps(response), "send")
                    if len(had) == total:
                        nursery.cancel_scope.cancel()
            except Exception as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for who in takers:
                nursery.start_soon(take, who)
        if failures:
            raise failures[0]
        in_order = [had[number] for number in sorted(had)]
        for who in takers:
            self._names.fit(f"the share of {who}", step.value[who], in_order.count(who))
        in_turn = all(one != next_one for one, next_one in itertools.pairwise(in_order))
        self._names.fit("that they had them in turn", step.value.get("in_turn", "<any>"), in_turn)

    # HTTP

    async def _call(self, method: str, route: str, body: object, headers: dict[str, str] | None = None) -> Answer:
        self._note("api", ">", f"{method} {route} {'' if body is None else json.dumps(body, ensure_ascii=False)}")
        patience = PATIENT if route.endswith("/requests") else 0
        answer = await self._deployment.ask(
            method, route, headers=self._deployment.authorized() if headers is None else headers, body=body,
            patience=patience,
        )  # fmt: skip
        self._note("api", "<", f"{answer.status} {answer.text}")
        return answer

    async def _asks(self, step: Step) -> None:
        """Begin a call; `answers` waits for its end. Only `api` shows the key."""
        method, route = step.words[0], str(self._names.fill(step.words[1]))
        value = step.value if isinstance(step.value, dict) else {}
        headers = self._deployment.authorized() if step.who.startswith("api") else {}
        body = self._names.fill(step.value)
        if "headers" in value:
            headers = {**headers, **body["headers"]}
            body = body.get("body")
        if method == "POST" and route == "/api/logins" and isinstance(body, dict):
            body.setdefault("ttl", SESSION_TTL)
        put, self._asked[step.who] = trio.open_memory_channel[Answer | UnmetError](1)

        async def call() -> None:
            # Shielded where a login starts, for at most the time limit: one whose id never arrives could not be ended.
            with trio.CancelScope(shield=route == "/api/logins" and method == "POST"):
                try:
                    answer = await self._call(method, route, body, headers)
                except UnmetError as error:
                    put.send_nowait(error)
                    return
            self._remember(method, route, answer)
            put.send_nowait(answer)

        self._nursery.start_soon(call)

    def _remember(self, method: str, route: str, answer: Answer) -> None:
        said = _maybe_json(answer.text)
        if method == "POST" and route == "/api/logins" and isinstance(said, dict) and "session_id" in said:
            self._deployment.started(str(said["session_id"]))
        elif method == "DELETE" and route.startswith("/api/logins/"):
            self._deployment.ended(route.rpartition("/")[2])

    async def _answers(self, step: Step) -> None:
        answer = await self._asked.pop(step.who).receive()
        if isinstance(answer, UnmetError):
            raise answer
        self._answer = answer
        if str(answer.status) not in step.words:
            raise UnmetError(
                f"should be answered with {' or '.join(step.words)}, is with {answer.status} {shown(answer.text)}"
            )
        if step.value is not None:
            self._names.fit("the answer", step.value, _json("the answer", answer.text))

    async def _header(self, step: Step) -> None:
        name = step.words[0]
        got = self._answer.headers.get(name) if self._answer else None
        if step.value == "<absent>":
            if got is not None:
                raise UnmetError(f"the header {name} shouldn't be there, is {shown(got)}")
        elif got is None:
            raise UnmetError(f"the header {name} is missing")
        else:
            self._names.fit(f"the header {name}", step.value, got)


def _maybe_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _json(what: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UnmetError(f"{what} should be JSON, is {shown(text)}") from error
