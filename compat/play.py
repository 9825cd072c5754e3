"""Plays one scenario: each step in its turn, with a client program and the deployment's HTTP.

Promises that what arrives is looked at in full: the next message of a connection is the one that the scenario expects,
so that one too many fails as well as one too few; and at its end nothing more may be on its way. The connections and
the calls are in modules of their own; here is what each verb of a scenario does with them.
"""

import itertools
import json
import shlex
import subprocess
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from compat.address import why_not
from compat.calls import Calls
from compat.clients import BrokenClientError, Client
from compat.connections import Connections, as_json, event_of, maybe_json, stream_of
from compat.deployment import Deployment
from compat.idle_proxy import idle_proxy
from compat.outcome import SkipError, UnmetError
from compat.pattern import Json, MisfitError, Names, shown
from compat.script import Scenario, Step
from compat.tokens import at, names, with_token

ABOUT_TOKENS: Final = frozenset({"auth-off", "auth-required", "tokens", "token"})
COMMAND_LIMIT: Final = 60.0  # seconds for what `runs` starts, on top of the time limit


class Play:
    """One scenario being played; `run` is its whole life."""

    def __init__(
        self, scenario: Scenario, client: Client, deployment: Deployment, prefix: str, nursery: trio.Nursery
    ) -> None:
        self.scenario = scenario
        self._deployment = deployment
        self._target = deployment.target
        self._prefix = prefix
        self._nursery = nursery
        self._connections = Connections(client, deployment.target, prefix)
        self._calls = Calls(deployment, self._connections.note, nursery)
        self._opened: Json = {}
        self._count = 0
        self._shows = self._shown_token()
        self._names = Names(self._fresh, self._given())

    @property
    def transcript(self) -> list[str]:
        """All that passed."""
        return self._connections.transcript

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
            "idle": self._target.idle_timeout,
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
        """The next verb of the same connection; empty if there is none."""
        who = self.scenario.steps[index].who
        return next((step.verb for step in self.scenario.steps[index + 1 :] if step.who == who), "")

    async def _step(self, step: Step, next_verb: str) -> None:
        do: Callable[..., Any] = getattr(self, "_" + step.verb.replace("-", "_"))
        if step.verb in ("arrives", "connects"):
            await do(step, next_verb == "refused")
        else:
            await do(step)

    async def leave(self) -> None:
        """Close what is still open; workers are waited for, until they are gone. Cancelling is safe."""
        await self._connections.leave(until_closed="workers" in self.scenario.needs)

    # Coming in

    async def _discovers(self, step: Step) -> None:
        self._connections.again(step.who)
        self._connections.note(step.who, ">", f"discovers {step.words[0]}")
        await self._connections.tell(step.who, "discover", form=step.words[0], base=self._target.base_url)

    async def _found(self, step: Step) -> None:
        report = await self._connections.report(step.who, "answer of discovery")
        if report["event"] != "found" or report["status"] != 200:
            raise UnmetError(f"discovery should answer 200, gave {shown(report)}")
        if not str(report["content_type"]).startswith("application/json"):
            raise UnmetError(
                f"discovery: the content type should be application/json, is {shown(report['content_type'])}"
            )
        self._names.fit("discovery", step.value, as_json("discovery", report["text"]))

    async def _arrives(self, step: Step, refused: bool) -> None:
        form, way = step.words or ("websocket-info", "url")
        if (reason := why_not(way, self._target.base_url)) is not None:
            raise SkipError(reason)
        self._connections.again(step.who)
        self._connections.note(step.who, ">", f"discovers {form}, connects by {way}")
        await self._connections.tell(step.who, "arrive", form=form, way=way, base=self._target.base_url)
        report = await self._connections.report(step.who, "answer of discovery")
        if report["event"] == "found" and report["status"] != 200:
            raise UnmetError(f"discovery should answer 200, gave {shown(report)}")
        if report["event"] == "found":
            await self._connections.report(step.who, "address")
        await self._open(step.who, report, refused)

    async def _connects(self, step: Step, refused: bool) -> None:
        value = step.value or {}
        path = str(self._names.fill(step.words[0]))
        url = await self._address(path)
        if self._shows is not None:
            url = at(url, self._shows)
        headers = self._names.fill(value.get("headers", {}))
        if path in ("/worker", "@workers", "@older") and self._target.api_key and "authorization" not in headers:
            headers["authorization"] = f"Bearer {self._target.api_key}"
        connection = self._connections.again(step.who)
        self._connections.note(step.who, ">", f"connects to {url} {shown(value) if value else ''}")
        protocols = self._names.fill(value.get("protocols", []))
        await self._connections.tell(step.who, "connect", url=url, headers=headers, protocols=protocols)
        await self._connections.report(step.who, "address")
        await self._open(step.who, None, refused)
        if path in ("/worker", "@workers"):
            connection.dialect = "envelope"
        if path == "@older" and self._target.worker_url:
            await self._connections.text(step.who, "the greeting of the workers' own port")
        if "protocol" in value:
            self._names.fit(f"the subprotocol of {step.who}", value["protocol"], self._opened.get("protocol", ""))

    async def _address(self, path: str) -> str:
        """The WebSocket address of a path: on the advertised port, or where what begins with @ says."""
        if path in ("@workers", "@older"):
            return self._target.worker_url or self._deployment.path("/worker" if path == "@workers" else "/")
        if path.startswith("@http"):
            return "ws" + self._target.base_url.removeprefix("http") + path.removeprefix("@http")
        if not path.startswith("@idle"):
            return self._deployment.path(path)
        url = self._deployment.path(path.removeprefix("@idle"))
        # With TLS it is the deployment's own proxy that cuts: what ours says would not fit the certificate.
        return url if url.startswith("wss:") else await self._nursery.start(idle_proxy, url, self._target.idle_timeout)

    async def _open(self, who: str, report: Json | None, refused: bool) -> None:
        if report is None or report["event"] != "refused":
            report = await self._connections.report(who, "connection")
        self._opened = report
        if refused:
            if report["event"] != "refused":
                raise UnmetError(f"{who} should have been refused, and got in")
            self._connections[who].over = True
        elif report["event"] != "open":
            raise UnmetError(f"{who} doesn't get in: {shown(report.get('why'))} ({report.get('status')})")

    async def _refused(self, step: Step) -> None:
        status = self._opened.get("status")
        if status is not None and str(status) not in step.words:
            raise UnmetError(f"{step.who} should be refused with {' or '.join(step.words)}, is with {status}")

    # Messages

    async def _sends(self, step: Step) -> None:
        message = self._names.fill(step.value)
        if self._shows is not None:
            message = with_token(message, self._shows)
        await self._connections.send(step.who, json.dumps(message))

    async def _sends_text(self, step: Step) -> None:
        await self._connections.send(step.who, str(self._names.fill(step.value)))

    async def _sends_binary(self, step: Step) -> None:
        await self._connections.send(step.who, json.dumps(self._names.fill(step.value)), "send_binary")

    async def _gets(self, step: Step) -> None:
        text = await self._connections.text(step.who, shown(step.value, 80))
        self._names.fit(f"what {step.who} gets", step.value, as_json(f"what {step.who} gets", text))

    async def _gets_text(self, step: Step) -> None:
        got = await self._connections.text(step.who, shown(step.value, 80))
        self._names.fit(f"what {step.who} gets", step.value, got)

    async def _gaps(self, step: Step) -> None:
        """Take gaps until each of the value's streams was in one, and no other stream. Together they fit the value.

        Messages of other streams that come in between are kept for the next steps. An event of one of these streams
        must not come before the stream's gap.
        """
        who, streams, aside = step.who, set(self._names.fill(step.value["streams"])), list[str]()
        what, offsets = f"the gap that {who} is told of", Json()
        told: Json = {"offsets": offsets}
        while missing := sorted(streams - offsets.keys()):
            text = await self._connections.text(who, f"stream_gap of {missing}")
            message = as_json(f"what {who} gets", text)
            kind, gap = event_of(message)
            if kind != "stream_gap":
                if stream_of(message) in missing:
                    raise UnmetError(f"{who} should be told of a gap in {missing} before it gets {shown(message)}")
                aside.append(text)
                continue
            self._names.fit(what, {"streams": "<list>", "epoch": "<filled>", "offsets": "<object>"}, gap)
            if sorted(gap["streams"]) != sorted(gap["offsets"]) or not streams.issuperset(gap["streams"]):
                raise UnmetError(f"{what} should have positions of its streams, and be of {missing}: {shown(gap)}")
            if told.setdefault("epoch", gap["epoch"]) != gap["epoch"]:
                raise UnmetError(f"{what} should be of one epoch, {shown(told['epoch'])}, and is: {shown(gap)}")
            offsets.update(gap["offsets"])
        self._connections[who].aside.extendleft(reversed(aside))
        self._names.fit(what, {**step.value, "streams": "<absent>"}, told)

    async def _closes(self, step: Step) -> None:
        self._connections.note(step.who, ">", "closes")
        code = int(step.words[0]) if step.words else 1000
        await self._connections.tell(step.who, "close", code=code)
        self._connections[step.who].over = True
        while (await self._connections.report(step.who, "end of its connection"))["event"] != "closed":
            continue

    async def _closed(self, step: Step) -> None:
        codes = " or ".join(step.words)
        report = await self._connections.report(step.who, f"close with {codes}")
        while self._connections.is_others(report):
            report = await self._connections.report(step.who, f"close with {codes}")
        if report["event"] != "closed":
            raise UnmetError(f"{step.who} should be closed with {codes}, got {shown(report)}")
        if str(report["code"]) not in step.words:
            raise UnmetError(f"{step.who} should be closed with {codes}, was with {report['code']}")
        if step.value is not None:
            self._names.fit("the reason of the close", step.value, report["reason"])

    async def _settles(self, step: Step) -> None:
        """Push a marker to the client. It must be the next message: what was accepted before comes before it."""
        connection = self._connections[step.who]
        field = "user_id" if connection.identity.get("user_id") else "client_id"
        marker = self._fresh("marker")
        body = {"target": {field: connection.identity[field]}, "type": marker, "data": {}}
        answer = await self._calls.call("POST", "/api/notifications", body)
        if answer.status != 202:
            raise UnmetError(f"a push should be answered with 202, was with {answer.status} {shown(answer.text)}")
        for who, other in self._connections.still_open():
            if other.identity.get(field) == connection.identity[field]:
                message = as_json("a marker", await self._connections.text(who, f"marker {marker}"))
                if event_of(message)[0] != marker:
                    raise UnmetError(f"{who} shouldn't have got {shown(message)}")

    async def _finish(self) -> None:
        """See that nothing more comes: a heartbeat is answered at once, and a message before that is one too many."""
        able = list(self._connections.still_open())
        for who, one in able:
            if one.dialect == "c_client":
                await self._connections.send(who, '{"type": "heartbeat"}')
            elif one.dialect == "envelope":
                await self._connections.send(who, '{"type": "heartbeat", "msg_id": "last", "data": {}}')
        for who, one in able:
            if one.dialect:
                text = await self._connections.text(who, "heartbeat")
                message = maybe_json(text)
                if not isinstance(message, dict) or message.get("type") != "heartbeat":
                    raise UnmetError(f"{who} shouldn't have got {shown(text)}")
            while (report := one.reports.at_hand()) is not None:
                if not self._connections.is_others(report):
                    raise UnmetError(f"{who} shouldn't have got {shown(report)}")

    async def _share(self, step: Step) -> None:
        """Take a number of requests at the workers that the value names, each at any of them, and answer them.

        The value says how many each worker should get, and whether they get them in turn. The params of a request are
        its number, from 1 on.
        """
        total, takers = int(step.words[0]), {who: 0 for who in step.value if who != "in_turn"}
        had: dict[int, str] = {}
        failures: list[Exception] = []

        async def take(who: str) -> None:
            try:
                while True:
                    request = as_json(f"what {who} gets", await self._connections.text(who, "request"))
                    self._names.fit(f"what {who} gets", {"type": "request", "msg_id": "<filled>"}, request)
                    had[request["data"]["params"]] = who
                    response = {"type": "response", "data": {"request_id": request["msg_id"], "success": True}}
                    # Cancelling may leave half a command.
                    with trio.CancelScope(shield=True):
                        await self._connections.send(who, json.dumps(response))
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

    # What isn't the client's

    async def _asks(self, step: Step) -> None:
        """Begin a call; `answers` waits for its end."""
        route = str(self._names.fill(step.words[1]))
        self._calls.begin(step.who, step.words[0], route, self._names.fill(step.value))

    async def _answers(self, step: Step) -> None:
        answer = await self._calls.end(step.who)
        if str(answer.status) not in step.words:
            raise UnmetError(
                f"should be answered with {' or '.join(step.words)}, is with {answer.status} {shown(answer.text)}"
            )
        if step.value is not None:
            self._names.fit("the answer", step.value, as_json("the answer", answer.text))

    async def _header(self, step: Step) -> None:
        name = step.words[0]
        got = self._calls.last.headers.get(name) if self._calls.last else None
        if step.value == "<absent>":
            if got is not None:
                raise UnmetError(f"the header {name} shouldn't be there, is {shown(got)}")
        elif got is None:
            raise UnmetError(f"the header {name} is missing")
        else:
            self._names.fit(f"the header {name}", step.value, got)

    async def _loses_history(self, step: Step) -> None:
        """The deployment loses its history: by the command that the run was given."""
        self._connections.note(step.who, ">", "has the deployment lose its history")
        limit = COMMAND_LIMIT + self._target.timeout
        with trio.move_on_after(limit):
            try:
                done = await trio.run_process(
                    shlex.split(self._target.lose_history or ""), stdin=subprocess.DEVNULL, capture_stdout=True,
                    capture_stderr=True, check=False,
                )  # fmt: skip
            except OSError as error:
                raise UnmetError(f"the command of --lose-history can't be run: {error}") from error
            if done.returncode != 0:
                said = (done.stderr or done.stdout).decode(errors="replace").strip()
                raise UnmetError(f"the command of --lose-history ended with {done.returncode}: {shown(said)}")
            return
        raise UnmetError(f"the command of --lose-history didn't end within {limit:g} s")

    async def _waits(self, step: Step) -> None:
        """Wait for a number of the proxy's time-outs. With a value, send a message every so often, and get one back."""
        over = trio.current_time() + float(step.words[0]) * self._target.idle_timeout
        if step.value is not None:
            every = float(self._names.fill(step.value["every"]))
            while trio.current_time() + every < over:
                await trio.sleep(every)
                await self._connections.send(step.who, json.dumps(self._names.fill(step.value["sends"])))
                text = await self._connections.text(step.who, shown(step.value["gets"], 80))
                self._names.fit(f"what {step.who} gets", step.value["gets"], as_json(f"what {step.who} gets", text))
        await trio.sleep_until(over)
