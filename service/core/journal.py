"""Journal: where the core says what happened, for people. A port; and the one who sees that it breaks nothing.

What only reports must not be able to break: the core tells its journal in the middle of changing its tables, and an
exception there would leave a connection that is counted and that nobody closes.
"""

from collections.abc import Callable
from typing import Protocol

from portico.wire.faults import PeerFault

from .connections.session import Session
from .counters import Counters


class Journal(Protocol):
    """Where the core says what happened, for people. Implementations keep untrusted text harmless."""

    def on_opened(self, session: Session) -> None:
        """A connection was accepted."""

    def on_registered(self, session: Session) -> None:
        """A connection was told that it is registered, or registered anew."""

    def on_closed(self, session: Session, code: int, reason: str, seconds: float) -> None:
        """A connection is over, after so many seconds."""

    def on_fault(self, session: Session, fault: PeerFault) -> None:
        """A message was refused."""

    def on_refused(self, cause: str, address: str) -> None:
        """Somebody was refused at the door, or closed for want of a proof or for too much."""

    def on_error(self, session: Session | None, error: Exception) -> None:
        """A bug of ours came up, while something of a session's was handled, or of another node's."""


class ContainedJournal:
    """A Journal that passes on what it is told, and never raises; what the other raises is counted."""

    def __init__(self, journal: Journal, counters: Counters) -> None:
        self._journal = journal
        self._counters = counters

    def on_opened(self, session: Session) -> None:
        """See Journal."""
        self._tell(self._journal.on_opened, session)

    def on_registered(self, session: Session) -> None:
        """See Journal."""
        self._tell(self._journal.on_registered, session)

    def on_closed(self, session: Session, code: int, reason: str, seconds: float) -> None:
        """See Journal."""
        self._tell(self._journal.on_closed, session, code, reason, seconds)

    def on_fault(self, session: Session, fault: PeerFault) -> None:
        """See Journal."""
        self._tell(self._journal.on_fault, session, fault)

    def on_refused(self, cause: str, address: str) -> None:
        """See Journal."""
        self._tell(self._journal.on_refused, cause, address)

    def on_error(self, session: Session | None, error: Exception) -> None:
        """See Journal."""
        self._tell(self._journal.on_error, session, error)

    def _tell(self, call: Callable[..., None], *what: object) -> None:
        try:
            call(*what)
        except Exception:
            # Counted and not reported: the journal, where bugs are reported, is what failed.
            self._counters.contained_errors += 1
