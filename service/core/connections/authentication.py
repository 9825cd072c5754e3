"""Authentication: what a connection must have proven to come in, and to be who it says it is.

Three modes. *off*: tokens are not looked at. *optional*: a connection that shows a token is held to it, one without
comes in as with *off*. *required*: without a token a connection can't register or ask (an API key or a worker's secret
counts too, for what it opens). In the latter two a token that doesn't hold is refused, never passed over.

Where nothing is proven, in production, `/requester` and `/ws/{user_id}` are closed unless the operator opens them, and
nobody but a proven admin, or a program with an API key, is told about other clients.

Knows what was proven, never how a token is checked; that is the Tokens'. Source: protocol reference, "Trust".
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.dialects.negotiate import Dialect
from portico.wire.faults import PeerFault
from portico.wire.messages import Identity

from ..api_keys import ApiKey, Scope, lacks
from ..deadlines import DeadlineWheel
from ..locality import Locality
from ..ports import Handshake, Monotonic, Wall
from ..proof import ConnectHook, KeyAwaited, NotProven, Presented, Proof, Tokens, not_allowed
from ..refusals import Refusals, SlowedDown
from ..revocations import RevocationIndex
from .handshake_tokens import looks_like_token, token_of
from .session import Session

Mode = Literal["off", "optional", "required"]
WayIn = Literal["open", "optional", "token", "closed"]
"""What a page, which can show no API key, needs to come in. `open`: nothing. `optional`: nothing, but a token that it
shows counts. `token`: a token. `closed`: it can't come in."""
GRACE_AFTER_EXPIRY: Final = 25.0
"""Seconds that a connection stays after its token's end, for a refresh that is under way."""
EXPIRED: Final = "the token has expired"


@dataclass(frozen=True, slots=True)
class AuthenticationRules:
    """The mode, and which paths are open to those who have proven nothing."""

    mode: Mode = "off"
    production: bool = False
    open_requesters: bool = False
    open_users: bool = False


class NothingProven(PeerFault):
    """The path is closed to a handshake without proof: it shows no secret, or an unknown one."""


