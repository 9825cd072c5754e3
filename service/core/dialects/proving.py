"""A connection that waits for the operator's connect hook to say who it is.

The hook gets the handshake and the first message. On paths whose clients may never send one (a user's, a worker's) it
gets the handshake alone, at once. Until the hook has answered nothing is sent to the client, and nothing that it sends
has an effect: its messages are kept, in a bound, and handled in their order afterwards. For example, a register and two
heartbeats in one segment are answered in that order, after the hook has answered.

A session that the hook refuses is kept open until its first message, for two reasons: the refusal then has the form of
its dialect, and the message may hold another proof, such as a token or a worker's key. Without one it is closed.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from portico.wire.codes import CloseCode
from portico.wire.faults import PeerFault

from ..connections.authentication import Authentication
from ..connections.session import DialectHandler, Session, SessionDeadlines
from ..ports import Admission
from ..proof import Presented, Proof
from ..reply import Reply
from .no_dialect import NoDialect

MAX_KEPT: Final = 100
"""Messages that are kept while the hook is asked."""
MAX_KEPT_BYTES: Final = 1 << 20
"""Bytes of the messages that are kept; a single message may have any size."""


class ProvingOwner(SessionDeadlines, Protocol):
    """Who opens connections, and keeps their deadlines."""

    def welcome(self, session: Session, admission: Admission) -> None:
        """What is done with a connection whose proof is known, before its first message."""


class _Proving:
    __slots__ = ("admission", "after", "cancel", "kept", "presented", "reply", "size")

    def __init__(self, admission: Admission, presented: Presented, after: DialectHandler) -> None:
        self.admission = admission
        self.after = after  # the handler that takes over when the hook has answered
        self.presented = presented
        self.kept: list[bytes] = []
        self.size = 0
        self.reply: Reply[Proof | PeerFault | None] | None = None  # once the hook was asked
        self.cancel: Callable[[], None] | None = None


class ProvingHandler(NoDialect):
    """Keeps what a session says until the hook has answered."""

    name = "proving"

    def __init__(self, authentication: Authentication, owner: ProvingOwner) -> None:
        self._authentication = authentication
        self._owner = owner
        self._proving: dict[Session, _Proving] = {}

    def begin(self, session: Session, admission: Admission, presented: Presented, patience: float) -> None:
        """The session was opened; its first message must come within `patience` seconds."""
        self._proving[session] = proving = _Proving(admission, presented, session.handler)
        session.handler = self
        if admission.worker or admission.user_id is not None:
            self._ask(session, proving)
        else:
            self._owner.expect(session, patience)

    def receive(self, session: Session, payload: bytes) -> None:
        """One message: the first is what the hook is shown."""
        proving = self._proving[session]
        proving.kept.append(payload)
        proving.size += len(payload)
        if len(proving.kept) > MAX_KEPT or (proving.size > MAX_KEPT_BYTES and len(proving.kept) > 1):
            session.close(CloseCode.POLICY, "too much was said before the gateway knew who says it")
        elif proving.reply is None:
            self._owner.expect(session, None)
            proving.presented = proving.presented._replace(message=payload)
            self._ask(session, proving)

    def _ask(self, session: Session, proving: _Proving) -> None:
        hook = self._authentication.hook
        assert hook is not None
        proving.reply = Reply(partial(self._on_answer, session))
        cancel = hook.ask(proving.presented, proving.reply)
        if session in self._proving:
            proving.cancel = cancel

    def _on_answer(self, session: Session, answer: Proof | PeerFault | None) -> None:
        proving = self._proving.pop(session, None)
        if proving is None or session.over:
            return
        try:
            self._go_on(session, proving, answer)
        except Exception as error:
            session.owner.on_error(session, error)
            session.close(CloseCode.INTERNAL, "internal error")

    def _go_on(self, session: Session, proving: _Proving, answer: Proof | PeerFault | None) -> None:
        authentication, admission = self._authentication, proving.admission
        if isinstance(answer, PeerFault):
            authentication.deny(session, answer)
        else:
            authentication.adopt_from_hook(session, answer)
        session.handler = proving.after
        self._owner.welcome(session, admission)
        for payload in proving.kept:
            session.receive(payload, True)
        denied = authentication.denied(session)
        # On the worker path it may still show a secret, and has its own time for that.
        if denied is not None and not session.over and not admission.worker:
            session.refuse(denied)

    def closed(self, session: Session) -> None:
        """The hook's answer isn't waited for any more."""
        proving = self._proving.pop(session, None)
        if proving is not None and proving.reply is not None:
            proving.reply.withdraw()
            if proving.cancel is not None:
                proving.cancel()
