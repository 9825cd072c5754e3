"""A Redis Cluster: the way to the primary that holds what is a deployment's.

All names of a deployment share a hash tag, so they are in one slot, and one primary does one thing after the other for
all its nodes: what they promise of order, gaps and epochs rests on that. Deployments with other prefixes are in other
slots. What is published for other programs' sake (`notifications:…`) comes to every node of the cluster.

Asks the nodes of the cluster in turn who serves the slot, and believes it only from that one itself. A failover, or a
slot that moves, is a connection that is lost, and the next one.
"""

import re
from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import trio

from .address import Address, at_origin, peer
from .faults import FAULTS, Unreachable, reason
from .link import ask_once, dial_if
from .resp import Command
from .succession import has_all_of

SLOTS: Final = 16_384
NODE_SECONDS: Final = 0.5
"""Seconds for a node to say who serves the slot, and for the node it named to confirm that."""
MAX_KNOWN: Final = 32
"""Nodes that are remembered besides those of the URL."""
_ABOUT: Final = (("CLUSTER", "INFO"), ("INFO", "replication"))
_TAG: Final = re.compile(rb"[^{]*\{([^}]+)\}")


class Cluster:
    """Some nodes of a cluster, by which the others are found; they want one user, password and TLS. `slot`: which is
    served where the way leads."""

    def __init__(self, nodes: Sequence[Address], slot: int = 0) -> None:
        self.nodes: Final = tuple(nodes)
        self.slot: Final = slot
        # Who answered last comes first; then whoever else was seen, and those of the URL; last who did not answer.
        self._known: list[Address] = list(nodes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cluster) and (self.nodes, self.slot) == (other.nodes, other.slot)

    def __hash__(self) -> int:
        return hash((self.nodes, self.slot))

    def __repr__(self) -> str:
        return f"Cluster({self.nodes!r}, {self.slot})"

    def __str__(self) -> str:
        return f"the cluster of {', '.join(map(str, self.nodes))}"

    def under(self, prefix: str) -> "Cluster":
        """The way to what begins with this prefix, which holds a hash tag (see `tagged`)."""
        return Cluster(self.nodes, slot_of(prefix.encode()))

    @property
    def database(self) -> int:
        """A cluster has but one."""
        return 0

    def greeting(self, name: str) -> list[Command]:
        """What a connection to any of its nodes says first."""
        return self.nodes[0].greeting(name)

    def origin(self, stream: trio.abc.Stream) -> str:
        """The primary's address."""
        return peer(stream)

    async def moved(self, origin: str) -> str | None:
        """The primary says so itself, to whatever is asked of it."""
        return None

    async def handed_over(self, origin: str, run: bytes, info: bytes) -> bool:
        """Whether the primary before this one has nothing more than it: a manual failover, or a slot that was moved."""
        old = at_origin(self.nodes[0], origin)
        return old is not None and await has_all_of(old, run, info, slot=self.slot)

    async def dial(self) -> trio.abc.Stream:
        """A new connection to the primary that serves the slot. Raises OSError where none can be reached."""
        reasons: list[str] = []
        in_vain: set[Address] = set()
        for node in list(self._known):
            # Also where the caller's patience ends with this one: next time it begins with the others.
            self._remember([one for one in self._known if one != node], node)
            try:
                primary, others = await self._ask(node)
            except FAULTS as error:
                reasons.append(f"{node}: {reason(error, NODE_SECONDS)}")
                continue
            if primary in in_vain:
                continue
            try:
                stream = await dial_if(primary, _ABOUT, _is_primary, seconds=NODE_SECONDS)
            except FAULTS as error:
                reasons.append(f"{node} says {primary}: {reason(error, NODE_SECONDS)}")
                in_vain.add(primary)
            else:
                self._remember([node, *others])
                return stream
        raise OSError(f"no node of the cluster knows a primary that can be used ({'; '.join(reasons)})")

    def _remember(self, nodes: Iterable[Address], last: Address | None = None) -> None:
        found = list(dict.fromkeys(nodes))[:MAX_KNOWN]
        found += (node for node in self.nodes if node not in found and node != last)
        self._known = found if last is None else [*found, last]

    async def _ask(self, node: Address) -> tuple[Address, list[Address]]:
        """Who serves the slot, and the other nodes that this one knows."""
        state, slots = await ask_once(node, [("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")], seconds=NODE_SECONDS)
        # One that is cut off from the others serves nothing, and knows nothing new.
        _is_connected(state)
        if not isinstance(slots, list):
            raise Unreachable("it doesn't say who serves what")
        primary: Address | None = None
        others: list[Address] = []
        for first, last, *places in slots:
            # A node that doesn't know its own host leaves that out.
            addresses = [
                replace(node, host=(host or b"").decode() or node.host, port=port) for host, port, *_ in places
            ]
            others += addresses
            if first <= self.slot <= last:
                primary = addresses[0]
        if primary is None:
            raise Unreachable("it knows nobody who serves the slot")
        return primary, others


def _is_primary(answers: list[object]) -> None:
    state, info = answers
    if not isinstance(info, bytes) or b"\nrole:master\r" not in info:
        raise Unreachable("it is no primary (any more, or yet)")
    _is_connected(state)


def _is_connected(state: object) -> None:
    if not isinstance(state, bytes) or b"cluster_state:ok" not in state:
        raise Unreachable("it is cut off from the cluster")


def tagged(prefix: str) -> str:
    """A prefix that puts all that begins with it into one slot; it still begins as before."""
    if _TAG.match(prefix.encode()):
        return prefix
    if "{" in prefix:
        return f"{{portico}}{prefix}"
    return f"{prefix}{{{prefix.strip(':') or 'portico'}}}:"


def slot_of(key: bytes) -> int:
    """The slot of a key or a channel (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/)."""
    tag = _TAG.match(key)
    return crc_hqx(tag[1] if tag else key, 0) % SLOTS
