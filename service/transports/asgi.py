"""The ASGI transport: WebSockets that reach the app through an ASGI server, served to the core's Gate.

It takes the raw ASGI scope, in front of Quart: Quart-trio cancels a WebSocket's handler at its disconnect, so
that messages which came just before a Close are lost, and with more than 10 unread ones never sees the
disconnect. HTTP and lifespan go on to Quart as they are.

Each connection has two tasks: the server's own, which always reads, and a writer; both end with it. Knows ASGI only.
It keeps the promises of a Peer and a Receiver (`service.core.ports`) as far as the server below lets it: Hypercorn with
the front door does; without the door, close codes and limits are as exact as the server makes them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import trio
from quart_trio import QuartTrio

from portico.wire.codes import ABNORMAL, CloseCode
from service.asgi_types import AsgiApp, Message, Receive, Scope, Send
from service.core.header_fields import fields_of, malformed, twice
from service.core.ports import (
    NOSNIFF,
    OVERSIZED_HEAD,
    Admission,
    Gate,
    Handshake,
    HttpAnswer,
    Receiver,
    TransportCounts,
)
from service.core.proof import Proof

from .allowance import Allowance
from .asgi_connection import CLOSING_TIME, AsgiConnection
from .connection_rules import ConnectionRules
from .door import EXTENSION, Log, describe
from .handshake import head_refusal
from .head import ResolveSource
from .pressure import Pressure
from .proxies import RequestSource, peer_port


@dataclass(frozen=True, slots=True)
class AsgiHandshake:
    """A Handshake made from an ASGI scope."""

    path: str
    query: str
    headers: Mapping[str, str]
    address: str
    scheme: str
    host: str
    kind: str = "websocket"
    certificate: Proof | None = None
    peer: str = ""
    prefix: str = ""


class OtherSockets(Protocol):
    """The WebSockets that are not the gateway's."""

    def takes(self, path: str) -> bool:
        """Whether those at this path are."""

    def admit(self, handshake: Handshake) -> HttpAnswer | None:
        """The answer that refuses one, or None."""

    async def serve(self, handshake: AsgiHandshake, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one, from its first message on."""


def register(
    app: QuartTrio,
    gate: Gate,
    counts: TransportCounts,
    *,
    pressure: Pressure,
    resolve: ResolveSource,
    log: Log,
    rules: ConnectionRules,
    others: OtherSockets | None = None,
) -> None:
    """Serve the app's WebSockets, on every path, to `gate`; call once, before serving.

    `pressure` says how much may wait for a client, and is run by whoever made it. `resolve` is usually
    `ProxyRules.resolve`. Of `rules` the server itself keeps the times; here are the rates, HTTP/2 in cleartext, and
    the headers of refusals that nobody else gives. `others`: serves those that are not for `gate`.
    """
    transport = AsgiTransport(
        app.asgi_app,
        gate,
        counts,
        pressure=pressure,
        resolve=resolve,
        log=log,
        rules=rules,
        others=others,
    )
    # Replacing the bound method is how Quart's documentation says to add a middleware.
    app.asgi_app = transport  # type: ignore[assignment, method-assign]


class AsgiTransport:
    """An ASGI app: WebSockets are served here, everything else by `inner`, its scope as it is."""

    def __init__(
        self,
        inner: Any,
        gate: Gate,
        counts: TransportCounts,
        *,
        pressure: Pressure,
        resolve: ResolveSource,
        log: Log,
        rules: ConnectionRules,
        others: OtherSockets | None = None,
    ) -> None:
        self._others = others
        self._inner: AsgiApp = inner
        self._gate = gate
        self._counts = counts
        self._pressure = pressure
        self._resolve = resolve
        self._log = log
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope. Cancelling it ends the connection, and its receiver is told."""
        if not self._rules.h2c and _is_h2c(scope):
            # The front door lets none of it come; this is for servers that it couldn't be put into.
            self._counts.handshakes_refused += 1
            await _refuse(scope, send, _NO_H2C)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._inner(scope, receive, send)

    def _source(self, scope: Scope, headers: Mapping[str, str]) -> tuple[RequestSource, int]:
        address, port = scope.get("client") or ("", 0)
        scheme = "https" if scope.get("scheme") in ("https", "wss") else "http"
        return self._resolve(address, headers, scheme), port

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, doubled = fields_of(scope["headers"])
        source, _ = self._source(scope, headers)
        problem = twice(doubled) if doubled is not None else malformed(scope)
        if problem is not None:
            self._counts.handshakes_refused += 1
            told = self._rules.https_headers if source.scheme == "https" else ()
            await _refuse(scope, send, head_refusal(400, problem, *told))
            return
        handshake = AsgiHandshake(
            scope["path"],
            scope.get("query_string", b"").decode("latin-1"),
            headers,
            source.address,
            source.scheme,
            source.host,
            peer=(scope.get("client") or ("",))[0],
            prefix=source.prefix,
        )
        others = self._others
        if others is not None and others.takes(handshake.path):
            refusal = others.admit(handshake)
            if refusal is None:
                await others.serve(handshake, scope, receive, send)
            else:
                self._counts.handshakes_refused += 1
                await _refuse(scope, send, refusal)
            return
        decision = self._gate.admit(handshake)
        if isinstance(decision, HttpAnswer):
            self._counts.handshakes_refused += 1
            await _refuse(scope, send, decision)
            return
        if (await receive())["type"] != "websocket.connect":
            return
        allowance = Allowance(
            self._rules.max_messages_per_second, self._rules.max_bytes_per_second, trio.current_time()
        )
        extension = (scope.get("extensions") or {}).get(EXTENSION, {})
        connection = AsgiConnection(send, extension, source.address, self._pressure, allowance, self._counts, self._log)
        connection.port = peer_port(scope.get("client"), source.address)
        connection.allow_message_size(decision.max_message_size)
        if "count" in extension:
            extension["count"](connection.count)
        if "keeps" in extension:
            extension["keeps"](connection.keeps)
        await send({"type": "websocket.accept", "subprotocol": decision.subprotocol})
        await self._serve(connection, decision, receive)

    async def _serve(self, connection: AsgiConnection, admission: Admission, receive: Receive) -> None:
        receiver: Receiver = self._gate.opened(connection, admission)
        ending = (ABNORMAL, "")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.write)
            try:
                ending = await self._read(connection, receiver, receive)
            finally:
                # Not after the writer has ended: it may be stuck with a client that doesn't read.
                connection.end()
                self._contained(connection, receiver.closed, *ending)
                if ending[0] == ABNORMAL:
                    nursery.cancel_scope.cancel()
                else:
                    nursery.cancel_scope.deadline = trio.current_time() + CLOSING_TIME

    async def _read(self, connection: AsgiConnection, receiver: Receiver, receive: Receive) -> tuple[int, str]:
        """Read to the end, which comes within the closing time once our Close is due; the code and reason."""
        with connection.patience:
            while True:
                message = await receive()
                if message["type"] == "websocket.disconnect":
                    head = connection.oversized_head()
                    if head is not None and connection.closing is None:
                        self._contained(connection, receiver.oversized, head)
                    return connection.ending(message.get("code", ABNORMAL), message.get("reason") or "")
                if connection.closing is None:
                    self._take(connection, receiver, message)
        return connection.ending(ABNORMAL, "")

    def _take(self, connection: AsgiConnection, receiver: Receiver, message: Message) -> None:
        text = message.get("text")
        payload = text.encode() if text is not None else bytes(message.get("bytes") or b"")
        self._counts.messages_in += 1
        self._counts.bytes_in += len(payload)
        if connection.limit and len(payload) > connection.limit:
            self._contained(connection, receiver.oversized, payload[:OVERSIZED_HEAD])
            connection.close(CloseCode.TOO_LARGE, CloseCode.TOO_LARGE.meaning)
        elif connection.allowance is not None and not connection.allowance.take(len(payload), trio.current_time()):
            connection.close(CloseCode.RATE_LIMITED, CloseCode.RATE_LIMITED.meaning)
        elif not self._contained(connection, receiver.receive, payload, text is not None):
            connection.close(CloseCode.INTERNAL, CloseCode.INTERNAL.meaning)

    def _contained(self, connection: AsgiConnection, call: Callable[..., None], *args: object) -> bool:
        try:
            call(*args)
        except Exception as error:
            self._counts.contained_errors += 1
            self._log("contained_error", where="asgi receiver", error=describe(error))
            return False
        return True


_NO_H2C = head_refusal(505, "HTTP/2 is not spoken here without TLS (PORTICO_H2C).")


def _is_h2c(scope: Scope) -> bool:
    return scope["type"] in ("http", "websocket") and (
        scope.get("http_version", "1.1") >= "2" and scope.get("scheme") in ("http", "ws")
    )


async def _refuse(scope: Scope, send: Send, answer: HttpAnswer) -> None:
    kind = "websocket.http" if scope["type"] == "websocket" else "http"
    if kind == "websocket.http" and "websocket.http.response" not in (scope.get("extensions") or {}):
        # All that ASGI itself offers; it becomes a 403.
        await send({"type": "websocket.close", "code": int(CloseCode.POLICY)})
        return
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (NOSNIFF, *answer.headers)]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    # HTTP/2 has no such header (RFC 9113 section 8.2.2).
    if scope.get("http_version", "1.1") < "2":
        headers.append((b"connection", b"close"))
    await send({"type": f"{kind}.response.start", "status": answer.status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": answer.body, "more_body": False})
