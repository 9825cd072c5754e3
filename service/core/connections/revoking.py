"""Revoking: taking back what connections have proven, here and at every node.

A connection whose token, user or tenant is named by a revocation is closed with 4001, and refused when it comes back. A
revocation that comes in marks the node. At the next tick the node looks at all its connections once, however many
revocations came, in slices of SLICE, with other work between the slices. So a thousand revocations cost what one does.
Connections that are joining, or being sent what they missed, are among them.

Source: protocol reference, "Trust".
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from portico.wire.codes import CloseCode
from portico.wire.faults import PeerFault

from ..cluster.cluster_messages import ClusterMessages
from ..ports import Defer, Wall
from ..reply import Reply
from ..revocations import LIMIT, Revocation, RevocationIndex, RevocationStore, too_many
from .authentication import Authentication
from .session import Session

SLICE: Final = 1000
"""Connections that are looked at in one go, in about a millisecond."""
TAKEN_BACK: Final = "this access was taken back"
HINT: Final = "revoked"
"""The kind of message by which nodes tell each other to look at the store."""


class Revoking:
    """One node's part in it. `sessions` are all of its connections; `index` holds what is revoked, and the
    `authentication` that refuses by it is told of each connection that is closed."""

    def __init__(
        self,
        sessions: Mapping[Session, None],
        store: RevocationStore,
        cluster_messages: ClusterMessages,
        index: RevocationIndex,
        authentication: Authentication,
        *,
        defer: Defer,
        wall: Wall,
    ) -> None:
        self._sessions = sessions
        self.store: Final = store
        self._cluster_messages = cluster_messages
        self._defer = defer
        self._wall = wall
        self.index: Final = index
        self._authentication = authentication
        self._fresh = False
        self._looking: Iterator[Session] | None = None
        store.attach(self)
        cluster_messages.on(HINT, lambda sender, body: store.look())

    def revoke(self, revocation: Revocation, reply: Reply[PeerFault | None]) -> None:
        """Take something back. The reply is given when it is kept, and then every node closes what it names within a
        second."""
        if len(self.index) >= LIMIT and revocation not in self.index:
            reply(too_many())
            return

        def kept(fault: PeerFault | None) -> None:
            if fault is None:
                self.on_revoked([revocation])
                self._cluster_messages.backplane.tell_all(HINT, b"")
            reply(fault)

        self.store.add(revocation, Reply(kept))

    def on_revoked(self, revocations: list[Revocation]) -> None:
        """These hold from now on (the store's observer)."""
        now = self._wall()
        for revocation in revocations:
            if revocation.expires_at > now and self.index.add(revocation):
                self._fresh = True

    def known(self) -> list[Revocation]:
        """All that hold (the store's observer)."""
        return list(self.index)

    def names(self, session: Session) -> bool:
        """Whether what a session is, or has proven, was taken back."""
        proof = session.proof
        if proof is not None and self.index.covers(proof):
            return True
        return self.index.covers_user(session.identity.user_id)

    def tick(self) -> None:
        """Forget what is over, and close who was named since. To be called every 100 ms or so."""
        self.index.expire(self._wall())
        if self._fresh and self._looking is None:
            self._fresh = False
            self._looking = iter(list(self._sessions))
            self._look()

    def _look(self) -> None:
        assert self._looking is not None
        some = list(islice(self._looking, SLICE))
        for session in some:
            if not session.over and self.names(session):
                session.close(CloseCode.NOT_AUTHENTICATED, TAKEN_BACK)
                self._authentication.on_revoked(session)
        if len(some) == SLICE:
            self._defer(self._look)
        else:
            self._looking = None
