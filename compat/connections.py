"""The connections of one scenario, as a client program holds them: what goes out on each, and what arrives.

Knows the client program's reports and the two forms of a message; what a scenario makes of them is `play`'s affair.
Messages are handed out one by one, in their order. Only what is obviously somebody else's (an event of a type that no
part of the contract has, and without a name of this run) is passed over. Every wait has a deadline. The transcript is
kept, for the certificate.
"""

import json
from collections import deque
from collections.abc import Iterator
from math import inf
from typing import Any, Final

import trio

from compat.clients import BrokenClientError, Client, Reports
from compat.deployment import Target
from compat.outcome import SkipError, UnmetError
from compat.pattern import Json, shown
from compat.tokens import hidden

TRANSCRIPT_LINE: Final = 2000
CONTRACT: Final = frozenset({
    "registration_success", "registration_rejected", "auto_login", "logout_notification", "session_feedback",
    "heartbeat", "error", "stream_gap", "server_draining", "user_connected_on_another_client",
    "user_connected_on_another_node", "connect", "disconnect", "handshake", "response", "custom", "token_refresh",
})  # fmt: skip


class Connection:
    """One connection of the scenario."""

    def __init__(self, on: str, reports: Reports) -> None:
        self.on = on
        self.reports = reports
        self.dialect = ""
        self.identity: Json = {}
        self.opened = False
        self.over = False
        self.aside: deque[str] = deque()
        """Messages that were taken already, and are still to be handed out."""


class Connections:
    """Those of one scenario, by the names that it gives them. `transcript`: all that passed, and what was called."""

    def __init__(self, client: Client, target: Target, prefix: str) -> None:
        self.transcript: list[str] = []
        self._client = client
        self._target = target
        self._prefix = prefix
        self._known: dict[str, Connection] = {}

    def __getitem__(self, who: str) -> Connection:
        if who not in self._known:
            on = f"{self._prefix}-{who}"
            self._known[who] = Connection(on, self._client.line(on))
        return self._known[who]

    def still_open(self) -> Iterator[tuple[str, Connection]]:
        """Those that aren't over, with their names."""
        return iter([(who, one) for who, one in self._known.items() if not one.over])

    def again(self, who: str) -> Connection:
        """The connection of that name; if it was used before, a new one takes its place."""
        old = self._known.pop(who, None)
        if old is not None:
            on = f"{old.on}+"
            self._known[who] = Connection(on, self._client.line(on))
        return self[who]

    async def leave(self, *, until_closed: bool = False) -> None:
        """Close what is still open. With `until_closed`, wait until the gateway has closed it too, or the client
        program is gone: a worker that is still there would be sent what the next scenario asks its own. Cancelling is
        safe."""
        open_still = list(self.still_open())
        for _, connection in open_still:
            try:
                await self._client.tell({"do": "close", "on": connection.on})
            except BrokenClientError:
                return
        for _, connection in open_still if until_closed else ():
            while connection.opened and not connection.over:
                report = await connection.reports.take(inf)
                connection.over = report is None or report["event"] in ("closed", "broken")

    def note(self, who: str, sign: str, what: object) -> None:
        """Add to the transcript."""
        text = what if isinstance(what, str) else json.dumps(what, ensure_ascii=False)
        text = hidden(text, self._target.token)
        if len(text) > TRANSCRIPT_LINE:
            text = f"{text[:TRANSCRIPT_LINE]}… ({len(text)} characters)"
        self.transcript.append(f"{who} {sign} {text}")

    async def tell(self, who: str, do: str, **further: object) -> None:
        """Give the client program a command about this connection; raises BrokenClientError."""
        await self._client.tell({"do": do, "on": self[who].on, **further})

    async def send(self, who: str, text: str, do: str = "send") -> None:
        """Send a message. From a registration, note the connection's dialect and identity."""
        connection = self[who]
        self.note(who, ">", text)
        message = maybe_json(text)
        if isinstance(message, dict) and message.get("type") == "c_client_register":
            connection.dialect, connection.identity = "c_client", message
        elif isinstance(message, dict) and message.get("type") in ("connect", "handshake"):
            connection.dialect = "envelope"
            connection.identity = message.get("data") or {}
        await self.tell(who, do, text=text)

    async def report(self, who: str, what: str) -> Json:
        """The client program's next report about a connection. `what`: what was expected, for the error. Raises
        UnmetError where nothing comes in time."""
        connection = self[who]
        report = await connection.reports.take(self._target.timeout)
        if report is None:
            raise UnmetError(f"{who} got no {what} within {self._target.timeout:g} s")
        self.note(who, "<", report.get("text") if report["event"] == "text" else report)
        if report["event"] == "broken":
            raise BrokenClientError(report["why"])
        if report["event"] == "open":
            connection.opened = True
        elif report["event"] == "closed":
            connection.over = True
        return report

    async def text(self, who: str, what: str) -> str:
        """The next message, others' left out; raises UnmetError."""
        if self[who].aside:
            return self[who].aside.popleft()
        deadline = trio.current_time() + self._target.timeout
        while True:
            report = await self.report(who, what)
            if report["event"] == "closed":
                raise UnmetError(
                    f"{who} was closed with {report['code']} ({shown(report['reason'])}) instead of getting {what}"
                )
            if report["event"] != "text":
                raise UnmetError(f"{who} got {shown(report)} instead of {what}")
            text: str = report["text"]
            if not self.is_others(report):
                return text
            if trio.current_time() > deadline:
                raise UnmetError(f"{who} got no {what} within {self._target.timeout:g} s, only what is others'")

    def is_others(self, report: Json) -> bool:
        """Whether a report is of a message that is somebody else's. Raises SkipError for a request that is."""
        if report["event"] != "text":
            return False
        text, message = report["text"], maybe_json(report["text"])
        if not isinstance(message, dict) or self._prefix in text:
            return False
        data = message.get("data")
        if message.get("type") == "request" and "msg_id" in message:
            raise SkipError("somebody else's request came to the test's worker: the deployment is in use")
        if message.get("type") == "notification" and isinstance(data, dict):
            return data.get("event") not in CONTRACT
        return isinstance(message.get("type"), str) and message["type"] not in CONTRACT and "msg_id" not in message


def maybe_json(text: str) -> Any:
    """The value of a JSON text; None where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def as_json(what: str, text: str) -> Any:
    """The value of a JSON text; raises UnmetError where it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UnmetError(f"{what} should be JSON, is {shown(text)}") from error


def event_of(message: Any) -> tuple[str, Json]:
    """The type of a push and its data, in whichever dialect it came; "" where it is none."""
    if not isinstance(message, dict):
        return "", {}
    data = message.get("data")
    if message.get("type") == "notification" and isinstance(data, dict):
        payload = data.get("payload")
        return str(data.get("event", "")), payload if isinstance(payload, dict) else {}
    return str(message.get("type", "")), message


def stream_of(message: Any) -> str:
    """The stream of a durable push, in whichever dialect it came; "" where it is none."""
    if not isinstance(message, dict):
        return ""
    data = message.get("data")
    holder = data if message.get("type") == "notification" and isinstance(data, dict) else message
    return str(holder.get("stream") or "")
