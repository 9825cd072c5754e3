"""NodeSelection: which node a client is told to connect to, where this one takes no WebSockets.

The node with the fewest connections, by what the nodes announce; never one that is gone or draining. A crowd that asks
at once is spread: until a node announces its load again, each answer that named it counts as one connection more. Among
nodes whose loads are nearly equal chance decides, since other API nodes choose at the same time.
"""

from collections.abc import Callable, Collection
from random import Random
from typing import Final

import msgspec
from msgspec import Struct

from portico.wire.messages import encode

from .backplane import NodeState

NEAR: Final = 0.05
FEW: Final = 3
"""Nodes whose loads differ by no more than the share NEAR, or by no more than FEW connections, count as equal."""


class Listening(Struct, frozen=True):
    """Where a node takes WebSockets. `host`: the one that its operator has set, if any; `ip`: its own address;
    `machine`: the name of the machine that it runs on; `tls`: the port speaks TLS."""

    port: int
    ip: str
    machine: str
    host: str | None = None
    tls: bool = False


class _About(Struct):
    websocket: Listening | None = None


_about = msgspec.json.Decoder(_About).decode


def announcement(
    node: str, role: str, listening: Listening | None, *, public_url: str | None, draining: bool, load: int
) -> NodeState:
    """What a node tells the others of itself; `listening` None: it takes no WebSockets."""
    return NodeState(node, role, public_url, draining, load, encode(_About(listening)))


def _any(_: NodeState, __: Listening) -> bool:
    return True


class NodeSelection:
    """Chooses a node. `nodes` gives all that live."""

    def __init__(self, nodes: Callable[[], Collection[NodeState]], random: Random) -> None:
        self._nodes = nodes
        self._random = random
        self._sent: dict[tuple[str, int], int] = {}  # clients sent to each node since it announced this load

    def open_now(self) -> list[tuple[NodeState, Listening]]:
        """Those that take WebSockets now."""
        found = [(state, _listening(state)) for state in self._nodes() if not state.draining]
        return [(state, listening) for state, listening in found if listening is not None]

    def choose(self, usable: Callable[[NodeState, Listening], bool] = _any) -> tuple[NodeState, Listening] | None:
        """The node for one more client, of those that are `usable` for it; None if there is none."""
        found = [candidate for candidate in self.open_now() if usable(*candidate)]
        if not found:
            return None
        sent = self._sent
        # A load that was announced anew counts the clients sent before already.
        self._sent = {(state.node, state.load): sent.get((state.node, state.load), 0) for state, _ in found}
        loads = [state.load + self._sent[state.node, state.load] for state, _ in found]
        least = min(loads)
        near = [n for n, load in enumerate(loads) if load <= least + max(FEW, NEAR * least)]
        state, listening = found[self._random.choice(near)]
        self._sent[state.node, state.load] += 1
        return state, listening


def _listening(state: NodeState) -> Listening | None:
    try:
        return _about(state.about).websocket
    except msgspec.MsgspecError:
        return None
