"""Api: the one table of routes, as a function from a request to its answer. Every server serves this object: the
reactor natively, the Quart-trio app under an ASGI server, and, with fewer routes, the ports for WebSockets.

Serving a request has two steps, since a body may be large and is read only if somebody wants it:

    call = api.call(head)           # None: no route has this path
    answer = call.answer(body)      # at most call.body_limit bytes; an HttpAnswer, or an awaitable of one

Promises: every answer is JSON but for Prometheus' text and the page's files; a route that isn't open is guarded before
its body is looked at; a bug is counted, told to `on_error`, and answered with 500 and no details.
"""

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from typing import Final

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.counters import Counters
from service.core.hosts import read_authority
from service.core.ports import BODY_SECONDS, HttpAnswer, HttpHead

from .access import Access, CallerRates
from .answers import fault_answer
from .events import Streams
from .request import HttpHandler, HttpRequest, read_query
from .table import Route

OnError = Callable[[Exception], None]
"""Told of every bug that came up while a request was handled."""

AccessLog = Callable[[HttpHead, int, int, int, float], None]
"""(request, status, bytes of its body, bytes of the answer's, seconds): told of every answer. Untrusted text is made
harmless there."""

MAX_WAITING: Final = 5000
"""Requests that may wait for their answers at a time; further ones on routes for back ends get 503."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BAD_HOST: Final = "The Host header is no host name or address."
"""Why a request is refused whose Host is neither."""

_log = logging.getLogger(__name__)


class Api:
    """Routes with their handlers."""

    def __init__(
        self,
        routes: Iterable[Route],
        handlers: Mapping[str, HttpHandler],
        access: Access,
        counters: Counters,
        on_error: OnError | None = None,
        *,
        otherwise: HttpAnswer | None = None,
        rates: CallerRates | None = None,
        access_log: AccessLog | None = None,
        streams: Streams | None = None,
    ) -> None:
        """`handlers` by operation, one for each route. `on_error`: unless given, bugs are logged. `otherwise`: the
        answer to requests without a route; unless given, `call` returns None for unknown paths (another server may have
        them), and 405 answers unknown methods.
        `rates`: how many requests callers may make. `access_log`: told of every answer."""
        self.access = access
        self.counters = counters
        self._on_error = on_error
        self._otherwise = otherwise
        self._rates = rates
        self._access_log = access_log
        self._streams = streams or {}
        self.waiting = 0
        """Requests whose handlers wait now."""
        self._paths: dict[str, dict[str, _Endpoint]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, _Endpoint]]] = []
        by_path: dict[str, dict[str, _Endpoint]] = {}
        for route in routes:
            methods = by_path.setdefault(route.path, {})
            methods[route.method] = endpoint = _Endpoint(route, handlers[route.operation])
            if route.method == "GET":
                methods["HEAD"] = endpoint
        for path, methods in by_path.items():
            if "{" in path:
                self._patterns.append((_pattern(path), methods))
            else:
                self._paths[path] = methods

    def call(self, head: HttpHead) -> "HttpCall | None":
        """What answers this request; None if no route has its path. Never raises."""
        host = head.headers.get("host")
        if host and read_authority(host) is None:
            return self._refusal(head, 400, ErrorCode.BAD_FIELD, BAD_HOST)
        strange = self.access.refuse_host(head)
        if strange is not None:
            return HttpCall(self, head, None, {}, strange)
        methods = self._paths.get(head.path)
        parameters: Mapping[str, str] = {}
        if methods is None:
            for pattern, candidates in self._patterns:
                match = pattern.fullmatch(head.path)
                if match is not None:
                    methods, parameters = candidates, match.groupdict()
                    break
            else:
                return self._other(head)
        endpoint = methods.get(head.method)
        if endpoint is None:
            return self._other_method(head, methods)
        found = None if endpoint.scope is None else self.access.check(head, endpoint.scope)
        if isinstance(found, HttpAnswer):
            return HttpCall(self, head, None, parameters, found)
        call = HttpCall(self, head, endpoint, parameters, caller=None if found is None else found.name)
        if endpoint.stream and head.method == "GET" and call.may_begin:
            return None  # the server asks for it by `stream`, if it can serve one
        return call

    def takes(self, path: str) -> bool:
        """Whether a route has this path."""
        return path in self._paths or any(pattern.fullmatch(path) for pattern, _ in self._patterns)

    def stream(self, head: HttpHead) -> AsyncGenerator[bytes] | None:
        """The parts of a streamed answer, for a request for which `call` gave None; None where its route is no
        stream."""
        endpoint = self._paths.get(head.path, {}).get(head.method)
        if endpoint is None or not endpoint.stream or head.method != "GET":
            return None
        request = HttpRequest(head, {}, read_query(head.query) if head.query else {})
        return self._streams[endpoint.operation](request)

    def still_allows(self, head: HttpHead) -> bool:
        """Whether who has asked for a streamed answer would get it now: keys may have been taken away."""
        endpoint = self._paths.get(head.path, {}).get(head.method)
        scope = None if endpoint is None else endpoint.scope
        return scope is None or not isinstance(self.access.check(head, scope), HttpAnswer)

    def not_found(self, head: HttpHead) -> "HttpCall":
        """What answers a request for which there is no route."""
        return self._refusal(head, 404, ErrorCode.NOT_FOUND, "There is no such route; /openapi.json lists them.")

    def over_rate(self, head: HttpHead, *, counts: bool = True) -> "HttpCall | None":
        """To be asked for every request: what refuses it, if its caller makes too many. Callers with a key may. Where
        another server will ask again, it doesn't count."""
        if self._rates is None or self.access.has_key(head) or self._rates.allow(head.address, int(counts)):
            return None
        self.access.on_over_rate(head)
        sentence = "There were too many requests from this address; wait a second."
        return self._refusal(head, 429, ErrorCode.RATE_LIMITED, sentence, ("retry-after", "1"))

    def refuse(self, head: HttpHead, problem: str) -> "HttpCall":
        """What answers a request whose head can't be accepted. `problem`: why, in a sentence."""
        return self._refusal(head, 400, ErrorCode.BAD_FIELD, problem)

    def observe(self, head: HttpHead, route: str, answer: HttpAnswer, received: int, seconds: float) -> None:
        """Count an answer, and tell the access log."""
        self.observe_streamed(head, route, answer.status, received, len(answer.body), seconds)

    def observe_streamed(
        self, head: HttpHead, route: str, status: int, received: int, sent: int, seconds: float
    ) -> None:
        """The same for an answer that is not held whole, of so many bytes."""
        counters = self.counters
        method = head.method if head.method in _METHODS else "other"
        counters.http_requests[route, method, str(status)] += 1
        counters.http_bytes_in += received
        counters.http_bytes_out += sent
        counters.http_latency.observe(seconds)
        if self._access_log is not None:
            self._access_log(head, status, received, sent, seconds)

    def _other(self, head: HttpHead) -> "HttpCall | None":
        return None if self._otherwise is None else HttpCall(self, head, None, {}, self._otherwise)

    def _other_method(self, head: HttpHead, methods: Mapping[str, object]) -> "HttpCall":
        if head.method == "OPTIONS":
            return HttpCall(self, head, None, {}, self.access.preflight(head, list(methods)), finished=True)
        if self._otherwise is not None:
            return HttpCall(self, head, None, {}, self._otherwise)
        allowed = ", ".join(sorted({*methods, "OPTIONS"}))
        sentence = f"This route does not take this method; it takes {allowed}."
        return self._refusal(head, 405, ErrorCode.NOT_FOUND, sentence, ("allow", allowed))

    def _refusal(
        self, head: HttpHead, status: int, code: ErrorCode, sentence: str, *headers: tuple[str, str]
    ) -> "HttpCall":
        return HttpCall(self, head, None, {}, fault_answer(PeerFault(code, sentence), status, headers), code=code)

    def failed(self, error: Exception) -> HttpAnswer:
        """The answer where a bug came up, which is counted and told."""
        self.counters.internal_errors += 1
        self.counters.faults["http", ErrorCode.INTERNAL.value] += 1
        if self._on_error is not None:
            self._on_error(error)
        else:
            _log.error("a bug came up while handling an HTTP request", exc_info=error)
        return fault_answer(PeerFault(ErrorCode.INTERNAL, "Something went wrong here."))

    def refused(self, fault: PeerFault) -> HttpAnswer:
        """The answer to a request that a handler or the reading of its body refused; counted."""
        self.counters.faults["http", fault.code.value] += 1
        return fault_answer(fault)


