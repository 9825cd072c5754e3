"""The mutants: each breaks one rule of the contract, and names the scenario that is there to catch it, and how.

This is how they are made, `mutant_table` which there are. A mutant is a rule of the middle's: for a message that the
gateway sends (`sends`), one that it receives (`takes`), an answer by HTTP (`answers`), a request by HTTP (`asked`), a
handshake (`handshake`) and a Close (`closes`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .middle import Json, Link, Messages, Request, Response, Rule

Change = Callable[[Rule, Link, Json], Any]


@dataclass(frozen=True)
class Mutant:
    """`rule` makes a fresh one; `scenario` is who catches it, with `because` in the reason."""

    name: str
    scenario: str
    because: str
    rule: Callable[[], Rule]


def _object(text: str) -> Json | None:
    try:
        message = json.loads(text)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _listed(instead: Any, text: str) -> Messages:
    if instead is None:
        return [text]
    return instead if isinstance(instead, list) else [instead]


def sends(change: Change, kind: str | None = None) -> Callable[[], Rule]:
    """Messages of a type that the gateway sends: `change` gives what is sent instead; None: as it is."""

    class Sends(Rule):
        async def down(self, link: Link, text: str) -> Messages:
            message = _object(text)
            if message is None or (kind is not None and message.get("type") != kind):
                return [text]
            return _listed(change(self, link, message), text)

    return Sends


def answered(change: Change) -> Callable[[], Rule]:
    """A requester's answers."""
    return sends(lambda rule, link, it: change(rule, link, it) if "processed_by" in it else None)


def takes(change: Change, kind: str | None = None) -> Callable[[], Rule]:
    """Messages of a type that the gateway receives: `change` gives what it receives instead."""

    class Takes(Rule):
        async def up(self, link: Link, text: str) -> Messages:
            message = _object(text)
            if message is None or (kind is not None and message.get("type") != kind):
                return [text]
            return _listed(change(self, link, message), text)

    return Takes


def replies(change: Change, kind: str | None = None) -> Callable[[], Rule]:
    """Messages that the gateway never sees: `change` gives what the client gets for them; None: they go on."""

    class Replies(Rule):
        async def up(self, link: Link, text: str) -> Messages:
            message = _object(text) or {}
            if kind is not None and message.get("type") != kind:
                return [text]
            instead = change(self, link, message)
            if instead is None:
                return [text]
            for one in instead:
                await link.to_client(one)
            return []

    return Replies


def texts(change: Callable[[str], str | None], *, up: bool = False) -> Callable[[], Rule]:
    """Any text, as text: what goes on instead, None for nothing."""

    class Texts(Rule):
        async def down(self, link: Link, text: str) -> Messages:
            instead = text if up else change(text)
            return [] if instead is None else [instead]

        async def up(self, link: Link, text: str) -> Messages:
            instead = change(text) if up else text
            return [] if instead is None else [instead]

    return Texts


def answers(
    route: str, change: Callable[[Any], Any], *, method: str = "", status: int | None = None
) -> Callable[[], Rule]:
    """Answers by HTTP to routes that begin so: `change` is given the JSON, and changes it or gives another."""

    class Answers(Rule):
        def response(self, request: Request, response: Response) -> None:
            if request.path.startswith(route) and method in ("", request.method):
                if status is not None:
                    response.status = status
                if response.body[:1] in (b"{", b"["):
                    said = response.json
                    response.body = json.dumps(change(said) or said).encode()

    return Answers


def upgrades(change: Callable[[Request], None]) -> Callable[[], Rule]:
    """Handshakes on their way to the gateway: `change` changes them."""

    class Upgrades(Rule):
        def request(self, request: Request) -> Response | None:
            if "upgrade" in request.headers:
                change(request)
            return None

    return Upgrades


def asked(route: str, change: Callable[[Any], Any]) -> Callable[[], Rule]:
    """Requests by HTTP: `change` is given the JSON of the body, and changes it."""

    class Asked(Rule):
        def request(self, request: Request) -> Response | None:
            if request.path.startswith(route) and request.body:
                said = request.json
                request.body = json.dumps(change(said) or said).encode()
            return None

    return Asked


def header(route: str, name: str, value: str | None) -> Callable[[], Rule]:
    """A header of an answer by HTTP: another value, or none."""

    class Header(Rule):
        def response(self, request: Request, response: Response) -> None:
            if request.path.startswith(route):
                response.headers.pop(name, None)
                if value is not None:
                    response.headers[name] = value

    return Header


def handshake(change: Callable[[Request, int, dict[str, str]], int]) -> Callable[[], Rule]:
    """The answer to a handshake: `change` gives its status, and may change its headers."""

    class Handshake(Rule):
        def upgrade(self, request: Request, status: int, headers: dict[str, str]) -> int:
            return change(request, status, headers)

    return Handshake


