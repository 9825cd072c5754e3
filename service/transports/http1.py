"""HTTP/1.1 on one native connection, from its first byte to an upgrade, a hand-over, or its end.

Requests are answered in the order in which they come, by the Api of their port; what is pipelined behind a request that
waits for its answer waits too. Its phases, and what each is bounded by:

    HEADS      reading a head: 8 KiB; the first within the handshake's time, later ones KEEP_ALIVE after the last answer
    BODY       reading a body: the route's limit, BODY_SECONDS
    WAITING    a handler waits, as a task that is cancelled when the connection goes; what comes meanwhile: UNREAD
    WRITING    more than the outbound limit waits to be taken by the client: SEND_SECONDS for each bit of progress
    LEAVING    nothing more is read; when all is written the connection is closed, or another server's

Knows the connection as a Link, and no socket. Never raises for what a client sends: BadHead becomes the last answer.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

from service.core.ports import (
    BODY_DISCARDED,
    BODY_SECONDS,
    AcceptedConnections,
    Headers,
    HttpAnswer,
    HttpApi,
    HttpCall,
    TransportCounts,
)
from service.core.proof import Proof

from .handshake import BadHead, accept_key, check_handshake, head_refusal
from .head import Head, ResolveSource, Upgrade, parse_head
from .http_framing import PREFACE, Chunks, body_length, end_of_head, no_http_2
from .http_response import render
from .inbound import BIG_READ_SIZE, READ_SIZE

HEADS: Final = 0
BODY: Final = 1
WAITING: Final = 2
WRITING: Final = 3
LEAVING: Final = 4

KEEP_ALIVE: Final = 5.0
"""Seconds that a connection may be idle after an answer."""
SEND_SECONDS: Final = 5.0
"""Seconds within which a client must take some of what it is sent."""
UNREAD: Final = 64 * 1024
"""Bytes that are read ahead while a request waits."""
TURN: Final = 16
"""Requests that one connection gets answered before others have their turn."""
TURN_SECONDS: Final = 0.002
"""And for how long, since some cost much more than others; a single one is not cut short."""
PROBES: Final = frozenset({"/livez", "/readyz", "/metrics", "/api/health"})
"""What is answered also where there are too many connections."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Link(Protocol):
    """What the HTTP side asks of its connection."""

    address: str
    kind: str
    scheme: str
    certificate: Proof | None

    @property
    def unsent(self) -> int:
        """Bytes that wait to be taken by the client."""

    def put(self, data: bytes) -> None:
        """Queue bytes."""

    def finish(self) -> None:
        """Half-close after what is queued, and read on to the end."""

    def gone(self) -> None:
        """Close, now."""

    def on_error(self, error: Exception) -> None:
        """A bug came up: it ends this connection and no other."""

    def upgrade(self, request: Upgrade, rest: bytes) -> None:
        """The client asks for a WebSocket, by the rules; what it sent behind the handshake."""

    def give_away(self, received: bytes) -> bool:
        """Have another server take the connection, with what was read and not answered. False if there is none."""

    def pause_reading(self, paused: bool) -> None:
        """Watch for more to read, or not."""

    def let_others(self) -> None:
        """Go on in the next pass."""

    def set_deadline(self, deadline: float) -> None:
        """Be told `due` at that moment; the one that was set before is void."""


class HttpHost(Protocol):
    """What the HTTP sides of all connections share: the reactor."""

    counts: TransportCounts
    resolve_source: ResolveSource
    handshake_timeout: float
    outbound_limit: int
    h2c: bool
    http_api: HttpApi | None
    https_headers: Headers
    others_websocket: Callable[[str], bool] | None
    accepted_connections: AcceptedConnections
    draining: bool
    nursery: trio.Nursery
    now: float

    def address_of(self, peer: str) -> str | None:
        """Who a connection from there counts for; None where that is a proxy, and not known yet."""


