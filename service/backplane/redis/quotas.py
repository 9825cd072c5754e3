"""What the nodes have counted of quotas, settled in Redis: one script for a batch, twice a second.

Knows the script; not what a quota is for. Where Redis can't be had the counts are kept and told later, and each node
keeps the quotas by itself meanwhile.
"""

from collections.abc import Callable, Sequence
from typing import Final

from service.core.quotas import Share
from service.redis.scripts import Ask

from .scripts import QUOTAS_SETTLE

LEASE: Final = 15_000
"""Milliseconds that a node's count of connections holds without being said again."""


class RedisQuotas:
    """Settles for one node. `prefix`: of the deployment's keys."""

    def __init__(self, ask: Ask, prefix: str, node: Callable[[], str]) -> None:
        self._ask = ask
        self._start = f"{prefix}quota:"
        self._node = node

    async def settle(self, shares: Sequence[Share]) -> list[float]:
        """What is owed of each by now, or open at the others. Raises Refusal or Unreachable; cancelling it may have
        settled or not."""
        keys = tuple(f"{self._start}{share.kind}:{share.holder}:{share.name}" for share in shares)
        arguments: list[str | int] = [self._node(), LEASE]
        for share in shares:
            if share.kind == "connections":
                arguments += ["c", int(share.used), 0]
            else:
                arguments += ["r", f"{share.used:.3f}", share.amount]
        answer = await QUOTAS_SETTLE.ask(self._ask, keys, tuple(arguments))
        assert isinstance(answer, list)
        return [float(total) for total in answer]