def closes(change: Callable[[int, str], tuple[int, str] | None]) -> Callable[[], Rule]:
    """A Close: another code or reason, or none at all."""

    class Closes(Rule):
        def close(self, link: Link, code: int, reason: str) -> tuple[int, str] | None:
            return change(code, reason)

    return Closes


def code(of: int, instead: int) -> Callable[[], Rule]:
    """One code in another's place."""
    return closes(lambda code, reason: (instead if code == of else code, reason))


def set_to(name: str, value: object) -> Change:
    """A field with another value."""
    return lambda rule, link, it: {**it, name: value}


def without(name: str) -> Change:
    """A field that isn't there."""
    return lambda rule, link, it: {key: value for key, value in it.items() if key != name}


def data(**fields: object) -> Change:
    """Fields of an envelope's data with other values."""
    return lambda rule, link, it: {**it, "data": {**it["data"], **fields}}


def data_without(name: str) -> Change:
    return lambda rule, link, it: {**it, "data": {key: value for key, value in it["data"].items() if key != name}}


def twice(rule: Rule, link: Link, it: Json) -> Messages:
    """Sent two times."""
    return [it, it]


def never(rule: Rule, link: Link, it: Json) -> Messages:
    """Not sent."""
    return []


def every(number: int, then: Change, kind: Callable[[Json], bool]) -> Change:
    """Every so-manieth of a kind."""

    def change(rule: Rule, link: Link, it: Json) -> Any:
        if not kind(it):
            return None
        rule.count += 1
        return then(rule, link, it) if rule.count % number == 0 else None

    return change


def only(kind: Callable[[Json], bool], then: Change) -> Change:
    """Only those that `kind` says."""
    return lambda rule, link, it: then(rule, link, it) if kind(it) else None


def is_push(it: Json) -> bool:
    """One of the suite's own events, markers left out."""
    return "-event" in str(it.get("type")) or "-t" in str(it.get("type"))


def swapped(kind: Callable[[Json], bool]) -> Change:
    """Each second one before the first."""

    def change(rule: Rule, link: Link, it: Json) -> Any:
        if not kind(it):
            return None
        kept = link.facts.pop("kept", None)
        if kept is None:
            link.facts["kept"] = it
            return []
        return [it, kept]

    return change


def put(*path: object, to: object) -> Callable[[Any], None]:
    """One place of a JSON answer with another value."""

    def change(said: Any) -> None:
        for step in path[:-1]:
            said = said[step]
        said[path[-1]] = to

    return change


def cut(size: int) -> Callable[[str], str | None]:
    """Texts cut at so many bytes."""
    return lambda text: text.encode()[:size].decode(errors="ignore")


def gap_in(it: Json) -> Json | None:
    """The gap that a message tells, in whichever dialect; None where it is none."""
    if it.get("type") == "stream_gap":
        return it
    data = it.get("data")
    return data["payload"] if isinstance(data, dict) and data.get("event") == "stream_gap" else None


def of_gap(**fields: object) -> Change:
    """A gap with other fields; a function makes one of what it is."""

    def change(rule: Rule, link: Link, it: Json) -> Any:
        gap = gap_in(it)
        if gap is None:
            return None
        other = {**gap, **{name: value(gap) if callable(value) else value for name, value in fields.items()}}
        return other if it is gap else {**it, "data": {**it["data"], "payload": other}}

    return change


class EchoesFeedback(Rule):
    """A feedback is told to who gave it, too."""

    async def up(self, link: Link, text: str) -> Messages:
        if (_object(text) or {}).get("type") == "session_feedback":
            await link.to_client(text)
        return [text]


class EchoesToOne(Rule):
    """The echo goes to the sender only."""

    async def down(self, link: Link, text: str) -> Messages:
        first = next((other for other in self.links if other.path == link.path), link)
        return [text] if first is link or not text.startswith("Echo") else []


class Greets(Rule):
    """A requester is greeted."""

    async def opened(self, link: Link) -> None:
        if link.path.startswith("/requester"):
            await link.to_client({"type": "connect", "data": {"client_id": "you"}})


class NoGreeting(Rule):
    """A worker isn't."""

    async def down(self, link: Link, text: str) -> Messages:
        return [] if (_object(text) or {}).get("type") == "connect" else [text]


class LateAnswers(Rule):
    """A worker's answer that came too late is passed on."""

    async def up(self, link: Link, text: str) -> Messages:
        if '"late"' in text:
            for other in self.links:
                if other.path.startswith("/requester"):
                    await other.to_client(
                        {"request_id": 1, "success": True, "data": "late", "error": None, "processed_by": "w"}
                    )
        return [text]


