"""Registrant: who answers a connection about its registration, and with what.

A dialect names one when it has a connection registered, and is told either Registered or a Refusal. It puts that into
words of its own and decides nothing: for example a C-Client is sent `registration_success` with `resume`, and a
connection at `/ws/{user}` is told nothing.

Source: protocol reference, "C-Client dialect" and "Envelope dialect".
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Protocol

from portico.wire.codes import CloseCode
from portico.wire.messages import Event, Identity

from .session import Session


class Registered(NamedTuple):
    """What a client is told: where each of its streams is, of which something is lost, and what greets it. What it
    missed comes next."""

    epoch: str
    offsets: Mapping[str, int]
    lost: Collection[str]
    recovered: bool
    greeting: Event | None

    def resume(self) -> dict[str, object]:
        """What the answer says of the streams, in every dialect that can resume."""
        told: dict[str, object] = {"epoch": self.epoch, "offsets": self.offsets, "recovered": self.recovered}
        if self.lost:
            told["lost"] = sorted(self.lost)
        return told


class Refusal(NamedTuple):
    """Why a registration is refused: `reason` for programs, `message` for people; `close` ends the connection, with
    the reason `closing`."""

    reason: str
    message: str
    close: CloseCode | None = None
    closing: str = ""


class Registrant(Protocol):
    """Who answers a connection about its registration: its dialect."""

    def on_registered(self, session: Session, identity: Identity, registered: Registered) -> None:
        """The session gets every push from now on. What this sends comes before what it missed and all that was
        held."""

    def on_refused(self, session: Session, identity: Identity, refusal: Refusal) -> None:
        """The session is not registered as `identity`; if `refusal.close` is set, it is closed next."""


class Unanswered:
    """The Registrant of connections whose dialect says nothing about it."""

    def on_registered(self, session: Session, identity: Identity, registered: Registered) -> None:
        """Nothing is said."""

    def on_refused(self, session: Session, identity: Identity, refusal: Refusal) -> None:
        """The close says it."""


UNANSWERED: Final = Unanswered()
