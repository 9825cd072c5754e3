"""Online users: which users come and go, for people who watch the event tail. Best effort.

`user_online` is told by the node that a user's connection came to, if it is the only one there and no other node has
any. `user_offline` is found by each node with listeners, for these: it has heard of a `left`, and `offline_seconds`
later the user has no connection on any node. A user who comes back before that was not offline, and no `user_online` is
told either.
Nothing is told of users whose node died, since nobody tells of their connections then. At most MAX_WAITING users are
waited for, and nothing is done or kept while nobody watches.

Back ends that must know use a webhook or the stream in Redis: there the EventLog counts, in one order.
"""

from collections.abc import Callable
from typing import Final, Protocol

from portico.wire.messages import Target

from .back_end_events import BackEndEvent, user_event
from .cluster.cluster_messages import ClusterMessages
from .connections.hub import Hub
from .deadlines import DeadlineWheel
from .ports import Monotonic, Wall
from .reply import Reply

HELD: Final = "user_held"
"""A message that says nothing: it is sent to count the nodes that a user is connected to."""
MAX_WAITING: Final = 10_000


class Watchers(Protocol):
    """Those who watch."""

    def tell_everywhere(self, event: BackEndEvent) -> None:
        """Tell an event of this node to all who watch, at any node."""

    def tell_here(self, event: BackEndEvent) -> None:
        """Tell it to those who watch at this node."""


class OnlineUsers:
    """One node's part."""

    def __init__(
        self,
        hub: Hub,
        cluster_messages: ClusterMessages,
        watchers: Watchers,
        *,
        now: Monotonic,
        wall: Wall,
        make_id: Callable[[], str],
        offline_seconds: float,
    ) -> None:
        self._hub = hub
        self._backplane = cluster_messages.backplane
        self._now = now
        self._wall = wall
        self._make_id = make_id
        self._offline_seconds = offline_seconds
        self._watchers = watchers
        self._leaving: DeadlineWheel[str] = DeadlineWheel(0.1)
        self._back: set[str] = set()  # came back while they were leaving; this is told as nothing
        cluster_messages.on(HELD, lambda node, body: None)

    def on_own_event(self, event: BackEndEvent) -> None:
        """An event of this node's own, while anybody watches anywhere."""
        user = event.user_id
        if event.event != "registered" or user is None or len(self._hub.find(Target("user_id", user))) != 1:
            return
        self._tell_if_nowhere_else(user, "user_online", self._watchers.tell_everywhere)

    def is_shown(self, event: BackEndEvent) -> bool:
        """Whether an event of any node is to be shown here: all are, but the `user_online` of one who was not away for
        long. To be called for each, in order, while anybody watches here."""
        user = event.user_id
        if user is None:
            return True
        if event.event == "registered" and user in self._leaving:
            self._leaving.discard(user)
            if len(self._back) < MAX_WAITING:
                self._back.add(user)
        elif event.event == "left":
            self._back.discard(user)
            if user in self._leaving or len(self._leaving) < MAX_WAITING:
                self._leaving.add(user, self._now() + self._offline_seconds)
        elif event.event == "user_online" and user in self._back:
            self._back.discard(user)
            return False
        return True

    def tick(self) -> None:
        """Tell who is offline by now. To be called every 100 ms or so while anybody watches here."""
        for user in self._leaving.expire(self._now()):
            if not self._hub.find(Target("user_id", user)):
                self._tell_if_nowhere_else(user, "user_offline", self._watchers.tell_here)

    def forget(self) -> None:
        """Nobody watches here any more."""
        self._leaving = DeadlineWheel(0.1)
        self._back.clear()

    def _tell_if_nowhere_else(self, user: str, name: str, tell: Callable[[BackEndEvent], None]) -> None:
        def counted(nodes: int) -> None:
            if not nodes and self._backplane.trouble is None:  # else nobody knows
                tell(user_event(name, user, self._make_id(), self._wall(), self._backplane.node))

        self._backplane.tell_holders(Target("user_id", user), HELD, b"", Reply(counted))
