"""QuotaGate: a Gate in front of the gateway's, where there are quotas. Without any it is not there at all.

Refuses handshakes and connections beyond the quota with 503 and `Retry-After`, or 1013 once it is known whose they are;
messages and bytes with 4029. Both closes say in `retry_within_ms` when to come again.
"""

from math import ceil

from portico.wire.codes import CloseCode

from .connections.session import Session
from .gateway import Gateway
from .ports import Admission, Handshake, HttpAnswer, Peer, Receiver
from .quotas import RETRY_AFTER, Quotas, Who, who_is, who_proves
from .refusals import Refusals


class QuotaGate:
    """As the gateway, within the quotas."""

    def __init__(self, gateway: Gateway, quotas: Quotas) -> None:
        self._gateway = gateway
        self._quotas = quotas
        self._metered = quotas.has("messages", "bytes")
        self._known: dict[Session, Who] = {}
        if quotas.has("requests"):
            gateway.authentication.limit = lambda session: quotas.check("requests", who_is(session))

    def admit(self, handshake: Handshake) -> Admission | HttpAnswer:
        """See Gate."""
        admission = self._gateway.admit(handshake)
        if isinstance(admission, HttpAnswer) or admission.key is not None:
            return admission
        proof = admission.proof
        who = Who(handshake.address) if proof is None else who_proves(proof, handshake.address)
        wait = self._quotas.take("handshakes", who)
        if not wait and self._quotas.has_room(who):
            return admission
        self._gateway.refusals.on_refused("limit_quota", handshake.address)
        return self._gateway.admission_control.refusing(handshake, _not_now(wait or RETRY_AFTER))

    def opened(self, peer: Peer, admission: Admission) -> Receiver:
        """See Gate."""
        session = self._gateway.opened(peer, admission)
        self.on_known(session)
        if not self._metered or session.trusted:
            return session
        return Metered(session, self._quotas, self._gateway.refusals)

    def on_known(self, session: Session) -> None:
        """Count a session for its user and tenant, which are known now or have changed; close it if it is too many."""
        if session.over or not self._quotas.has("connections"):
            return
        before, who = self._known.get(session), who_is(session)
        if before == who:
            return
        self._known[session] = who
        if before is not None:
            self._quotas.closed(session, before, but=who)
        if not self._quotas.opened(session, who):
            self._gateway.refusals.on_refused("limit_quota", session.address)
            self.turn_away(session)

    def on_closed(self, session: Session) -> None:
        """A session is over."""
        who = self._known.pop(session, None)
        if who is not None:
            self._quotas.closed(session, who)

    @staticmethod
    def turn_away(session: Session) -> None:
        """Close a connection that is one too many."""
        session.close(CloseCode.TRY_LATER, f"retry_within_ms={int(RETRY_AFTER * 1000)}")


class Metered:
    """A session's messages, within the quotas."""

    __slots__ = ("_quotas", "_refusals", "_session")

    def __init__(self, session: Session, quotas: Quotas, refusals: Refusals) -> None:
        self._session = session
        self._quotas = quotas
        self._refusals = refusals

    def receive(self, payload: bytes, text: bool) -> None:
        """See Receiver."""
        session = self._session
        who = who_is(session)
        wait = self._quotas.take("messages", who) or self._quotas.take("bytes", who, len(payload))
        if wait:
            if not session.over:
                self._refusals.on_refused("limit_quota", session.address)
            session.close(CloseCode.RATE_LIMITED, f"retry_within_ms={ceil(wait * 1000)}")
            return
        session.receive(payload, text)

    def oversized(self, head: bytes) -> None:
        """See Receiver."""
        self._session.oversized(head)

    def closed(self, code: int, reason: str) -> None:
        """See Receiver."""
        self._session.closed(code, reason)


def _not_now(wait: float) -> HttpAnswer:
    return HttpAnswer(
        503,
        (("content-type", "text/plain; charset=utf-8"), ("retry-after", str(ceil(wait)))),
        b"Not now: there are too many connections from here. Try again later, with back-off.\n",
    )
