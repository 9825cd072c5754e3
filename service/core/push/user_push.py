"""Pushes of the gateway's own to all of a user's clients, on every node, of which one connection may be left out.

For example, what a client reports of its automatic login goes to the user's other clients. With nobody left out it is
a push through the backplane like any other. Otherwise it goes to the connections of this node directly, and to other
nodes as a message, since the backplane cannot leave one connection out. Live, and at most once. There is no order
between the two ways.
"""

from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Raw, Struct

from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target, encode

from ..cluster.backplane import Publication
from ..cluster.cluster_messages import ClusterMessages
from ..connections.session import Session
from ..reply import Reply
from .delivery import Delivery

KIND: Final = "user_push"
"""The kind of the message among nodes."""


class _Passed(Struct, array_like=True):
    """A push on its way to another node."""

    user_id: str
    type: str
    data: Raw


_passed = msgspec.json.Decoder(_Passed)


class UserPush:
    """Pushes to users' clients."""

    def __init__(self, delivery: Delivery, cluster_messages: ClusterMessages) -> None:
        self._delivery = delivery
        self._backplane = cluster_messages.backplane
        cluster_messages.on(KIND, self._on_passed)

    def push(self, user_id: str, event: Event, skip: Session | None, reply: Reply[PeerFault | None]) -> None:
        """Push to the user's connections, but for `skip`. `reply` gets a PeerFault where that was refused."""
        target = Target("user_id", user_id)
        if skip is None:
            self._backplane.publish(
                Publication(target, event),
                Reply(lambda result: reply(result if isinstance(result, PeerFault) else None)),
            )
            return
        try:
            self._delivery.deliver(target, event, skip=skip)
        except PeerFault as fault:
            reply(fault)
            return
        self._backplane.tell_holders(target, KIND, encode(_Passed(user_id, event.type, event.data)))
        reply(None)

    def _on_passed(self, _: str, body: bytes) -> None:
        passed = _passed.decode(body)
        # If too many pushes wait here, it is dropped, like any live push.
        with suppress(PeerFault):
            self._delivery.deliver(Target("user_id", passed.user_id), Event(passed.type, passed.data))
