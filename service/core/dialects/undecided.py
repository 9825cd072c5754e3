"""A connection whose dialect nobody has named: its first message decides, and until then the gateway is silent."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from portico.wire.codes import CloseCode
from portico.wire.dialects import c_client
from portico.wire.dialects.negotiate import Dialect, dialect_of
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import Event

from ..connections.authentication import Authentication
from ..connections.session import Handler, Session
from ..ports import UNDECIDED
from .c_client import CClientHandler

if TYPE_CHECKING:
    from ..dispatch.model import Outcome, Request


class UndecidedHandler:
    """Waits for the first message, hands it and the session to the dialect that it is of."""

    name = UNDECIDED

    def __init__(
        self, c_clients: CClientHandler, handlers: Mapping[str, Handler], authentication: Authentication
    ) -> None:
        self._c_clients = c_clients
        self._authentication = authentication
        self._handlers = handlers

    def opened(self, session: Session) -> None:
        """Nothing is said until the dialect is known."""

    def receive(self, session: Session, payload: bytes) -> None:
        """Decide, then let the dialect have the message. Raises PeerFault `unknown_dialect`."""
        register = c_client.first_register(payload)
        if register is not None:
            # Most connections begin so: the message that decides is decoded once.
            session.speak(self._c_clients)
            self._c_clients.register(session, register)
            return
        dialect = dialect_of(payload)
        handler = self._handlers[dialect.value]
        session.speak(handler)
        if dialect is Dialect.REQUESTER:
            self._authentication.check_requester(session)
        handler.receive(session, payload)

    def refusal(self, fault: PeerFault) -> Frame:
        """An error as every program can read it."""
        return c_client.error(fault)

    def push(self, event: Event) -> Frame | None:
        """Nobody here is in the hub."""
        return None

    def answer(self, session: Session, request: "Request", outcome: "Outcome") -> None:
        """Nobody here has asked anything."""

    def draining(self, retry_within_ms: int) -> Frame | None:
        """Nothing is said until the dialect is known."""
        return None

    def expired(self, session: Session) -> None:
        """Said nothing in time."""
        session.close(CloseCode.SILENT, "say who you are within the registration timeout")

    def oversized(self, session: Session, head: bytes) -> None:
        """Nobody here has been asked anything."""

    def closed(self, session: Session) -> None:
        """Nothing to undo."""