class NoBinary(Rule):
    """Binary messages are refused."""

    async def up_binary(self, link: Link, data: bytes) -> Messages:
        await link.to_client({"type": "error", "code": "binary_not_supported", "message": "Text, please."})
        return []


class ClosesOnBadJson(Rule):
    """What is no JSON ends the connection."""

    async def up(self, link: Link, text: str) -> Messages:
        if _object(text) is None:
            await link.close(1003, "What?")
            return []
        return [text]


class Unpinged(Rule):
    """Nobody is pinged."""

    def pinged(self, link: Link) -> bool:
        return False


class StaleEpoch(Rule):
    """A gap is told with the epoch that is over."""

    async def down(self, link: Link, text: str) -> Messages:
        message = _object(text) or {}
        data = message.get("data") or message
        link.facts.setdefault("epoch", (data.get("resume") or {}).get("epoch"))
        if gap_in(message) is None:
            return [text]
        return [of_gap(epoch=link.facts["epoch"])(self, link, message)]


class Crossed(Rule):
    """What a worker answers goes to the requester that came before, where there is one."""

    async def down(self, link: Link, text: str) -> Messages:
        requesters = [other for other in self.links if other.path.startswith("/requester")]
        if link not in requesters or len(requesters) < 2:
            return [text]
        await requesters[requesters.index(link) - 1].to_client(text)
        return []


class TooMuch(Rule):
    """A worker's answer of more than 4 MB is closed with 1009."""

    async def up(self, link: Link, text: str) -> Messages:
        if len(text) <= 4_000_000:
            return [text]
        await link.close(1009)
        return []


class AnyPath(Rule):
    """Unknown paths are let in."""

    def request(self, request: Request) -> Response | None:
        if request.path.startswith("/no-such"):
            request.path = "/ws"
        return None


class NotDeduplicated(Rule):
    """The `id` of a push is not looked at."""

    def request(self, request: Request) -> Response | None:
        if request.path == "/api/notifications" and isinstance(request.json, dict) and "id" in request.json:
            said = request.json
            self.given = said.pop("id")
            request.body = json.dumps(said).encode()
        return None

    def response(self, request: Request, response: Response) -> None:
        if request.path == "/api/notifications" and hasattr(self, "given"):
            response.body = json.dumps({**response.json, "id": self.given}).encode()


class FirstWorkerOnly(Rule):
    """Whatever the strategy says, the worker that came first gets everything."""

    async def down(self, link: Link, text: str) -> Messages:
        message = _object(text) or {}
        workers = [other for other in self.links if other.facts.get("worker")]
        if message.get("type") == "request" and workers and link is not workers[0]:
            workers[0].facts.setdefault("others", {})[message["msg_id"]] = link
            await workers[0].to_client(text)
            return []
        return [text]

    async def up(self, link: Link, text: str) -> Messages:
        message = _object(text) or {}
        if message.get("type") == "connect" and message.get("data", {}).get("role") == "worker":
            link.facts["worker"] = True
        return [text]


class InTurn(Rule):
    """Whatever the strategy says, of requests that are numbered the workers get each second one."""

    async def up(self, link: Link, text: str) -> Messages:
        message = _object(text) or {}
        if message.get("type") == "connect" and message.get("data", {}).get("role") == "worker":
            link.facts["given"] = {}
        if message.get("type") == "response":
            await link.facts["given"][message["data"]["request_id"]].to_gateway(text)
            return []
        return [text]

    async def down(self, link: Link, text: str) -> Messages:
        message = _object(text) or {}
        if message.get("type") != "request":
            return [text]
        workers = [other for other in self.links if "given" in other.facts]
        taker = workers[message["data"]["params"] % len(workers)]
        taker.facts["given"][message["msg_id"]] = link
        await taker.to_client(text)
        return []


class Drains(Rule):
    """A drain in the gateway's place, right unless told otherwise: the gateway itself serves the others meanwhile."""

    def __init__(self, *, notice: bool = True, code: int = 1012, reason: str = "retry_within_ms=300") -> None:
        super().__init__()
        self._notice, self._code, self._reason = notice, code, reason

    async def up(self, link: Link, text: str) -> Messages:
        link.facts.setdefault("first", (_object(text) or {}).get("type"))
        return [text]

    async def intercept(self, request: Request) -> Response | None:
        if request.path != "/api/drain":
            return None
        for link in list(self.links):
            within = {"retry_within_ms": 300}
            notice: Json = {"type": "server_draining", **within}
            if link.facts["first"] == "connect":
                notice = {"type": "notification", "data": {"event": "server_draining", "payload": within}}
            if self._notice:
                await link.to_client(notice)
            await link.close(self._code, self._reason)
        return Response(202, {}, b'{"node": "n", "connections": 2, "seconds": 0.3}')
