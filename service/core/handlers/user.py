"""What the gateway does with /ws/{user_id}: echoes to all of the user's connections in this dialect, and pushes.
Source: protocol reference, "User dialect"."""

from typing import TYPE_CHECKING

from service.wire.dialects import user as wire
from service.wire.dialects.negotiate import Dialect
from service.wire.faults import PeerFault
from service.wire.frame import Frame
from service.wire.messages import Event, Target

from ..hub import Hub
from ..session import Session

if TYPE_CHECKING:
    from ..pending import Outcome, Request


class UserHandler:
    """The user dialect's decisions; the path has said who the user is."""

    name = Dialect.USER.value

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def opened(self, session: Session) -> None:
        """The gateway has registered the session; it only listens from here."""

    def receive(self, session: Session, payload: bytes) -> None:
        """Any text is echoed, to the sender too."""
        user_id = session.identity.user_id
        if user_id is None:
            return
        frame = wire.echo(payload)
        for other in self._hub.find(Target("user_id", user_id)):
            if other.handler is self:
                other.send(frame)

    def refusal(self, fault: PeerFault) -> Frame:
        """The answer to a fault."""
        return wire.error(fault)

    def push(self, event: Event) -> Frame:
        """An event in this dialect."""
        return wire.push(event)

    def answer(self, session: Session, request: "Request", outcome: "Outcome") -> None:
        """Nobody here asks anything."""

    def draining(self, retry_within_ms: int) -> Frame | None:
        """This dialect has no place for notices."""
        return None

    def expired(self, session: Session) -> None:
        """One that only listens is welcome for ever."""

    def closed(self, session: Session) -> None:
        """Nothing to undo beyond the hub."""
