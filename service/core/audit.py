"""Audit: who did what to others, and who was refused, as a port of the core's; `service/audit.py` writes it down.

Nothing here waits or raises, and secrets are never passed in: a key is named by its name, a token not at all. Callers
report what was done, after it was done. For example, a kick is reported with the number of connections that it closed,
and a push that is refused because a field is wrong is not reported.
"""

from typing import Literal, Protocol

from portico.wire.messages import Target

Act = Literal["kick", "revocation", "drain"]


class Audit(Protocol):
    """Who is told."""

    def on_act(self, act: Act, by: str | None = None, address: str | None = None, **fields: object) -> None:
        """Something was done, by the API key of this name (None: without one), asked for from this address."""

    def on_push(self, by: str | None, target: Target, connections: int) -> None:
        """A push was made by the API key of this name, which so many connections were handed."""

    def on_refused(self, cause: str, address: str) -> None:
        """A key or a token was refused, or was missing where one is needed."""


class Unaudited:
    """The Audit of nobody."""

    def on_act(self, act: Act, by: str | None = None, address: str | None = None, **fields: object) -> None:
        """Nobody is told."""

    def on_push(self, by: str | None, target: Target, connections: int) -> None:
        """Nobody is told."""

    def on_refused(self, cause: str, address: str) -> None:
        """Nobody is told."""
