"""The few things that the core needs from outside, as protocols whose docstrings state the guarantees.

The core is synchronous: none of these may wait. Implementations live in `transports` and `app`; the tests'
are in `tests/fakes.py`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from portico.wire.codes import CloseCode
from portico.wire.frame import Frame

from .api_keys import ApiKey
from .locality import Locality
from .proof import Presented, Proof

Monotonic = Callable[[], float]
"""Seconds on a clock that never goes back; for deadlines and latencies."""

Wall = Callable[[], float]
"""Seconds since the epoch; for what is shown to people and programs."""

Defer = Callable[[Callable[[], None]], None]
"""Run a callable soon: after what is ready now was handled, in the order of deferring, never re-entrantly."""


BACKLOG: Final = 256 * 1024
"""Bytes that may wait for one connection before it is said to have a backlog."""


OVERSIZED_HEAD: Final = 4096
"""How many bytes of a message that is over the limit are looked at, at most."""


class Peer(Protocol):
    """One accepted WebSocket connection, as the core sees it. Made by a transport.

    Guarantees: frames go out in the order of `send`, and a Close after all of them; nothing here waits,
    raises, or calls the receiver before it returns; on a connection that is closing or gone, `send`,
    `close` and `when_room` do nothing. What waits to go out is bounded: a peer that takes next to nothing
    while much is waiting, and one for which a hard bound is reached, is closed with 4008 by the transport.

    A part of the core that has much to send looks at `has_backlog` now and then, and goes on by `when_room`: for
    example, a replay of 1,000 events is sent until there is a backlog, and the rest when there is room.
    """

    @property
    def transport(self) -> str:
        """`native` or `asgi`: a label for logs and metrics."""

    @property
    def address(self) -> str:
        """The address of the peer (of the client, where a trusted proxy says who that is), no port."""

    def traffic(self) -> tuple[int, int] | None:
        """Bytes on the wire since the connection was made, its handshake included: those that the peer has taken, and
        those that came from it. None where the system can't say. May be asked until `closed` has returned; a system
        call, so nothing for the hot path."""

    @property
    def port(self) -> int | None:
        """The port of the peer; None where it is not known, as behind a proxy."""

    def send(self, frame: Frame) -> None:
        """Queue one text message."""

    @property
    def has_backlog(self) -> bool:
        """Whether more than BACKLOG bytes wait to go out: what can wait, or go to somebody else, should."""

    def when_room(self, call: Callable[[], None]) -> None:
        """Call this once, soon, when there is no backlog (any more); never after the connection's end. Calls are
        made in the order in which they were asked for, and never from within a call of the peer's."""

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Close after what is queued; `reason` at most 123 bytes of UTF-8."""

    def allow_message_size(self, size: int) -> None:
        """From the next message on accept messages of up to `size` bytes (0: no limit)."""

    def lift_rate_limit(self) -> None:
        """From the next message on accept as many a second as come, and as many bytes."""


class Receiver(Protocol):
    """What a transport hands a connection's messages to. The core's Session is one; an echo in tests another.

    The transport promises: `receive` gets whole messages in order, text already checked to be UTF-8;
    after `closed` nothing comes any more; `closed` comes exactly once for every connection that was
    opened, after the last message that was received, even if the peer's Close was in the same segment.
    No exception leaves these calls.
    """

    def receive(self, payload: bytes, text: bool) -> None:
        """One whole message; `text` is False for a binary one."""

    def oversized(self, head: bytes) -> None:
        """A message over the limit begins like this (at most OVERSIZED_HEAD bytes, and empty where no more than its
        size has come). It is dropped, and nothing but `closed` follows."""

    def closed(self, code: int, reason: str) -> None:
        """The connection is over: the close code that was received, or sent if ours came first, or 1006."""


class Handshake(Protocol):
    """The HTTP request that asks for an upgrade. Header names are lower case; values are text. `path` is
    percent-decoded, with U+FFFD for what is not UTF-8.

    `kind` is `worker` for the worker port, else `websocket`.
    `scheme` is `http` or `https`; `address` is the client's, `host` what the client asked for (`name[:port]`,
    empty if it didn't say), all three with trusted proxies already taken into account.
    """

    @property
    def path(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def address(self) -> str: ...
    @property
    def scheme(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def certificate(self) -> Proof | None:
        """What a client's certificate, which the transport has checked, says of it."""


class HttpHead(Handshake, Protocol):
    """The head of any HTTP request. `peer` is the address of the socket's own peer, whatever proxies say. `prefix` is
    what trusted proxies took off the path, such as `/gw`, else empty. `http_1_1`: it came by HTTP/1.1 or later."""

    @property
    def method(self) -> str: ...
    @property
    def peer(self) -> str: ...
    @property
    def prefix(self) -> str: ...
    @property
    def http_1_1(self) -> bool: ...


class RequestSource(Protocol):
    """Where a request really comes from, trusted proxies taken into account."""

    @property
    def address(self) -> str:
        """The caller's address, no port."""

    @property
    def scheme(self) -> str:
        """`http` or `https`, as the caller used it."""

    @property
    def host(self) -> str:
        """What the caller asked for, `name[:port]`; empty if it didn't say."""

    @property
    def prefix(self) -> str:
        """What the proxies took off the path, such as `/gw`; empty for nothing."""


Resolver = Callable[[str, Mapping[str, str], str], RequestSource]
"""(address of the socket's peer, headers by lower-case name, scheme of the socket) → where the request comes from."""


