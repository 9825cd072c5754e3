"""Event tail: live events of the whole deployment, for people who watch. Best effort; nothing waits for it.

A node with listeners asks all others for their events, and they send them for WANTED seconds after each such question.
While nobody listens, no events are made for this. Each node sends at most PER_SECOND events a second, the first ones of
each second; the rest is left out and counted. Which users come and go is found out by OnlineUsers.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from .back_end_events import BackEndEvent, BackEndEvents
from .cluster.cluster_messages import ClusterMessages
from .connections.hub import Hub
from .online_users import OnlineUsers
from .ports import Monotonic, Wall

WANT: Final = "events_wanted"
"""A message: this node wants to be told what passes."""
TOLD: Final = "event"
"""A message: one event."""
WANTED: Final = 15.0
AGAIN: Final = 5.0
PER_SECOND: Final = 200

Listener = Callable[[str, BackEndEvent], None]
"""Is told of an event, and of the node that it comes from. Must not wait."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(BackEndEvent).decode


class EventTail:
    """One node's part (the Watchers of OnlineUsers). `offline_seconds`: how long a user must have been without a
    connection to be offline."""

    def __init__(
        self,
        hub: Hub,
        cluster_messages: ClusterMessages,
        events: BackEndEvents,
        *,
        now: Monotonic,
        wall: Wall,
        make_id: Callable[[], str],
        offline_seconds: float,
    ) -> None:
        self._cluster_messages = cluster_messages
        self._events = events
        self._now = now
        self._listeners: dict[Listener, None] = {}
        self._wanted: dict[str, float] = {}  # by node: until when it wants to be told
        self._ask_at = float("-inf")
        self._second = 0
        self._told = 0
        self.left_out = 0
        self._users = OnlineUsers(
            hub,
            cluster_messages,
            self,
            now=now,
            wall=wall,
            make_id=make_id,
            offline_seconds=offline_seconds,
        )
        cluster_messages.on(WANT, lambda node, _: self._on_wanted(node))
        cluster_messages.on(TOLD, lambda node, body: self._tell_of(node, _decode(body)))

    @property
    def listeners(self) -> int:
        """How many listeners this node has."""
        return len(self._listeners)

    def follow(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each event, until the function that is returned is called."""
        self._listeners[listener] = None
        self._ask_at = float("-inf")
        self.tick()

        def stop() -> None:
            self._listeners.pop(listener, None)
            self._settle()

        return stop

    def tick(self) -> None:
        """To be called every 100 ms or so."""
        if not self._listeners and not self._wanted:
            return
        now = self._now()
        if self._listeners and now >= self._ask_at:
            self._ask_at = now + AGAIN
            self._cluster_messages.backplane.tell_all(WANT, b"")
        if self._listeners:
            self._users.tick()
        self._wanted = {node: until for node, until in self._wanted.items() if until > now}
        self._settle()

    def _on_wanted(self, node: str) -> None:
        self._wanted[node] = self._now() + WANTED
        self._settle()

    def _settle(self) -> None:
        """Follow this node's own events while some node wants them, and not otherwise."""
        if not self._listeners:
            self._users.forget()
        if self._listeners or self._wanted:
            self._events.tap(self._on_event)
        else:
            self._events.untap(self._on_event)

    def _on_event(self, event: BackEndEvent) -> None:
        self.tell_everywhere(event)
        self._users.on_own_event(event)

    # What OnlineUsers tells the watchers

    def tell_everywhere(self, event: BackEndEvent) -> None:
        """Tell an event of this node to its listeners, and to the nodes that want to be told."""
        self.tell_here(event)
        if not self._wanted:
            return
        second = int(self._now())
        if second != self._second:
            self._second, self._told = second, 0
        self._told += 1
        if self._told > PER_SECOND:
            self.left_out += 1
            return
        body = _encode(event)
        for node in self._wanted:
            self._cluster_messages.backplane.tell(node, TOLD, body)

    def tell_here(self, event: BackEndEvent) -> None:
        """Tell an event of this node to its listeners."""
        self._tell_of(self._cluster_messages.backplane.node, event)

    def _tell_of(self, node: str, event: BackEndEvent) -> None:
        if not self._listeners or not self._users.is_shown(event):
            return
        for listener in list(self._listeners):
            listener(node, event)
