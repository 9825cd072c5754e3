"""The other nodes, as dispatch sees them: what each has of this one's requests, and what this one has of theirs.

A table that `remote_dispatch` and `guests` share. It decides nothing. A node is in it once it has said or been sent
something, until it is gone, or has said nothing for long and neither has anything of the other's.
"""

from typing import Protocol

from ..ports import Monotonic
from .model import Outcome, Request
from .remote_workers import RemotePlace


class GuestObserver(Protocol):
    """Who is told of the answers to other nodes' requests."""

    def on_guest_answered(self, node: "OtherNode", request: Request, outcome: Outcome) -> None:
        """There is an answer to a request of this node's."""


class OtherNode:
    """Another node: its workers (`place`), what it has of ours (`sent`) and what was asked back of that (`recalled`),
    what we have of its (`guests`), and who asks there. `waits`: requests wait there for any room."""

    __slots__ = ("callers", "command_sets", "guests", "heard_at", "name", "place", "recalled", "sent", "waits")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.heard_at = now
        self.waits = False
        self.place: RemotePlace | None = None
        self.command_sets: dict[int, frozenset[str] | None] = {}
        self.sent: dict[str, Request] = {}
        self.recalled: set[str] = set()
        self.guests: dict[str, Request] = {}
        self.callers: dict[int, RemoteCaller] = {}

    @property
    def is_idle(self) -> bool:
        """True if neither has anything of the other's."""
        return not self.sent and not self.guests

    def caller(self, key: int, party: str, trusted: bool, observer: GuestObserver) -> "RemoteCaller":
        """The caller there that goes by this key, and counts for this party."""
        caller = self.callers.get(key)
        if caller is None or caller.trusted is not trusted or caller.party != party:
            caller = RemoteCaller(self, key, party, trusted, observer)
        return caller

    def add_guest(self, name: str, request: Request, caller: "RemoteCaller") -> None:
        """A request of that node is here."""
        self.guests[name] = request
        self.callers[caller.key] = caller
        caller.open += 1

    def forget_guest(self, name: str) -> Request | None:
        """A request of that node is over here, or is not here; which it was."""
        request = self.guests.pop(name, None)
        if request is not None and isinstance(request.caller, RemoteCaller):
            request.caller.open -= 1
            if not request.caller.open and self.callers.get(request.caller.key) is request.caller:
                del self.callers[request.caller.key]
        return request


class RemoteCaller:
    """A caller of another node (dispatch's Caller), so that turns in the queue go by the callers there, and count for
    their parties. `open`: how many of its requests are here."""

    __slots__ = ("_node", "_observer", "key", "open", "party", "trusted")

    def __init__(self, node: OtherNode, key: int, party: str, trusted: bool, observer: GuestObserver) -> None:
        self._observer = observer
        self._node = node
        self.key = key
        self.party = party
        self.trusted = trusted
        self.open = 0

    def on_answer(self, request: Request, outcome: Outcome) -> None:
        """Pass it on."""
        self._observer.on_guest_answered(self._node, request, outcome)


class OtherNodes(dict[str, OtherNode]):
    """All of them, by name. (A dict, since it is looked into with every message.)"""

    def __init__(self, now: Monotonic) -> None:
        super().__init__()
        self._now = now

    def known(self, name: str) -> OtherNode:
        """The node of this name, from now on in any case."""
        node = self.get(name)
        if node is None:
            node = self[name] = OtherNode(name, self._now())
        return node
