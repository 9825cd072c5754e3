"""What extensions may use of the gateway: these names, and nothing else of `service`.

An extension is a module of the operator's own, named in `PORTICO_EXTENSIONS`. Its function `extend(context)` is called
once, before anything listens, and adds what it adds through the `ExtensionContext`. The names below keep their meaning
from version to version; everything else in `service` may change with any release.

Everything that an extension is called with runs in the one loop that serves every connection, between a message and its
effect. So no function of an extension may wait or take long (a millisecond is long); what takes longer, or talks to
other systems, belongs in a worker. An exception other than those named here is logged as a bug, and costs the peer
that one message.

Source: docs/how-to/extend.md.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Protocol, final

import msgspec
from msgspec import Raw, Struct

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import ADDRESS_FIELDS, EVERYBODY, Event, Identity, Target
from service.core.cluster.backplane import Publication
from service.core.cluster.backplane import Published as Receipt
from service.core.connections import session as core
from service.core.dialects.actions import ActionError
from service.core.gateway import Gateway
from service.core.reply import Reply

__all__ = [
    "EVERYBODY",
    "ActionError",
    "Call",
    "CloseCode",
    "Dialect",
    "ErrorCode",
    "Event",
    "ExtensionContext",
    "Frame",
    "Identity",
    "PeerFault",
    "Raw",
    "Receipt",
    "Session",
    "Target",
    "encode",
]


class Session(Protocol):
    """One connection, as an extension sees it. It may be kept (in a set, as a key) until its dialect's `closed`."""

    @property
    def id(self) -> str:
        """The gateway's own name for this connection: 32 hexadecimal digits."""

    @property
    def identity(self) -> Identity:
        """The identity that the connection was registered with; every field is None before that."""

    @property
    def over(self) -> bool:
        """Whether it is closed, or being closed: what is sent to it now goes nowhere."""

    def send(self, frame: Frame) -> None:
        """Queue one message. Never waits; a connection that reads too slowly is closed (4008) by the gateway."""

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Close after what is queued; a connection that is over is left alone. `reason` is cut to 123 bytes."""


class Call(Struct, frozen=True):
    """One call of an action: the connection that asks, and its `params`, JSON that `msgspec.json.decode` reads."""

    session: Session
    params: Raw


class Dialect(ABC):
    """How the connections of one dialect are spoken to: one object for all of them.

    `name` stands in logs, metrics and lists of clients. No method may wait.
    """

    name: str

    def opened(self, session: Session) -> None:  # noqa: B027  (may be left as it is)
        """A connection speaks this dialect from now on. Greet it here, or register it, if the dialect does so."""

    @abstractmethod
    def receive(self, session: Session, payload: bytes) -> None:
        """One message: UTF-8 text. Raise PeerFault for one that cannot be accepted."""

    @abstractmethod
    def refusal(self, fault: PeerFault) -> Frame:
        """The answer to a PeerFault, which `receive` has raised, or the gateway for a limit of its own."""

    def push(self, event: Event) -> Frame | None:
        """An event in this dialect's form; None (the default) for a dialect without pushes."""
        return None

    def draining(self, retry_within_ms: int) -> Frame | None:
        """The notice before the node restarts and closes all connections; None (the default) for none."""
        return None

    def expired(self, session: Session) -> None:
        """The connection has proven nothing within `PORTICO_REGISTRATION_TIMEOUT`, where `PORTICO_AUTH` is `required`.
        The default closes it with 4000."""
        session.close(CloseCode.SILENT, "said nothing in time")

    def closed(self, session: Session) -> None:  # noqa: B027  (may be left as it is)
        """The connection is over, whoever ended it. Called once, while `session.identity` still says who it was."""

    @final  # noqa: B027  (does nothing)
    def oversized(self, session: Session, head: bytes) -> None:
        """For dialects of the gateway's own, whose connections answer requests; those of an extension answer none."""

    @final  # noqa: B027  (never called)
    def answer(self, session: Session, request: object, outcome: object) -> None:
        """For dialects of the gateway's own, whose connections make requests to workers; an extension's make none."""


class ExtensionContext:
    """What `extend(context)` gets. Each `add_…` raises ValueError where the name is taken."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway: Final = gateway

    def add_action(self, name: str, action: Callable[[Call], object]) -> None:
        """Answer the envelope dialect's requests with this action here, instead of by a worker.

        What `action` returns is the result: anything that JSON can hold. It raises ActionError for input that it
        cannot take; the exception's text is the answer's error.
        """
        self._gateway.actions.add(name, lambda call: action(Call(call.session, call.params)))

    def add_message_type(self, kind: str, on_message: Callable[[Session, bytes], None]) -> None:
        """Accept messages of this `type` from registered C-Clients: `on_message(session, payload)` gets each one.

        `payload` is the whole message, checked to be a JSON object. `on_message` raises PeerFault for one that cannot
        be accepted.
        """
        self._gateway.c_clients.add(kind, on_message)

    def add_custom_event(self, event: str, on_custom: Callable[[Session, Raw], None]) -> None:
        """Accept the envelope dialect's `custom` messages of this `event`: `on_custom(session, data)` gets each one.

        `data` is the message's `data` as JSON text, checked to be an object. `on_custom` raises PeerFault for one that
        cannot be accepted.
        """
        self._gateway.envelopes.add(event, on_custom)

    def add_dialect(self, dialect: Dialect, *, path: str | None = None, subprotocol: str | None = None) -> None:
        """Add a dialect, for connections on `path`, or that offer `subprotocol` on `/`, `/ws` or `/api/websocket`.

        ValueError where the dialect's name, the path or the subprotocol is taken.
        """
        self._gateway.add_dialect(dialect, path=path, subprotocol=subprotocol)

    def register(self, session: Session, identity: Identity) -> None:
        """Say who a connection of an added dialect is: from now on it gets the pushes for each field of `identity`.

        A later call replaces the identity. The gateway forgets it by itself when the connection is over. TypeError for
        a session that is not the gateway's own object. The names in `identity` are not checked against a token: the
        extension decides who may be whom.
        """
        if not isinstance(session, core.Session):
            raise TypeError("register takes a session that the gateway has handed to this extension")
        self._gateway.registration.register(session, identity)

    def push(
        self,
        target: Target,
        event: Event,
        *,
        id: str | None = None,
        durable: bool = False,
        ttl: float | None = None,
        on_done: Callable[[Receipt | PeerFault], None] = lambda result: None,
    ) -> None:
        """Push an event to every connection that `target` means, on whatever node.

        `id`: delivered once, however often it is pushed within 5 minutes; `durable`: kept in the target's history,
        for `ttl` seconds at most (None: as long as the history keeps anything). `on_done` gets the receipt, or the
        PeerFault that says why nothing was pushed; it may be called before this returns, and must not raise. ValueError
        for a target of an unknown kind or without a value, or an event whose data is no JSON object.
        """
        if target != EVERYBODY and (target.kind not in ADDRESS_FIELDS or not target.value):
            raise ValueError(f"a target is EVERYBODY, or has one of the kinds {', '.join(ADDRESS_FIELDS)} and a value")
        if bytes(event.data)[:1] != b"{":
            raise ValueError("an event's data is a JSON object; encode a dict")
        self._gateway.backplane.publish(Publication(target, event, id, durable, ttl), Reply(on_done))


def encode(value: object) -> Raw:
    """A value as JSON, for an Event's `data`. Raises TypeError for what JSON cannot hold."""
    return Raw(msgspec.json.encode(value))
