"""Returns: which clients were replaced or kicked again and again, and have to wait before they register again.

The rule: a client that was put out more than OFTEN times in a row has to wait, and may then return once every
SECONDS_PER_RETURN. For example, two programs with one `client_id` replace each other every four seconds; from the
eleventh time on the one that is connected stays for half a minute, and the other is told to try later. Every
SECONDS_PER_RETURN one time is forgotten, so a client that comes back a few times over a bad link never waits. A node
counts its own clients only.

The table is bounded: of more than CLIENTS the one that was put out longest ago is forgotten.
Source: protocol reference, "Registration".
"""

from collections import OrderedDict
from typing import Final

from portico.wire.messages import Identity

from ..ports import Monotonic

OFTEN: Final = 10
SECONDS_PER_RETURN: Final = 30.0
CLIENTS: Final = 10_000

Client = tuple[str, str | None, str | None, str, str]
"""Whose returns count together: `client_id`, `user_id`, `node_id`, dialect, and what was proven."""


def client_of(identity: Identity, dialect: str, principal: str) -> Client | None:
    """Under what a client is counted; None for one without a `client_id`, which is not counted."""
    if identity.client_id is None:
        return None
    return identity.client_id, identity.user_id, identity.node_id, dialect, principal


class Returns:
    """How often clients were put out lately."""

    def __init__(self, *, now: Monotonic) -> None:
        self._now = now
        self._put_out: OrderedDict[Client, tuple[float, float]] = OrderedDict()  # how often, and when last
        self.refused = 0
        """Registrations that were told to come later."""

    def __len__(self) -> int:
        return len(self._put_out)

    def on_put_out(self, client: Client | None) -> None:
        """A client was replaced, or kicked."""
        if client is None:
            return
        found = self._put_out.pop(client, None)
        if found is None and len(self._put_out) >= CLIENTS:
            self._put_out.popitem(last=False)
        often = 1.0 if found is None else self._left(*found) + 1
        self._put_out[client] = (min(often, OFTEN + 1.0), self._now())

    def wait(self, client: Client | None) -> float:
        """Seconds until the client may register; 0: now."""
        if client is None or not self._put_out:
            return 0.0
        found = self._put_out.get(client)
        return 0.0 if found is None else max(0.0, (self._left(*found) - OFTEN) * SECONDS_PER_RETURN)

    def _left(self, often: float, at: float) -> float:
        return max(0.0, often - (self._now() - at) / SECONDS_PER_RETURN)
