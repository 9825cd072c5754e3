"""Events for back ends: who came and went, which requests failed, what clients said that the gateway has no use for.

There is one stream of events, with several outlets (webhooks, a stream in Redis, /api/events). Each event is made once
here, as a JSON object, and handed to the EventLog; this module doesn't know the outlets, and they don't know sessions.
The EventLog sees all nodes, so it adds the events of a user's first connection (`user_online`) and last
(`user_offline`).

While there is no outlet (`listening`) no events are made and nothing is kept. Nothing here waits, and nothing raises
into the core (`Gateway` contains it).
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec
from msgspec import Raw

from portico.wire.messages import IDENTITY_FIELDS, Identity

from .connections.session import Session
from .ports import Wall

if TYPE_CHECKING:
    from .dispatch.model import Outcome, Request

UNTYPED: Final = "-"
"""Stands among the relayed types for messages that have no type."""
ANY: Final = "*"
LARGEST: Final = 1 << 20
"""Bytes of a client's message that is passed on."""
EVENTS: Final = (
    "registered",
    "left",
    "user_online",
    "user_offline",
    "request_failed",
    "message",
    "user_connected_on_another_client",
    "user_connected_on_another_node",
)
_encode = msgspec.json.Encoder().encode


class BackEndEvent(NamedTuple):
    """An event. `connection`: the id of the session that it is about, if it is about one. Events with one `user_id`, or
    else with one `client_id`, are delivered in order. `body`: the JSON object that back ends get."""

    id: str
    event: str
    connection: str | None
    user_id: str | None
    client_id: str | None
    body: bytes


Tap = Callable[[BackEndEvent], None]
"""Is called with each event, in order, when it is made or put into the log. Must not wait or raise."""


class EventLog(Protocol):
    """Where the events of a deployment are put in one order.

    It adds `user_online` after the `registered` of a user's first connection anywhere, and `user_offline` some seconds
    after the `left` of the last, if no other has come. For each connection whose `registered` it was told there is one
    `left`, whatever becomes of the node.
    """

    def append(self, event: BackEndEvent) -> None:
        """Put an event behind those that came before. Never waits or raises."""


class BackEndEvents:
    """What one node tells of itself. `relayed`: the types of messages that are passed on, maybe ANY and UNTYPED;
    `node` is the node's name now."""

    def __init__(
        self,
        log: EventLog | None,
        *,
        relayed: Collection[str],
        node: Callable[[], str],
        wall: Wall,
        make_id: Callable[[], str],
    ) -> None:
        self._log = log
        self._relayed = frozenset(relayed)
        self._node = node
        self._wall = wall
        self._make_id = make_id
        self._told: dict[Session, Identity] = {}
        self._taps: dict[Tap, None] = {}

    @property
    def listening(self) -> bool:
        """Whether anybody gets events. If nobody does, no other method here needs to be called."""
        return self._log is not None or bool(self._taps)

    def tap(self, tap: Tap) -> None:
        """Call `tap` with each of this node's own events from now on."""
        self._taps[tap] = None

    def untap(self, tap: Tap) -> None:
        """Call `tap` no more; one that was not added is ignored."""
        self._taps.pop(tap, None)
        if not self.listening:
            self._told.clear()

    def relays(self, kind: str | None) -> bool:
        """Whether a client's message of this type is passed on; None: one without a type."""
        if self._log is None:
            return False
        return UNTYPED in self._relayed if kind is None else kind in self._relayed or ANY in self._relayed

    def on_registered(self, session: Session) -> None:
        """A connection is registered. If it was registered as somebody else before, that one has `left`."""
        before = self._told.get(session)
        if before == session.identity:
            return
        if before is not None:
            self._left(session, before, 0, "registered as another")
        self._told[session] = session.identity
        self._append("registered", session, session.identity, self._of(session))

    def on_closed(self, session: Session, code: int, reason: str) -> None:
        """A connection is over."""
        identity = self._told.pop(session, None)
        if identity is None and self._log is None and session.registered_at is not None:
            identity = session.identity
        if identity is not None:
            self._left(session, identity, code, reason)

    def _left(self, session: Session, identity: Identity, code: int, reason: str) -> None:
        seconds = round(self._wall() - session.opened_at, 3)
        more = {**self._of(session), "code": code, "reason": reason, "seconds": seconds}
        self._append("left", session, identity, more)

    def on_connected_elsewhere(self, session: Session, kind: str) -> None:
        """A user with other connections has one more. `kind` is the name of the event."""
        self._append(kind, session, session.identity, self._of(session))

    def on_message(self, session: Session, payload: bytes) -> None:
        """A client said what the gateway has no use for: valid JSON, passed on as it came."""
        message: object = Raw(payload) if len(payload) <= LARGEST else None
        self._append("message", session, session.identity, {"connection_id": session.id, "message": message})

    def on_request_failed(self, request: "Request", outcome: "Outcome") -> None:
        """A request ended without success."""
        caller = request.caller
        fields: dict[str, object] = {
            "command": request.command,
            "outcome": outcome.kind.value,
            "error": outcome.error,
            "processed_by": outcome.processed_by,
            "attempts": request.attempt,
        }
        if isinstance(caller, Session):
            self._append("request_failed", caller, caller.identity, {"connection_id": caller.id, **fields})
        else:
            self._append("request_failed", None, Identity(), fields)

    def _of(self, session: Session) -> dict[str, object]:
        return {
            "connection_id": session.id,
            "dialect": session.handler.name,
            "address": session.address,
        }

    def _append(self, event: str, session: Session | None, identity: Identity, more: dict[str, object]) -> None:
        made = self._make(event, session, identity, more)
        for tap in list(self._taps):
            tap(made)
        if self._log is not None:
            self._log.append(made)

    def _make(self, event: str, session: Session | None, identity: Identity, more: dict[str, object]) -> BackEndEvent:
        event_id = self._make_id()
        fields: dict[str, object] = {
            "id": event_id,
            "event": event,
            "timestamp": self._wall(),
            "node": self._node(),
            **{name: getattr(identity, name) for name in IDENTITY_FIELDS},
            **more,
        }
        connection = None if session is None else session.id
        return BackEndEvent(event_id, event, connection, identity.user_id, identity.client_id, _encode(fields))

    def present(self) -> list[BackEndEvent]:
        """A new `registered` for each connection of this node, for a log that has lost them, or taken the node for
        dead."""
        return [self._make("registered", one, identity, self._of(one)) for one, identity in self._told.items()]


def user_event(event: str, user_id: str, event_id: str, at: float, node: str) -> BackEndEvent:
    """`user_online` or `user_offline`."""
    fields = {"id": event_id, "event": event, "timestamp": at, "node": node, "user_id": user_id}
    return BackEndEvent(event_id, event, None, user_id, None, _encode(fields))


class Stored(NamedTuple):
    """An event that is to be delivered. `key`: its place in the outbox; `order`: see `order_of`; `born`: when it was
    made, in Unix time."""

    key: str
    order: str
    id: str
    event: str
    body: bytes
    born: float


def order_of(event: BackEndEvent) -> str:
    """Events with the same text here are delivered in order: a user's, a client's without a user, or all others."""
    if event.user_id is not None:
        return f"u{event.user_id}"
    return "" if event.client_id is None else f"c{event.client_id}"
