"""The table of routes as a function: which route a request is for, who may use it, and what is counted."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.ports import HttpAnswer
from service.http import api as module
from service.http.api import Api, HttpCall
from service.http.app import AsgiHead
from service.http.request import HttpRequest
from service.http.table import ROUTES, Route

from .stage import BEARER, KEY, house

OPEN = {"operation": "read", "method": "GET", "path": "/read"}
GUARDED = {"operation": "write", "method": "POST", "path": "/things/{client_id}/parts", "scope": "publish"}


def head(method: str, path: str, query: str = "", **headers: str) -> AsgiHead:
    host = headers.setdefault("host", "127.0.0.1:8000")
    return AsgiHead(method, path, query, headers, "127.0.0.1", "127.0.0.1", "http", host)


class Scene:
    """An Api of two routes: `/read`, open, and one for back ends. `handle` is what both do; `broken` the bugs told."""

    def __init__(self, handle: Callable[[HttpRequest], Any] | None = None, **options: Any) -> None:
        at = house(api_keys=(KEY,))
        self.counters = at.parts.counters
        self.broken: list[Exception] = []
        self.seen: list[HttpRequest] = []
        routes = [made_route(**OPEN), made_route(**GUARDED, body_limit=10)]
        self._handle = handle or (lambda _: HttpAnswer(200, (), b"{}"))
        handlers = dict.fromkeys(("read", "write"), self.handle)
        self.api = Api(routes, handlers, at.parts.access, self.counters, self.broken.append, **options)

    def handle(self, request: HttpRequest) -> Any:
        self.seen.append(request)
        return self._handle(request)

    def call(self, *words: str, **headers: str) -> HttpCall:
        found = self.api.call(head(*words, **headers))
        assert found is not None
        return found

    def ask(self, *words: str, body: bytes = b"", **headers: str) -> HttpAnswer:
        answer = self.call(*words, **headers).answer(body)
        assert isinstance(answer, HttpAnswer)
        return answer


def made_route(**fields: Any) -> Route:
    """A route of the table, with these fields in place of its own."""
    return replace(ROUTES[0], **{"scope": None, "body_limit": 0, "stream": False, **fields})


def test_a_path_and_a_method_choose_the_route() -> None:
    at = Scene()
    assert at.ask("GET", "/read", "a=1&a=2&b=%20").status == 200
    assert at.ask("HEAD", "/read").status == 200
    assert at.seen[0].query == {"a": "1", "b": " "}
    assert at.api.call(head("GET", "/nosuch")) is None, "maybe another server's"
    assert at.api.not_found(head("GET", "/nosuch")).route == "none"
    wrong = at.ask("DELETE", "/read")
    assert (wrong.status, dict(wrong.headers)["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert at.ask("OPTIONS", "/read").status == 204
    assert at.ask("GET", "/read", host="a b").status == 400
    elsewhere = Scene(otherwise=HttpAnswer(426, (), b""))
    assert elsewhere.ask("GET", "/nosuch").status == elsewhere.ask("DELETE", "/read").status == 426


def test_a_route_for_back_ends_is_guarded_before_its_body_is_looked_at() -> None:
    at = Scene()
    refused = at.call("POST", "/things/c1/parts")
    assert (refused.body_limit, refused.route) == (0, "none")
    answer = refused.answer(b"x" * 100)
    assert isinstance(answer, HttpAnswer)
    assert (answer.status, at.seen) == (401, [])
    call = at.call("POST", "/things/c/1\n/parts", **BEARER)
    assert (call.body_limit, call.route) == (10, "write")
    call.answer(b"body")
    (seen,) = at.seen
    assert (seen.parameters, seen.body, seen.caller is not None) == ({"client_id": "c/1\n"}, b"body", True)


def test_bugs_are_told_and_faults_counted() -> None:
    def handle(request: HttpRequest) -> HttpAnswer:
        raise RuntimeError("secret") if request.query else PeerFault(ErrorCode.BAD_FIELD, "Not so.")

    at = Scene(handle)
    assert at.ask("GET", "/read").status == 400
    assert at.broken == []
    bug = at.ask("GET", "/read", "bug=1")
    assert (bug.status, b"secret" in bug.body, [str(one) for one in at.broken]) == (500, False, ["secret"])
    assert at.counters.internal_errors == 1
    assert at.counters.faults["http", "bad_field"] == at.counters.faults["http", "internal"] == 1
    call = at.call("POST", "/things/c1/parts", **BEARER)
    assert (call.refuse_large().status, call.refuse_slow().status) == (413, 400)


async def test_what_waits_is_counted_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 1)

    async def later() -> HttpAnswer:
        await trio.lowlevel.checkpoint()
        assert at.api.waiting == 1
        full = at.ask("POST", "/things/c1/parts", authorization=BEARER["authorization"])
        assert (full.status, dict(full.headers)["retry-after"]) == (503, "1")
        raise PeerFault(ErrorCode.NOT_FOUND, "Nobody.")

    at = Scene(lambda _: later())
    waiting = at.call("POST", "/things/c1/parts", **BEARER).answer(b"")
    assert not isinstance(waiting, HttpAnswer)
    assert (await waiting).status == 404
    assert at.api.waiting == 0


def test_a_stream_begins_where_its_handler_lets_it() -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        yield b"piece"

    may = [False]

    def handle(request: HttpRequest) -> HttpAnswer:
        if not may[0]:
            raise PeerFault(ErrorCode.UNAVAILABLE, "Too many.")
        return HttpAnswer(200, (), b"")

    at = Scene(handle)
    streams = {"read": lambda _: pieces()}
    at.api = Api([made_route(**OPEN, stream=True)], {"read": at.handle}, at.api.access, at.counters, streams=streams)
    assert at.ask("GET", "/read").status == 503
    may[0] = True
    assert at.api.call(head("GET", "/read")) is None
    assert at.api.stream(head("GET", "/read")) is not None
    assert at.api.stream(head("GET", "/nosuch")) is None
    assert at.api.stream(head("POST", "/read")) is None


def test_every_answer_is_counted_under_its_route() -> None:
    logged: list[tuple[int, int, int, float]] = []
    at = Scene(access_log=lambda head, *answered: logged.append(answered))
    call = at.call("GET", "/read")
    answer = call.answer(b"")
    assert isinstance(answer, HttpAnswer)
    call.observe(answer, 7, 0.5)
    at.api.observe(head("BREW", "/read"), "none", answer, 1, 0.0)
    assert at.counters.http_requests["read", "GET", "200"] == at.counters.http_requests["none", "other", "200"] == 1
    assert (at.counters.http_bytes_in, logged) == (8, [(200, 7, 2, 0.5), (200, 1, 2, 0.0)])


def test_a_call_is_outdated_once_the_keys_have_changed() -> None:
    at = Scene()
    call = at.call("GET", "/read")
    assert not call.outdated
    at.api.access._api_keys.version += 1  # as a file that was read again does
    assert call.outdated
