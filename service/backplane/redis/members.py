"""Members: what a node's membership needs around it, and what nodes say of themselves in their leases.

Knows the form of a lease's value and nothing of Redis. What another version, or another program, wrote is None.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from service.core.cluster.backplane import NodeState

from .registry import Present


class MembershipEvents(Protocol):
    """What a membership needs of its backplane. No call may wait or raise."""

    def tell_all(self, kind: str, body: bytes) -> None:
        """Send a message to every other node; there it is given to `Membership.on_message`."""

    def on_node_left(self, node: str) -> None:
        """A node is gone."""

    def on_nodes_changed(self) -> None:
        """`nodes()` gives something else than before."""

    def on_joined(self) -> None:
        """`nodes()` gives all that live, after a time in which this node may not have been told of some. May be told
        again."""

    def on_client_left(self, node: str, client_id: str | None, user_id: str | None) -> None:
        """Somebody was connected at a node that is lost. Told on one node only."""

    def on_renamed(self, node: str) -> None:
        """This node has this name from now on: messages for it come under it."""

    def present(self) -> Iterable[Present]:
        """Everybody who is connected here now."""

    def on_instance(self, instance: str) -> None:
        """The id of this life of the node, from now on. May be told again."""

    async def on_buried(self, instance: str, node: str) -> None:
        """This node reports the clients of a node that died, and says here what else is to be said for it. Raises
        Refusal or Unreachable; then a node, this one or another, reports it again."""

    async def on_leaving(self) -> None:
        """This node is about to give up its lease: say what has to be said before. Raises Refusal or Unreachable; then
        the others see the lease run out, and report its clients."""

    def note(self, event: str, /, **fields: object) -> None:
        """Something that operators should know."""


class Word(msgspec.Struct, array_like=True, frozen=True):
    """What a lease says: of versions of one instance, the highest holds. `settings`: fingerprints, by name."""

    version: int
    state: NodeState
    settings: dict[str, str] = msgspec.field(default_factory=dict)


_word = msgspec.json.Decoder(Word).decode


@dataclass(slots=True)
class Seen:
    """A node, as it was seen last."""

    instance: str
    word: Word
    at: float
    """When it was last known to live."""
    until: float
    """When its lease runs out."""


def read_lease(text: bytes, at: float, until: float) -> Seen | None:
    """What a lease says; `at`: when that was so, `until`: when it runs out."""
    instance, _, word = text.partition(b" ")
    try:
        return Seen(instance.decode("ascii"), _word(word), at, until)
    except (msgspec.MsgspecError, ValueError):
        return None