class _Endpoint:
    __slots__ = ("body_limit", "handler", "operation", "scope", "stream")

    def __init__(self, route: Route, handler: HttpHandler) -> None:
        self.operation = route.operation
        self.scope = route.scope
        self.stream = route.stream
        self.body_limit = route.body_limit
        self.handler = handler


class HttpCall:
    """One request whose head is read and whose route is known. It may be answered any number of times, as long as it is
    not `outdated`."""

    __slots__ = (
        "_answer",
        "_api",
        "_code",
        "_endpoint",
        "_finished",
        "_request",
        "_version",
        "body_limit",
        "head",
        "route",
    )

    def __init__(
        self,
        api: Api,
        head: HttpHead,
        endpoint: _Endpoint | None,
        parameters: Mapping[str, str],
        answer: HttpAnswer | None = None,
        *,
        code: ErrorCode | None = None,
        finished: bool = False,
        caller: str | None = None,
    ) -> None:
        self._api = api
        self._version = api.access.version
        self.head = head
        self._endpoint = endpoint
        self._answer = answer
        self._code = code
        self._finished = finished
        self._request = HttpRequest(head, parameters, read_query(head.query) if head.query else {}, caller=caller)
        self.route = "none" if endpoint is None else endpoint.operation
        """The operation's name, for metrics; `none` where the request was refused before any was chosen."""
        self.body_limit = 0 if endpoint is None else endpoint.body_limit
        """Bytes that the body may have; nobody looks at one where this is 0."""

    @property
    def outdated(self) -> bool:
        """Whether the API keys have changed since."""
        return self._version != self._api.access.version

    @property
    def may_begin(self) -> bool:
        """Whether the handler of a stream lets it begin; else it answers why not."""
        assert self._endpoint is not None
        try:
            self._endpoint.handler(self._request)
        except Exception:
            return False
        return True

    def answer(self, body: bytes) -> HttpAnswer | Awaitable[HttpAnswer]:
        """The answer, for a body of at most `body_limit` bytes. Never raises; an awaitable may be cancelled, which
        cancels what the handler waits for."""
        if self._code is not None:
            self._api.counters.faults["http", self._code.value] += 1
        if self._answer is not None or self._endpoint is None:
            return self._with_cors(self._answer or self._api.failed(RuntimeError("a call without an answer")))
        if self._api.waiting >= MAX_WAITING and self._endpoint.scope is not None:
            sentence = f"{MAX_WAITING} requests wait for their answers here; try again in a moment."
            return self.refused(PeerFault(ErrorCode.UNAVAILABLE, sentence), ("retry-after", "1"))
        request = self._request
        if body:
            request = HttpRequest(request.head, request.parameters, request.query, body, request.caller)
        try:
            answer = self._endpoint.handler(request)
        except PeerFault as fault:
            answer = self._api.refused(fault)
        except Exception as error:
            answer = self._api.failed(error)
        return self._with_cors(answer) if isinstance(answer, HttpAnswer) else self._awaited(answer)

    def refused(self, fault: PeerFault, *headers: tuple[str, str]) -> HttpAnswer:
        """The answer to what can't be accepted; counted."""
        answer = self._api.refused(fault)
        return self._with_cors(HttpAnswer(answer.status, (*answer.headers, *headers), answer.body))

    def refuse_large(self) -> HttpAnswer:
        """The answer to a body of more than `body_limit` bytes."""
        sentence = f"The body is too large; at most {self.body_limit} bytes are taken here."
        return self.refused(PeerFault(ErrorCode.TOO_LARGE, sentence))

    def refuse_slow(self) -> HttpAnswer:
        """The answer to a body that did not come in time."""
        sentence = f"The body did not arrive within {BODY_SECONDS:.0f} seconds."
        return self.refused(PeerFault(ErrorCode.BAD_JSON, sentence))

    def observe(self, answer: HttpAnswer, received: int, seconds: float) -> None:
        """It was answered, after a body of so many bytes, so long after its head had come."""
        self._api.observe(self.head, self.route, answer, received, seconds)

    async def _awaited(self, waiting: Awaitable[HttpAnswer]) -> HttpAnswer:
        self._api.waiting += 1
        try:
            answer = await waiting
        except PeerFault as fault:
            answer = self._api.refused(fault)
        except Exception as error:
            answer = self._api.failed(error)
        finally:
            self._api.waiting -= 1
        return self._with_cors(answer)

    def _with_cors(self, answer: HttpAnswer) -> HttpAnswer:
        if self._finished:
            return answer
        return HttpAnswer(answer.status, (*answer.headers, *self._api.access.cors(self.head)), answer.body)


def _pattern(path: str) -> re.Pattern[str]:
    """A path of the table as an expression. A client's id may have slashes in it, but not as its first character."""
    parts = re.split(r"\{(\w+)\}", path)
    for at in range(1, len(parts), 2):
        parts[at] = f"(?P<{parts[at]}>{'[^/].*?' if parts[at] == 'client_id' else '[^/]+'})"
    parts[::2] = map(re.escape, parts[::2])
    return re.compile("".join(parts), re.DOTALL)
