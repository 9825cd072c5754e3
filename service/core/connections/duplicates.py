"""Duplicates: of a client that is connected at two nodes, the newer connection stays.

On one node registration itself sees to that; here is what holds between nodes. A session that has come to be among
those that pushes are for says so to the nodes that hold the same `client_id`; whichever of the two is older goes, and
where that is the one that spoke, it is told in the same words. Both hear of the other, even if they come at the same
moment, since each speaks after it can hear: so exactly one survives.

The clocks of two nodes may differ. One that has been there for SURE seconds by its own clock is the older one, whatever
the clocks show; between two that came together it matters to nobody which one stays, only that it is one.

Source: protocol reference, "C-Client dialect".
"""

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from portico.wire.codes import CloseCode
from portico.wire.messages import Identity, Target, encode

from ..cluster.cluster_messages import ClusterMessages
from ..ports import Wall
from .hub import Hub
from .session import Session

CLAIM: Final = "claim"
"""The kind of the message among nodes."""
SURE: Final = 3.0
REPLACED: Final = "replaced by a newer connection of this client"


class _Claim(Struct, array_like=True):
    client_id: str
    user_id: str | None
    node_id: str | None
    at: float
    session: str


_claim = msgspec.json.Decoder(_Claim).decode


class Duplicates:
    """Who stays, of two with the same `client_id`, `user_id` and `node_id`. `concerns` says which sessions may be
    replaced at all; `forget` takes one out of the hub, so that nothing is pushed to it any more."""

    def __init__(
        self,
        hub: Hub,
        cluster_messages: ClusterMessages,
        *,
        wall: Wall,
        concerns: Callable[[Session], bool],
        forget: Callable[[Session], None],
    ) -> None:
        self._hub = hub
        self._cluster_messages = cluster_messages
        self._wall = wall
        self._concerns = concerns
        self._forget = forget
        cluster_messages.on(CLAIM, self._heard)

    def claim(self, session: Session) -> None:
        """The session has just joined: older ones of the same client, elsewhere, have to go."""
        client_id = session.identity.client_id
        if client_id is not None and self._concerns(session):
            self._cluster_messages.backplane.tell_holders(Target("client_id", client_id), CLAIM, _claim_of(session))

    def _heard(self, sender: str, body: bytes) -> None:
        claim = _claim(body)
        now = self._wall()
        same = self._hub.same_client(Identity(claim.client_id, user_id=claim.user_id, node_id=claim.node_id))
        for session in same:
            at = session.registered_at
            if at is None or session.over or not self._concerns(session):
                continue  # one that is joining will speak for itself
            if now - at > SURE or (at, session.id) < (claim.at, claim.session):
                self._forget(session)
                session.close(CloseCode.REPLACED, REPLACED)
            else:
                self._cluster_messages.tell(sender, CLAIM, _claim_of(session))


def _claim_of(session: Session) -> bytes:
    identity, at = session.identity, session.registered_at
    return encode((identity.client_id, identity.user_id, identity.node_id, at, session.id))