class Http1:
    """The HTTP side of one connection."""

    __slots__ = (
        "_admitted",
        "_agreed",
        "_api",
        "_blank",
        "_call",
        "_chunks",
        "_close",
        "_continued",
        "_counted_for",
        "_counts",
        "_first",
        "_host",
        "_known",
        "_left",
        "_link",
        "_parts",
        "_phase",
        "_received",
        "_scheme",
        "_scope",
        "_since",
        "_size",
        "_started",
        "_surplus",
        "_unsent",
        "_without_body",
    )

    def __init__(self, link: Link, host: HttpHost, api: HttpApi, now: float) -> None:
        self._link = link
        self._host = host
        self._api = api
        self._phase = HEADS
        self._received = b""  # and not looked at yet
        self._blank = False  # an empty line was passed over before this request
        self._continued = False  # what is looked at begins with what came before
        self._first = True  # no head has come yet
        self._since = now  # when what is waited for now began
        self._unsent = 0  # how much was unsent when it was looked at last
        # A client that keeps its connection sends the same head again and again.
        self._known: tuple[bytes, Head, HttpCall, int | None] | None = None
        self._call: HttpCall | None = None
        self._close = False
        self._agreed = False  # the client wanted the connection closed, and so sends nothing more
        self._without_body = False
        self._scheme = link.scheme  # by which the last head came, proxies taken into account
        self._chunks: Chunks | None = None
        self._left = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._started = 0.0
        self._scope: trio.CancelScope | None = None
        self._counts = True  # among the connections that were accepted
        self._counted_for = host.address_of(link.address)
        self._admitted = False
        self._surplus = False  # one too many, which is answered for what it asks
        host.accepted_connections.accepted(self._counted_for)

    # What the connection tells it.

    @property
    def read_size(self) -> int:
        """How much to read at a time."""
        return BIG_READ_SIZE if self._phase == BODY else READ_SIZE

    @property
    def untouched(self) -> bool:
        """Whether nothing has come yet, or only the beginning of a first head."""
        return self._first

    @property
    def idle(self) -> bool:
        """Whether a request is waited for, and nothing of it has come."""
        return self._phase == HEADS and not self._received

    @property
    def begun(self) -> bool:
        """Whether something has come that was not looked at yet."""
        return bool(self._received)

    def begin_with(self, received: bytes) -> None:
        """Bytes that somebody else read; they are looked at with what comes next."""
        self._received = received

    def receive(self, data: bytes) -> None:
        """Bytes came; none if it goes on after others had their turn."""
        self._continued = bool(self._received)
        if self._continued:
            data = self._received + data
            self._received = b""
        try:
            self._go_on(data)
        except BadHead as bad:
            self._fail(bad)

    def written(self) -> None:
        """All that was queued is out."""
        self._unsent = 0
        if self._phase == LEAVING:
            self._leave()
        elif self._phase == WRITING:
            self._phase = HEADS
            self._since = self._host.now
            self._link.pause_reading(False)
            self._link.let_others()

    def cancel(self) -> None:
        """The connection is gone, or is not HTTP's any more: a request that waits is cancelled."""
        self._end_count()
        self._phase = LEAVING
        self._received = b""
        self._parts = []
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None

    def due(self, now: float) -> bool:
        """A deadline is over. Whether the connection is too; else another was set."""
        if self._link.unsent:
            if self._unsent == self._link.unsent:
                return True
            self._unsent = self._link.unsent
            self._link.set_deadline(now + SEND_SECONDS)
            return False
        end = self._since + self._patience()
        if now >= end and self._phase == BODY and self._call is not None:
            self._close = True
            self._respond(self._call.refuse_slow())
            return False
        if now >= end and self._phase != WAITING:
            return True
        # The next phase may have less time than this one.
        soonest = now + min(KEEP_ALIVE, self._host.handshake_timeout)
        self._link.set_deadline(soonest if now >= end else min(end, soonest))
        return False

    def _patience(self) -> float:
        if self._phase == BODY:
            return BODY_SECONDS
        return self._host.handshake_timeout if self._first or self._received else KEEP_ALIVE

    # Reading.

    def _go_on(self, data: bytes) -> None:
        turns = 0
        give_up = 0.0
        while data:
            phase = self._phase
            if phase == HEADS:
                if turns == 0:
                    give_up = time.perf_counter() + TURN_SECONDS
                elif turns == TURN or time.perf_counter() >= give_up:
                    self._received = data
                    self._link.let_others()
                    return
                turns += 1
                rest = self._head(data)
            elif phase == BODY:
                rest = self._body(data)
            elif phase == LEAVING:
                return
            else:
                self._received = data
                if len(data) > UNREAD:
                    self._link.pause_reading(True)
                return
            if rest is None:
                return
            data = rest

    def _head(self, data: bytes) -> bytes | None:
        """Take a head; what comes behind it, or None where there is nothing to go on with."""
        if data.startswith(b"\r\n") and not self._blank:
            # As old programs send it behind a body (RFC 9112 section 2.2).
            self._blank = True
            data = data[2:]
            if not data:
                return None
        end = end_of_head(data)
        if end < 0:
            if data.startswith(PREFACE):
                return self._http_2(data)
            if not self._first and not self._continued:
                self._since = self._host.now
            self._received = data
            return None
        raw = data[:end]
        known = self._known
        if known is None or known[0] != raw or known[2].outdated:
            if raw.startswith(PREFACE[:-2]):
                return self._http_2(data)
            link = self._link
            self._scheme = link.scheme
            head = parse_head(raw, link.address, link.kind, self._host.resolve_source, link.scheme)
            self._scheme = head.scheme
            head.certificate = link.certificate
            if "upgrade" in head.headers and head.wants_upgrade and link.kind != "redirect":
                others = self._host.others_websocket
                if others is not None and self._api is self._host.http_api and others(head.path):
                    return self._give_away(data)
                self._end_count()
                check_handshake(head.method, "1.1" if head.http_1_1 else "1.0", head.headers)
                upgrade = Upgrade(head, accept_key(head.headers["sec-websocket-key"]), end + 4)
                self._link.upgrade(upgrade, data[end + 4 :])
                return None
            length = body_length(head)
            self._attribute(head)
            call = self._api.call(head)
            if call is not None:
                known = self._known = (raw, head, call, length)
            else:
                call = self._api.over_rate(head, counts=False)
                if call is None:
                    return self._give_away(data)
                known = (raw, head, call, length)
        _, head, call, length = known
        self._scheme = head.scheme
        call = self._api.over_rate(head) or call
        self._begin(head, call, length)
        return data[end + 4 :] if self._expected(head, call, length, len(data) == end + 4) else b""

    def _begin(self, head: Head, call: HttpCall, length: int | None) -> None:
        self._first = self._continued = self._blank = False
        self._call = call
        self._started = time.perf_counter()
        self._without_body = head.method == "HEAD"
        self._agreed = not head.http_1_1 or _asks_to_close(head)
        self._close = self._agreed or self._surplus or self._host.draining
        self._size = 0
        if length == 0:
            self._complete(b"")
            return
        self._phase = BODY
        self._since = self._host.now
        if length is None:
            self._chunks = Chunks()
        else:
            self._left = length
            if length > call.body_limit + BODY_DISCARDED:
                self._close = True
                self._respond(call.refuse_large())

    def _expected(self, head: Head, call: HttpCall, length: int | None, waits: bool) -> bool:
        """Heed `Expect: 100-continue` (RFC 9110 section 10.1.1). Whether the body is to be read."""
        if self._phase != BODY or not waits or "expect" not in head.headers:
            return True
        if head.headers["expect"].lower() != "100-continue" or not head.http_1_1:
            return True
        if call.body_limit and (length is None or length <= call.body_limit):
            self._link.put(_CONTINUE)
            return True
        # A body that nobody wants need not be sent; whether it will be cannot be known then.
        self._close = True
        if call.body_limit:
            self._respond(call.refuse_large())
        else:
            self._complete(b"")
        return False

    def _body(self, data: bytes) -> bytes | None:
        """Take what belongs to the body; what comes behind it, None while it is not whole."""
        call = self._call
        assert call is not None
        rest: bytes | None
        if self._chunks is not None:
            parts, rest = self._chunks.take(data)
        elif len(data) < self._left:
            parts, rest = [data], None
            self._left -= len(data)
        elif len(data) == self._left:
            parts, rest = [data], b""
        else:
            parts, rest = [data[: self._left]], data[self._left :]
        for part in parts:
            self._size += len(part)
            if self._size <= call.body_limit:
                self._parts.append(part)
            elif self._parts:
                self._parts = []
        if self._size > call.body_limit + BODY_DISCARDED:
            self._close = True
            self._respond(call.refuse_large())
            return b""
        if rest is None:
            return None
        self._chunks = None
        kept, self._parts = self._parts, []
        if self._size > call.body_limit and call.body_limit:
            self._respond(call.refuse_large())
        else:
            self._complete(kept[0] if len(kept) == 1 else b"".join(kept))
        return rest

    def _attribute(self, head: Head) -> None:
        """Who is behind this connection is known: it may be one too many of theirs. Raises BadHead.

        A probe is answered all the same, and its connection closed: an operator who could not see a node that is full
        would take it for dead, and so would a platform, which then restarts it.
        """
        connections, address = self._host.accepted_connections, head.address
        connections.attributed(self._counted_for, address)
        self._counted_for = address
        if not self._admitted:
            self._admitted = True
            if head.path in PROBES and connections.is_full(address):
                self._end_count()
                self._surplus = True
                return
            full = connections.full(address)
            if full is not None:
                self._end_count()  # while it is told so, it takes no other's place
                raise BadHead(full.status, full.body.decode().rstrip(), *full.headers[1:])

    def _end_count(self) -> None:
        if self._counts:
            self._counts = False
            self._host.accepted_connections.ended(self._counted_for)

    # Answering.

    def _complete(self, body: bytes) -> None:
        """The request is whole: answer it."""
        call = self._call
        assert call is not None
        answer = call.answer(body)
        if isinstance(answer, HttpAnswer):
            self._respond(answer)
            return
        self._phase = WAITING
        self._scope = trio.CancelScope()
        self._host.nursery.start_soon(self._wait, answer, self._scope)

    async def _wait(self, waiting: Awaitable[HttpAnswer], scope: trio.CancelScope) -> None:
        answer: HttpAnswer | None = None
        with scope:
            answer = await waiting
        if answer is None or self._scope is not scope:
            return  # the client hung up
        self._scope = None
        try:
            self._respond(answer)
            if self._phase == HEADS:
                self._link.pause_reading(False)
                if self._received:
                    self._link.let_others()
        except Exception as error:
            # Here nobody else would keep it from the other connections.
            self._link.on_error(error)

    def _respond(self, answer: HttpAnswer) -> None:
        call = self._call
        assert call is not None
        self._link.put(render(answer, without_body=self._without_body, close=self._close))
        call.observe(answer, self._size, time.perf_counter() - self._started)
        self._call = None
        self._chunks = None
        self._since = self._host.now
        if self._close:
            self._stop()
        elif self._link.unsent > self._host.outbound_limit:
            self._phase = WRITING
            self._link.set_deadline(self._host.now + SEND_SECONDS)
        else:
            self._phase = HEADS

    def _fail(self, bad: BadHead) -> None:
        """The framing is broken: one last answer, and nothing that comes is looked at any more."""
        self._host.counts.handshakes_refused += 1
        self._agreed = False
        self._last_answer(bad.answer)
        self._stop()

    def _stop(self) -> None:
        self._phase = LEAVING
        self._received = b""
        self._parts = []
        self._call = None
        self._link.set_deadline(self._host.now + SEND_SECONDS)

    def _http_2(self, data: bytes) -> bytes | None:
        """Somebody begins with HTTP/2, whom a proxy may have passed on blindly. Raises BadHead."""
        if not self._host.h2c or self._api is not self._host.http_api:
            raise no_http_2()
        return self._give_away(data)

    def _give_away(self, data: bytes) -> bytes | None:
        """This request is another server's, and so is the connection, once what was answered before is out."""
        self._first = False
        self._phase = LEAVING
        self._known = None
        self._received = data
        if not self._link.unsent:
            self._leave()
        else:
            self._link.pause_reading(True)
            self._link.set_deadline(self._host.now + SEND_SECONDS)
        return None

    def _leave(self) -> None:
        data, self._received = self._received, b""
        if not data and self._agreed:
            self._link.gone()
        elif not data:
            self._link.finish()
        elif not self._link.give_away(data):
            self._last_answer(_NOBODY)

    def _last_answer(self, answer: HttpAnswer) -> None:
        """One that no route gave, and that closes."""
        if self._scheme == "https":
            answer = answer._replace(headers=(*answer.headers, *self._host.https_headers))
        self._link.put(render(answer, without_body=False, close=True))


def _asks_to_close(head: Head) -> bool:
    value = head.headers.get("connection")
    return value is not None and "close" in (token.strip().lower() for token in value.split(","))


_NOBODY: Final = head_refusal(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