class Authentication:
    """The one owner of these rules. Tokens are checked, and the connect hook is asked, where the mode is not off."""

    def __init__(
        self,
        rules: AuthenticationRules,
        tokens: Tokens | None,
        revocations: RevocationIndex,
        hook: ConnectHook | None = None,
        *,
        refusals: Refusals,
        now: Monotonic,
        wall: Wall,
    ) -> None:
        if (rules.mode == "off") != (tokens is None and hook is None):
            raise ValueError("proofs are looked at where the mode says so, and nowhere else")
        self.rules: Final = rules
        self._tokens = tokens
        self._revocations = revocations
        self.refusals: Final = refusals
        self.hook: Final = hook
        self._denied: dict[Session, PeerFault] = {}
        self._now = now
        self._wall = wall
        self._ends: DeadlineWheel[Session] = DeadlineWheel(1.0)
        self.refused: Counter[str] = Counter()
        """Refusals, by cause."""
        self.limit: Callable[[Session], None] | None = None
        """Where requests have a quota: takes one of it, or raises PeerFault."""

    # At the door

    def of_handshake(self, handshake: Handshake, dialect: str, user_id: str | None, key: ApiKey | None) -> Proof | None:
        """What a handshake proves. `key`: the API key that it bears. Raises PeerFault for one that may not come in
        here.

        A handshake without proof is not refused yet on a path whose first message can bear a token. Where no token is
        shown, a client's certificate counts, whatever the mode.
        """
        token = None if self._tokens is None else token_of(handshake, is_key=key is not None)
        proof = handshake.certificate if token is None else self._verified(token, handshake.address)
        if key is not None or proof is not None or self.hook is None:
            self.check_way_in(proof, dialect, user_id, key)
        return proof

    def presented(self, handshake: Handshake, proof: Proof | None, key: ApiKey | None) -> Presented | None:
        """What the connect hook is to be shown of a handshake, before anything else is done with the connection; None
        where it is not asked, since there is no hook, or the handshake has proven something by itself."""
        if self.hook is None or key is not None or proof is not None:
            return None
        shown = {name: handshake.headers[name] for name in self.hook.headers if name in handshake.headers}
        return Presented(handshake.path, handshake.query, handshake.address, shown)

    def check_way_in(self, proof: Proof | None, dialect: str, user_id: str | None, key: ApiKey | None) -> None:
        """Whether a connection with this proof may come in on a path that leads to one dialect. Raises PeerFault."""
        self._check_not_revoked(proof)
        self._check_dialect(proof, dialect, user_id, key)
        # Checked last: only a connection that may be this user is told that she was taken back.
        self._check_not_revoked(None, user_id)

    def _check_dialect(self, proof: Proof | None, dialect: str, user_id: str | None, key: ApiKey | None) -> None:
        if dialect == Dialect.REQUESTER.value:
            self._check_requester(proof, key)
        elif dialect == Dialect.USER.value:
            if key is not None and key.may("admin"):
                return
            self._check_path(proof, ("client", "admin"), self.rules.open_users, "PORTICO_OPEN_USERS", key, "admin")
            if proof is not None and not proof.is_operator and proof.user_id != user_id:
                self.refused["other_user"] += 1
                raise not_allowed("user_id")

    def refusal_after_hook(self, session: Session, dialect: str, user_id: str | None) -> PeerFault | None:
        """Why a session on a path that leads to one dialect may not come in, now that the hook has answered."""
        denied = self._denied.get(session)
        if denied is not None:
            # On other paths the refusal is the answer to the first message.
            return denied if user_id is not None else None
        try:
            self.check_way_in(session.proof, dialect, user_id, session.key)
        except PeerFault as fault:
            return fault
        return None

    def _check_requester(self, proof: Proof | None, key: ApiKey | None) -> None:
        if key is None or not key.may("request"):
            roles = ("requester", "admin")
            self._check_path(proof, roles, self.rules.open_requesters, "PORTICO_OPEN_REQUESTERS", key, "request")

    def _check_path(
        self,
        proof: Proof | None,
        roles: tuple[str, ...],
        is_open: bool,
        setting: str,
        key: ApiKey | None,
        scope: Scope,
    ) -> None:
        """Paths whose dialect has no place for a token. `setting`: what opens this one to everybody; `key` is one that
        lacks the `scope` for it."""
        if proof is None:
            shut = self.rules.mode == "required" or (self.rules.production and not is_open)
            if key is not None and shut:
                self.refused["scope"] += 1
                raise lacks(scope)
            if self.rules.mode == "required":
                raise self._missing()
            if self.rules.production and not is_open:
                self.refused["missing"] += 1
                what = f"an API key with the scope {scope}" + ("" if self.rules.mode == "off" else ", or a token")
                raise NothingProven(
                    ErrorCode.FORBIDDEN,
                    f"Send {what}: Authorization: Bearer <key>. "
                    f"(The gateway's operator can open this to everybody: {setting}.)",
                    close=CloseCode.NOT_ALLOWED,
                )
        elif proof.role not in roles:
            raise self._wrong_role()

    # In the first message, and later

    def adopt(self, session: Session, proof: Proof | None) -> None:
        """The session has proven this; it is closed GRACE_AFTER_EXPIRY seconds after the proof's end."""
        session.proof = proof
        self._ends.discard(session)
        if proof is not None:
            self._denied.pop(session, None)
        if proof is not None and proof.expires_at is not None:
            self._ends.add(session, self._now() + proof.expires_at - self._wall() + GRACE_AFTER_EXPIRY)

    def forget(self, session: Session) -> None:
        """The session is over."""
        self._ends.discard(session)
        self._denied.pop(session, None)

    def deny(self, session: Session, fault: PeerFault) -> None:
        """The connect hook refuses the session, or could not be asked. The session is told so when it registers or
        asks, unless its first message bears a token that holds."""
        self.refused["hook_failed" if fault.code is ErrorCode.UNAVAILABLE else "hook"] += 1
        self._denied[session] = fault

    def adopt_from_hook(self, session: Session, proof: Proof | None) -> None:
        """The connect hook has said who the session is. What was taken back is denied, whatever the hook says."""
        try:
            self._check_not_revoked(proof)
        except NotProven as fault:
            self._denied[session] = fault
        else:
            self.adopt(session, proof)

    def denied(self, session: Session) -> PeerFault | None:
        """Why the session may not stay, unless it has shown something better since; None if it may."""
        return None if session.worker is not None else self._denied.get(session)

    def wants_proof(self, session: Session) -> bool:
        """Whether the mode is *required* and the session has shown nothing yet: no token, no API key, and no secret
        that made it a worker."""
        return (
            self.rules.mode == "required" and session.proof is None and session.key is None and session.worker is None
        )

    def _check_denied(self, session: Session) -> None:
        fault = self._denied.get(session)
        if fault is not None:
            raise PeerFault(fault.code, fault.message, close=fault.close)

    def tick(self) -> None:
        """Close whose proof has ended. To be called every 100 ms or so."""
        for session in self._ends.expire(self._now()):
            self.refused["expired"] += 1
            self.refusals.on_refused("expired", session.address)
            session.close(CloseCode.NOT_AUTHENTICATED, EXPIRED)

    def identity_of(self, session: Session, token: str | None, asked: Identity) -> Identity:
        """The identity that a session gets which registers as `asked`. `token`: the registration's own, which takes
        the place of the session's proof; None: what the session has proven before counts.

        Raises PeerFault, closing with 4001 or 4003.
        """
        if token is not None and self._tokens is not None:
            self.adopt(session, self._verified(token, session.address))
        self._check_denied(session)
        self._check_not_revoked(session.proof)
        identity = self._provable(session, asked)
        # Checked last: only a connection that may be this user is told that she was taken back.
        self._check_not_revoked(None, identity.user_id)
        return identity

    def _provable(self, session: Session, asked: Identity) -> Identity:
        proof = session.proof
        if self.rules.mode == "off":
            return asked
        if proof is None:
            if self.rules.mode == "required":
                self._check_key_of(session, "admin")
            return asked
        if proof.is_operator:
            return asked
        if proof.role not in ("client", "admin"):
            raise self._wrong_role()
        try:
            return proof.identity(asked)
        except PeerFault:
            self.refused["other_user"] += 1
            raise

    @property
    def way_in_for_pages(self) -> WayIn:
        """What a page needs to ask workers, as far as the settings say. A connect hook decides for each connection, for
        example by its cookies, so with one nothing is needed in advance (`optional`)."""
        rules = self.rules
        if rules.mode == "off":
            return "closed" if rules.production and not rules.open_requesters else "open"
        shut = rules.mode == "required" or (rules.production and not rules.open_requesters)
        return "token" if shut and self.hook is None else "optional"

    @property
    def client_way_in_for_pages(self) -> WayIn:
        """The same for a page that registers a client. Never "closed": any client may try."""
        if self.rules.mode == "off":
            return "open"
        return "token" if self.rules.mode == "required" and self.hook is None else "optional"

    def check_requester(self, session: Session) -> None:
        """Whether a session whose first message is a requester's may be one. Raises PeerFault, closing."""
        self._check_denied(session)
        self._check_requester(session.proof, session.key)

    def worker_of(self, session: Session, token: str | None) -> Proof | None:
        """What a session that wants to be a worker proves by a token; None where it shows none, so that it needs
        another secret. Raises PeerFault where the token is not a worker's."""
        if self._tokens is not None and token is not None and looks_like_token(token):
            self.adopt(session, self._verified(token, session.address))
        proof = session.proof
        if proof is None and token is not None:
            self.refusals.check(session.address, token)
        if proof is not None and proof.role not in ("worker", "admin"):
            raise self._wrong_role()
        return proof

    def check_worker(self, session: Session, proof: Proof | None, asked: Identity) -> None:
        """Whether a worker may register as `asked`: its proof, if it has one, has to allow that; an admin's allows
        everything. A handshake key or an API key names nobody. So where the mode is `required`, only a key with the
        scope `admin` lets a worker register under a `user_id`, since it would get that user's pushes and history.
        Raises PeerFault, closing with 4001 or 4003."""
        named = proof is None and asked.user_id is not None and self.rules.mode == "required"
        if named and (session.key is None or not session.key.may("admin")):
            self.refused["other_user"] += 1
            raise not_allowed("user_id")
        if proof is not None and not proof.is_operator:
            try:
                proof.identity(asked)
            except PeerFault:
                self.refused["other_user"] += 1
                raise
        self._check_not_revoked(None, asked.user_id)

    def refresh(self, session: Session, token: str) -> float | None:
        """A newer token of the same user's. Returns when it ends, in Unix time (None: never).

        Raises PeerFault; the session then keeps what it has, until that ends.
        """
        if self._tokens is None or session.proof is None:
            raise PeerFault(ErrorCode.FORBIDDEN, "There is no token to refresh on this connection.", field="token")
        try:
            proof = self._verified(token, session.address)
            if not session.proof.renewed_by(proof):
                self.refused["other_user"] += 1
                raise not_allowed("user_id")
            self._check_covers(proof, session)
        except PeerFault as fault:
            fault.field, fault.close = "token", None
            raise
        self.adopt(session, proof)
        return proof.expires_at

    def _check_covers(self, proof: Proof, session: Session) -> None:
        """Whether a proof allows what its session is already: a narrower token doesn't lengthen what a wider one gave.
        Raises PeerFault."""
        try:
            if not proof.is_operator:
                proof.check_fields(session.identity)
            if session.worker is not None and not proof.covers_commands(session.worker.commands):
                raise not_allowed("commands")
        except PeerFault:
            self.refused["other_user"] += 1
            raise

    def is_covered(self, session: Session) -> bool:
        """Whether a session's proof, if it has one, is of the user that the session is registered as."""
        proof = session.proof
        if self.rules.mode == "off" or proof is None or proof.is_operator:
            return True
        return session.identity.user_id in (None, proof.user_id)

    # What one may

    def sees_others(self, session: Session) -> bool:
        """Whether it may be told about other clients."""
        proof = session.proof
        if session.key is not None and session.key.may("clients:read"):
            return True
        if proof is not None and proof.is_operator:
            return True  # a tenant's own admin would see the clients of all others
        if proof is not None or self.rules.production or self.rules.mode == "required":
            return False
        # In development any page that the developer opens may connect, so a foreign one is told nothing of others.
        return session.locality is not Locality.FOREIGN_PAGE

    def check_command(self, session: Session, command: str, *, ours: bool = False) -> None:
        """Raises PeerFault: `forbidden` where the session's proof doesn't cover the command, `unauthorized` where there
        has to be one and is none (a worker has shown its key instead), `rate_limited` for more than a quota allows.
        `ours`: the gateway answers it, so that it is as open as its connections, and not as its requesters."""
        if self.limit is not None:
            self.limit(session)
        if session.worker is None:
            self._check_denied(session)
        if session.proof is None and session.worker is None:
            if self.rules.mode == "required":
                self._check_key_of(session, "request")
            elif not ours:
                self._check_open(session)
        if session.proof is not None and not session.proof.may_use(command):
            raise PeerFault(ErrorCode.FORBIDDEN, "The token doesn't allow this command.", field="command")

    def _check_open(self, session: Session) -> None:
        """Whether a connection without a proof may call workers: in every dialect the rule is that of requesters."""
        try:
            self._check_requester(None, session.key)
        except PeerFault as fault:
            # Without the close: only this request is refused, and the connection goes on.
            raise PeerFault(fault.code, fault.message) from None

    def _check_key_of(self, session: Session, scope: Scope) -> None:
        """Whether the session has shown an API key with this scope, which counts where a token is missing."""
        if session.key is None:
            raise self._missing()
        if not session.key.may(scope):
            self.refused["scope"] += 1
            raise lacks(scope)

    def _verified(self, token: str, address: str) -> Proof:
        assert self._tokens is not None
        try:
            proof = self._tokens.verify(token)
        except NotProven as fault:
            self.refused[fault.cause] += 1
            wait = self.refusals.wait(address)
            if wait:
                raise SlowedDown(wait) from None
            raise
        except KeyAwaited as fault:
            self.refused[fault.cause] += 1
            raise
        self._check_not_revoked(proof)
        return proof

    def on_revoked(self, session: Session) -> None:
        """A connection was closed, since what it is, or has proven, was taken back."""
        self.refused["revoked"] += 1
        self.refusals.on_refused("revoked", session.address)

    def _check_not_revoked(self, proof: Proof | None, user_id: str | None = None) -> None:
        """Raises NotProven if this proof was revoked, or everything of this user's."""
        if (proof is not None and self._revocations.covers(proof)) or self._revocations.covers_user(user_id):
            self.refused["revoked"] += 1
            raise NotProven("revoked", "This access was taken back.")

    def _missing(self) -> NotProven:
        self.refused["missing"] += 1
        return NotProven("missing", "A token is needed here: in Authorization, or as `token` in the first message.")

    def _wrong_role(self) -> PeerFault:
        self.refused["role"] += 1
        return PeerFault(
            ErrorCode.FORBIDDEN, "The token is for another role.", field="role", close=CloseCode.NOT_ALLOWED
        )


def same_principal(one: Session, other: Session) -> bool:
    """Whether two connections have proven the same, or both nothing: only then may one replace the other."""
    if one.proof is None or other.proof is None:
        return one.proof is other.proof
    return one.proof.renewed_by(other.proof)