MESSAGE_SECONDS: Final = 120.0
"""How long a message that has begun may take to be whole, in seconds; looked at with every ping."""

Headers = tuple[tuple[str, str], ...]
"""Header lines of an answer: names and values."""
NOSNIFF: Final = ("x-content-type-options", "nosniff")
"""On every answer: a browser takes it for what its content-type says, and for nothing else."""


def https_headers(hsts: int) -> Headers:
    """What answers to requests that came by https have besides: `hsts` is for how many seconds browsers are to come by
    nothing else; 0: they aren't told."""
    return (("strict-transport-security", f"max-age={hsts}"),) if hsts else ()


class HttpAnswer(NamedTuple):
    """A whole HTTP response, small enough to be one write. Header names are lower case; the transport adds
    `content-length`, `date`, `connection`, and NOSNIFF."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


UNDECIDED: Final = "undecided"
"""The dialect of a connection whose first message decides."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A handshake that may become a connection.

    `subprotocol`: what its answer names in Sec-WebSocket-Protocol, one that the client offered. `max_message_size`:
    bytes that a message may have at first (0: no limit). The rest is the gateway's own: the dialect, whether it is a
    worker by its path, the user that the path names, the API key that the handshake bore, what it has proven, what
    the connect hook is to be shown before anything else is done (None: it is not asked), and where it comes from.
    """

    subprotocol: str | None = None
    max_message_size: int = 0
    dialect: str = UNDECIDED
    worker: bool = False
    user_id: str | None = None
    key: ApiKey | None = None
    proof: Proof | None = None
    presented: Presented | None = None
    locality: Locality = Locality.ELSEWHERE


class Gate(Protocol):
    """What a transport asks before and after an upgrade. The core's Gateway is one; the tests have others."""

    def admit(self, handshake: Handshake) -> Admission | HttpAnswer:
        """Decide on an upgrade: an Admission, or the HTTP answer that refuses it. Never raises."""

    def opened(self, peer: Peer, admission: Admission) -> Receiver:
        """The upgrade was answered with 101: who takes what comes. May already `send` to the peer."""


BODY_SECONDS: Final = 30.0
"""How long the body of an HTTP request may take to arrive."""
BODY_DISCARDED: Final = 64 << 20
"""Bytes beyond a body's bound that a server reads and throws away at most, so that the client sees the answer: one that
answers and closes while the client still sends makes it see a reset."""


class HttpCall(Protocol):
    """An HTTP request whose head is read and whose route is known. Nothing here raises, and what it says depends on the
    head alone: it may be kept and answered again for a request with the same head, as long as it is not `outdated`."""

    @property
    def outdated(self) -> bool:
        """Whether the API keys have changed since this call was made: then ask the HttpApi for a new one."""

    @property
    def body_limit(self) -> int:
        """Bytes that the body may have; 0: whatever it has is thrown away."""

    def answer(self, body: bytes) -> HttpAnswer | Awaitable[HttpAnswer]:
        """The answer. Where it is an awaitable, that has to be awaited; cancelling it cancels the request."""

    def refuse_large(self) -> HttpAnswer:
        """The answer to a body beyond the limit."""

    def refuse_slow(self) -> HttpAnswer:
        """The answer to a body that did not come within BODY_SECONDS."""

    def observe(self, answer: HttpAnswer, received: int, seconds: float) -> None:
        """Note an answer that was given, for metrics and the access log. `received`: bytes of the request's body;
        `seconds`: since its head had come."""


class AcceptedConnections(Protocol):
    """Where a transport counts the connections that are no WebSockets, or none yet. Each that was `accepted` is `ended`
    once: when it is over, or just before it asks to be a WebSocket, which the Gate counts."""

    def accepted(self, address: str | None) -> None:
        """A connection counts from now on. `address`: None where a trusted proxy stands between."""

    def attributed(self, before: str | None, address: str) -> None:
        """The client behind an accepted connection is known now; `before`: the address that it counted for."""

    def is_full(self, address: str | None) -> bool:
        """Whether there are too many connections, where this one is counted already."""

    def full(self, address: str | None) -> HttpAnswer | None:
        """As `is_full`: the answer that refuses the connection, counted as a refusal; None if it may stay."""

    def ended(self, address: str | None) -> None:
        """It counts no more."""


class Unlimited:
    """AcceptedConnections without any limit."""

    def accepted(self, address: str | None) -> None: ...
    def attributed(self, before: str | None, address: str) -> None: ...
    def full(self, address: str | None) -> HttpAnswer | None: ...
    def is_full(self, address: str | None) -> bool:
        return False

    def ended(self, address: str | None) -> None: ...


class HttpApi(Protocol):
    """The routes of a port. Never raises."""

    def over_rate(self, head: HttpHead, *, counts: bool = True) -> HttpCall | None:
        """To be asked for every request: the call that refuses it if its caller makes too many, else None. `counts` is
        False where another server asks again for the same request."""

    def call(self, head: HttpHead) -> HttpCall | None:
        """The call that answers this request; None if its route is not one of these."""


class TransportCounts(Protocol):
    """Where a transport counts what the core cannot see. Plain attributes, added to in place."""

    messages_in: int
    bytes_in: int
    messages_out: int
    bytes_out: int
    handshakes_refused: int
    protocol_errors: int
    contained_errors: int
    slow_closed: int
    mute_closed: int
    handshakes_timed_out: int
    accept_pauses: int
