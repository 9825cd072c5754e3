"""The HTTP API under an ASGI server: a Quart-trio app that serves an Api's routes, and leaves every other path to
routes that were added to the app itself.

The routes of the Api are answered straight from the ASGI scope: Quart's own request and response would cost several
times what the answer does, and differ from the reactor's (a `Host` that is no name is a 500 there). Bodies are bounded
in bytes and in time. What exceeds the bound is read and thrown away for a while before it is refused: a server that
answers and closes while the client still sends makes the client see a reset instead of the answer.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import quart
import trio
from quart import Response
from quart.globals import request_ctx
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.exceptions import HTTPException

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.asgi_types import Receive, Scope, Send
from service.core.header_fields import fields_of, malformed, names_another, path_of, twice
from service.core.ports import BODY_DISCARDED, BODY_SECONDS, NOSNIFF, HttpAnswer, Resolver
from service.core.proof import Proof

from .answers import fault_answer
from .api import Api, HttpCall
from .events import HEADERS as STREAM_HEADERS
from .unread import Unread, has_body

_KEY_SECONDS: Final = 0.5  # between two looks at whether keys have changed, while an answer is streamed
_SEND_SECONDS: Final = 30.0  # that a client has for taking an answer


OwnApp = Callable[["AsgiHead", Scope, Receive, Send], Awaitable[tuple[int, int, int]]]
"""(request, its scope, receive, send): answers a request that no route is for. The status, and the bytes of the body
that came and that were sent."""


def create_http(api: Api, *, resolver: Resolver, own_app: OwnApp | None = None) -> QuartTrio:
    """The app. `resolver` sees through trusted proxies. `own_app` answers what the Api has no route for; without one
    Quart does."""
    app = _App(__name__, static_folder=None)
    app.api, app.resolver, app.own_app = api, resolver, own_app
    app.config.update(PROPAGATE_EXCEPTIONS=False)
    app.url_map.merge_slashes = False
    app.register_error_handler(HTTPException, app.refuse)
    return app


@dataclass(frozen=True, slots=True)
class AsgiHead:
    """A request's head (core's HttpHead) out of an ASGI scope."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    peer: str
    address: str
    scheme: str
    host: str
    kind: str = "websocket"
    prefix: str = ""
    certificate: Proof | None = None
    http_1_1: bool = True
    problem: str | None = None
    """What is wrong with it, in a sentence."""


def head_of(scope: Mapping[str, Any], resolver: Resolver) -> AsgiHead:
    """The peer is the socket's own: a header that is called Remote-Addr is the caller's invention."""
    headers, doubled = fields_of(scope["headers"])
    client = scope.get("client")
    peer = client[0] if client else ""
    source = resolver(peer, headers, "https" if scope.get("scheme") == "https" else "http")
    query = scope["query_string"].decode("latin1")
    path = path_of(scope["path"])
    if path is not scope["path"] and names_another(scope["path"], headers.get("host")):
        doubled = "host"
    problem = twice(doubled) if doubled is not None else malformed(scope)
    asked = (source.address, source.scheme, source.host)
    http_1_1 = scope.get("http_version", "1.1") >= "1.1"
    return AsgiHead(
        scope["method"],
        path,
        query,
        headers,
        peer,
        *asked,
        prefix=source.prefix,
        http_1_1=http_1_1,
        problem=problem,
    )


class _Connection(TrioASGIHTTPConnection):
    """One request. The Api's are answered here, all others by Quart."""

    app: "_App"

    async def __call__(self, receive: Any, send: Any) -> None:
        api = self.app.api
        if has_body(self.scope):
            unread = Unread(receive, send)
            receive, send = unread.receive, unread.send
        head = head_of(self.scope, self.app.resolver)
        started = time.perf_counter()
        call = api.over_rate(head)
        if call is None:
            call = api.call(head) if head.problem is None else api.refuse(head, head.problem)
        if call is None:
            pieces = api.stream(head)
            if pieces is not None:
                await self._stream(head, pieces, receive, send)
            elif self.app.own_app is not None:
                status, received, sent = await self.app.own_app(head, {**self.scope}, receive, send)
                api.observe_streamed(head, "app", status, received, sent, time.perf_counter() - started)
            else:
                await super().__call__(receive, send)
            return
        body = await _read_body(head, call, receive)
        answer = await _answer(call, body, receive) if isinstance(body, bytes) else body
        if answer is not None:
            size = len(body) if isinstance(body, bytes) else 0
            call.observe(answer, size, time.perf_counter() - started)
            # Over HTTP/2 a client that opens no window for it would keep the connection for ever.
            with trio.move_on_after(_SEND_SECONDS):
                await _send(send, head.method, answer)

    async def _stream(self, head: AsgiHead, pieces: AsyncGenerator[bytes], receive: Receive, send: Send) -> None:
        """An answer that ends when the caller hangs up, takes nothing for _SEND_SECONDS, or has lost its key."""
        all_headers = (NOSNIFF, *STREAM_HEADERS, *self.app.api.access.cors(head))
        headers = [(name.encode("latin1"), value.encode("latin1")) for name, value in all_headers]
        async with aclosing(pieces), trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at_hang_up, receive, nursery.cancel_scope)
            nursery.start_soon(_cancel_without_key, self.app.api, head, nursery.cancel_scope)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for piece in pieces:
                with trio.move_on_after(_SEND_SECONDS) as patience:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                if patience.cancelled_caught:
                    break
            nursery.cancel_scope.cancel()


