"""Takeover: what registration knows of connections at other nodes: newer ones of the same client, and a user's.

*Of one client that is connected at two nodes the newer connection stays*, whatever the nodes' clocks show. A session
that has joined sends a claim to the nodes that hold its `client_id`. A node that has another session of this client
answers that this session stands there. The claimer then decides. If it has not heard that session's own claim since it
joined, that session is older, and has to go: its claim went out before the claimer could hear it, and messages of one
node arrive in their order. If each has heard the other's claim, they came at the same time, and the one with the
greater connection id stays. So exactly one survives.

*How many connections a user has* over all nodes is asked of the nodes that hold the user: each counts its connections
that came before the new one. A node that does not answer in time is not counted, so a slow node shuts nobody out. Only
connections with the same proof count together, so that nobody takes a user's places by using her name.

Source: protocol reference, "C-Client dialect" and "Limits".
"""

from collections import deque
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from portico.wire.messages import Identity, Target, encode

from ..cluster.cluster_messages import ClusterMessages
from ..cluster.survey import SurveyResult
from ..reply import Reply
from .authentication import same_principal
from .hub import Hub
from .session import Session

CLAIM: Final = "claim"
STAND: Final = "claim_stands"
GO: Final = "claim_go"
"""The kinds of messages among nodes: a session has joined; one of the same client is here; that one is to go."""
COUNT: Final = "before"
"""The kind of the question among nodes: how many of a user's connections came before one."""
REMEMBERED: Final = 10_000
"""How many heard claims are remembered. One that is forgotten too soon counts as not heard."""
REPLACED: Final = "replaced by a newer connection of this client"


class _Claim(Struct, array_like=True):
    client_id: str
    user_id: str | None
    node_id: str | None
    at: float  # read by nodes of earlier versions only
    session: str
    dialect: str = "c_client"
    principal: str = ""


class _Standing(Struct, array_like=True):
    """The answer to a claim: the session with the id `session` stands, and has heard the claim of `claimer`."""

    client_id: str
    session: str
    claimer: str


_claim = msgspec.json.Decoder(_Claim).decode
_standing = msgspec.json.Decoder(_Standing).decode
_question = msgspec.json.Decoder(tuple[str, float, str]).decode
_number = msgspec.json.Decoder(int).decode


class ClaimObserver(Protocol):
    """Who closes a session that lost its client to another node."""

    def on_replaced(self, session: Session) -> None:
        """A newer connection of this client is at another node: this one is to go."""


class SessionTakeover:
    """One node's claims, and what it heard of the others'. `limit`: connections of a user, 0 for any number."""

    def __init__(self, hub: Hub, cluster_messages: ClusterMessages, observer: ClaimObserver, *, limit: int) -> None:
        self._hub = hub
        self._cluster_messages = cluster_messages
        self._observer = observer
        self._limit = limit
        self._heard: set[tuple[str, str]] = set()  # (session here, claimer there)
        self._heard_in_order: deque[tuple[str, str]] = deque()
        self.refused = 0
        """Registrations refused since their user had too many connections."""
        cluster_messages.on(CLAIM, self._on_claim)
        cluster_messages.on(STAND, self._on_stand)
        cluster_messages.on(GO, self._on_go)
        cluster_messages.answer_to(COUNT, lambda body: encode(self._before(*_question(body))))

    # The newer connection of a client

    def claim(self, session: Session) -> None:
        """The session has just joined: have an older one of the same client, at another node, closed."""
        identity = session.identity
        if session.replaceable and identity.client_id is not None:
            claim = _Claim(
                identity.client_id,
                identity.user_id,
                identity.node_id,
                session.registered_at or 0.0,
                session.id,
                session.handler.name,
                principal(session),
            )
            self._cluster_messages.backplane.tell_holders(Target("client_id", identity.client_id), CLAIM, encode(claim))

    def _on_claim(self, sender: str, body: bytes) -> None:
        claim = _claim(body)
        for session in self._hub.same_client(Identity(claim.client_id, user_id=claim.user_id, node_id=claim.node_id)):
            if session.handler.name != claim.dialect or not session.replaceable:
                continue
            if principal(session) != claim.principal:
                continue
            if session.over or session.registered_at is None:
                continue  # one that is joining will claim for itself
            self._remember(session.id, claim.session)
            standing = _Standing(claim.client_id, session.id, claim.session)
            self._cluster_messages.tell(sender, STAND, encode(standing))

    def _on_stand(self, sender: str, body: bytes) -> None:
        standing = _standing(body)
        session = self._find(standing.client_id, standing.claimer)
        if session is None:
            return
        if (session.id, standing.session) in self._heard and session.id < standing.session:
            self._observer.on_replaced(session)
        else:
            self._cluster_messages.tell(sender, GO, body)

    def _on_go(self, _: str, body: bytes) -> None:
        standing = _standing(body)
        session = self._find(standing.client_id, standing.session)
        if session is not None:
            self._observer.on_replaced(session)

    def _find(self, client_id: str, session_id: str) -> Session | None:
        for session in self._hub.find(Target("client_id", client_id)):
            if session.id == session_id and not session.over:
                return session
        return None

    def _remember(self, session_id: str, claimer: str) -> None:
        pair = (session_id, claimer)
        self._heard.add(pair)
        self._heard_in_order.append(pair)
        if len(self._heard_in_order) > REMEMBERED:
            self._heard.discard(self._heard_in_order.popleft())

    # A user's connections

    def is_full_here(self, session: Session, user_id: str | None) -> bool:
        """Whether this node alone holds as many connections of the user as there may be, beside this one."""
        if not self._limit or user_id is None:
            return False
        others = self._hub.find(Target("user_id", user_id))
        if len(others) < self._limit:
            return False
        count = sum(1 for s in others if s is not session and not s.over and same_principal(s, session))
        return count >= self._limit

    def count(self, session: Session, reply: Reply[int]) -> None:
        """How many connections of its user came before this one, which has just joined; over all nodes."""
        user_id, at = session.identity.user_id, session.registered_at
        # A session that has joined under a user's name has both.
        assert user_id is not None
        assert at is not None
        # Earlier versions take all of it for the session's id, which they compare only if two joined at one moment.
        name = f"{session.id} {principal(session)}"
        here = self._before(user_id, at, name)
        if here >= self._limit:
            reply(here)
            return

        def on_counted(result: SurveyResult) -> None:
            total = here
            for answer in result.answers:
                try:
                    total += _number(answer.body)
                except msgspec.MsgspecError:  # another version's answer
                    continue
            reply(total)

        question = encode((user_id, at, name))
        self._cluster_messages.ask_holders(Target("user_id", user_id), COUNT, question, Reply(on_counted))

    def _before(self, user_id: str, at: float, name: str) -> int:
        """How many connections of a user at this node came before another one and have the same proof. The other joined
        `at` (Unix seconds); its `name` is its id, a space, and what it has proven."""
        claimer, _, proven = name.partition(" ")
        return sum(
            1
            for session in self._hub.find(Target("user_id", user_id))
            if session.registered_at is not None
            and not session.over
            and (session.registered_at, session.id) < (at, claimer)
            and principal(session) == proven
        )


def principal(session: Session) -> str:
    """What a session has proven, as text. A connection is replaced only by one that has proven the same."""
    proof = session.proof
    return "" if proof is None else encode([proof.user_id, proof.role, proof.tenant]).decode()
