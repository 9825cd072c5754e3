"""What the gateway does with /ws/{user_id}: echoes to all of the user's connections in this dialect, on every node, and
pushes.
Source: protocol reference, "User dialect"."""

from typing import TYPE_CHECKING, Final

import msgspec

from portico.wire.dialects import user as wire
from portico.wire.dialects.negotiate import Dialect
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import Event, Target

from ..cluster.cluster_messages import ClusterMessages
from ..connections.hub import Hub
from ..connections.session import Session

if TYPE_CHECKING:
    from ..dispatch.model import Outcome, Request

ECHO: Final = "echo"
"""The message among nodes: a user, and what one of the user's connections said."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


class UserHandler:
    """The user dialect's decisions; the path has said who the user is."""

    name = Dialect.USER.value

    def __init__(self, hub: Hub, cluster_messages: ClusterMessages) -> None:
        self._hub = hub
        self._backplane = cluster_messages.backplane
        cluster_messages.on(ECHO, lambda _, body: self._echo(*_decode(body)))

    def opened(self, session: Session) -> None:
        """The gateway has registered the session; it only listens from here."""

    def receive(self, session: Session, payload: bytes) -> None:
        """Any text is echoed, to the sender too."""
        user_id = session.identity.user_id
        if user_id is None:
            return
        self._echo(user_id, payload)
        self._backplane.tell_holders(Target("user_id", user_id), ECHO, _encode((user_id, payload)))

    def _echo(self, user_id: str, payload: bytes) -> None:
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
        """Does nothing: this dialect has no requests."""

    def draining(self, retry_within_ms: int) -> Frame | None:
        """This dialect has no place for notices."""
        return None

    def expired(self, session: Session) -> None:
        """Does nothing: a page may only listen, for as long as it likes."""

    def oversized(self, session: Session, head: bytes) -> None:
        """Does nothing: this dialect answers no requests."""

    def closed(self, session: Session) -> None:
        """Nothing to undo beyond the hub."""
