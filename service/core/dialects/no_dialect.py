"""What the gateway does with a connection that has no dialect yet: it says nothing, and closes one that is silent too
long. Only a fault is answered, in a form that every program can read."""

from typing import TYPE_CHECKING

from portico.wire.codes import CloseCode
from portico.wire.dialects import c_client
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import Event

from ..connections.session import Session

if TYPE_CHECKING:
    from ..dispatch.model import Outcome, Request


class NoDialect:
    """All that a DialectHandler has to do but `receive`, where the dialect is not known yet."""

    def opened(self, session: Session) -> None:
        """Nothing is said until the dialect is known."""

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
