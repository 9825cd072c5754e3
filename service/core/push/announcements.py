"""Announcements: a user's other clients are told that there is one more, where the operator wants that.

Each is told by how it differs from the new one: `user_connected_on_another_node` if their `node_id`s differ, else
`user_connected_on_another_client`. Once for each connection and user; registering again as the same tells nobody. Back
ends are told once, if there is any other connection, by the same names. Over all nodes, live: who is away is not told.
"""

from typing import Final

import msgspec
from msgspec import Raw

from portico.wire.dialects.negotiate import Dialect
from portico.wire.messages import Event, Target, encode

from ..back_end_events import BackEndEvents
from ..cluster.cluster_messages import ClusterMessages
from ..connections.hub import Hub
from ..connections.session import Session
from ..reply import Reply

KIND: Final = "connected_elsewhere"
"""The message among nodes: a user, and which client on which node of its own is new."""
ON_CLIENT: Final = "user_connected_on_another_client"
ON_NODE: Final = "user_connected_on_another_node"
_TOLD: Final = (Dialect.C_CLIENT.value, Dialect.ENVELOPE.value)
_New = tuple[str, str | None, str | None]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_New).decode


class Announcements:
    """What is told of this node's new connections, and to this node's connections."""

    def __init__(self, hub: Hub, cluster_messages: ClusterMessages, events: BackEndEvents) -> None:
        self._hub = hub
        self._backplane = cluster_messages.backplane
        self._events = events
        self._announced: dict[Session, str] = {}
        cluster_messages.on(KIND, self._on_elsewhere)

    def on_registered(self, session: Session) -> None:
        """A connection is registered, maybe again."""
        identity = session.identity
        user = identity.user_id
        if user is None or session.worker is not None or session.handler.name not in _TOLD:
            return
        if self._announced.get(session) == user:
            return
        self._announced[session] = user
        new = (user, identity.client_id, identity.node_id)
        here = self._tell(new, session)

        def answered(nodes: int) -> None:
            if (here or nodes) and self._events.listening and not session.over:
                self._events.on_connected_elsewhere(session, here or ON_CLIENT)

        self._backplane.tell_holders(Target("user_id", user), KIND, _encode(new), Reply(answered))

    def on_closed(self, session: Session) -> None:
        """A connection is over."""
        self._announced.pop(session, None)

    def _on_elsewhere(self, _: str, body: bytes) -> None:
        self._tell(_decode(body), None)

    def _tell(self, new: _New, skip: Session | None) -> str | None:
        """Tell those of this node. Returns by what name, None where there was nobody."""
        user, client_id, node_id = new
        named = None
        for other in list(self._hub.find(Target("user_id", user))):
            if other is skip or other.over or other.worker is not None or other.handler.name not in _TOLD:
                continue
            named = ON_CLIENT if other.identity.node_id == node_id else ON_NODE
            where = "client" if named == ON_CLIENT else "node"
            data = {
                "user_id": user,
                "new_client_id": client_id,
                "new_node_id": node_id,
                "message": f"You are connected on another {where} too.",
            }
            frame = other.handler.push(Event(named, Raw(encode(data))))
            if frame is not None:
                other.send(frame)
        return named