class _App(QuartTrio):
    """Quart, except that the Api comes first, and that what is logged of a bug has nothing in it that a stranger
    wrote."""

    asgi_http_class = _Connection
    api: Api
    resolver: Resolver
    own_app: OwnApp | None

    def log_exception(
        self,
        exception_info: tuple[type, BaseException, TracebackType] | tuple[None, None, None],
    ) -> None:
        error = exception_info[1]
        if isinstance(error, Exception):
            self.api.failed(error)

    async def refuse(self, error: HTTPException) -> Response:
        """Whatever Quart itself refuses, and 500 for what broke; `log_exception` has counted that."""
        head = head_of(request_ctx.request.scope, self.resolver)
        status = error.code or 500
        if status == 404:
            found = self.api.not_found(head).answer(b"")
            answer = found if isinstance(found, HttpAnswer) else fault_answer(_BROKEN)
        elif status < 500:
            fault = PeerFault(ErrorCode.BAD_FIELD, "The request cannot be understood.")
            extra = [(name.lower(), value) for name, value in error.get_headers() if name.lower() == "allow"]
            answer = fault_answer(fault, status, [*extra, *self.api.access.cors(head)])
        else:
            answer = fault_answer(_BROKEN, status, self.api.access.cors(head))
        self.api.observe(head, "none", answer, 0, 0.0)
        return quart.current_app.response_class(answer.body, answer.status, dict((NOSNIFF, *answer.headers)))


_BROKEN: Final = PeerFault(ErrorCode.INTERNAL, "Something went wrong here.")


async def _read_body(head: AsgiHead, call: HttpCall, receive: Receive) -> bytes | HttpAnswer | None:
    """The whole body, empty where the route has none; the answer where it can't be had; None where the caller hung up.

    Cancelling is safe.
    """
    limit = call.body_limit
    declared = head.headers.get("content-length", "")
    if limit and declared.isdigit() and int(declared[:20]) > limit + BODY_DISCARDED:
        return call.refuse_large()
    size = 0
    parts: list[bytes] = []
    with trio.move_on_after(BODY_SECONDS) as scope:
        while size <= limit + BODY_DISCARDED:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size += len(part)
            if size <= limit:
                parts.append(part)
            else:
                parts.clear()
            if not message.get("more_body", False):
                break
    if not limit:
        # It is read all the same: Hypercorn breaks off a connection of HTTP/2 where a body comes after the answer.
        return b""
    if size > limit:
        return call.refuse_large()
    return call.refuse_slow() if scope.cancelled_caught else b"".join(parts)


async def _answer(call: HttpCall, body: bytes, receive: Receive) -> HttpAnswer | None:
    """The answer; None where the caller hung up, which cancels a handler that waits."""
    answer = call.answer(body)
    if isinstance(answer, HttpAnswer):
        return answer
    found: list[HttpAnswer] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_at_hang_up, receive, nursery.cancel_scope)
        found.append(await answer)
        nursery.cancel_scope.cancel()
    return found[0] if found else None


async def _cancel_at_hang_up(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _cancel_without_key(api: Api, head: AsgiHead, scope: trio.CancelScope) -> None:
    version = api.access.version
    while True:
        await trio.sleep(_KEY_SECONDS)
        if version != api.access.version:
            version = api.access.version
            if not api.still_allows(head):
                scope.cancel()


async def _send(send: Send, method: str, answer: HttpAnswer) -> None:
    headers = [(name.encode("latin1"), value.encode("latin1", "replace")) for name, value in (NOSNIFF, *answer.headers)]
    if answer.status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body, "more_body": False})
