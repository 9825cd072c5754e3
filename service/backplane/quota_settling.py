"""QuotaSettling: the task that tells the other nodes what this one has counted of quotas, and hears what they have.

Every SETTLE seconds what has changed goes in batches of BATCH. While the others can't be told, each node keeps the
quotas by itself; that begins and ends with a line in the log, and shows as a metric.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog
import trio

from service.core.connections.session import Session
from service.core.counters import Metric
from service.core.quotas import Quotas, Share
from service.redis.faults import Refusal, Unreachable

SETTLE: Final = 0.5
BATCH: Final = 500

Settle = Callable[[Sequence[Share]], Awaitable[list[float]]]


class QuotaSettling:
    """`settle` tells the others; None where there are none. `turn_away` closes a session that is one too many."""

    def __init__(
        self,
        quotas: Quotas,
        settle: Settle | None,
        turn_away: Callable[[Session], None],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._quotas = quotas
        self._settle = settle
        self._turn_away = turn_away
        self._log = log

    async def run(self) -> None:
        """Settle until cancelled. Cancelling is safe: what was not told is lost with the node."""
        while True:
            await trio.sleep(SETTLE)
            await self.settle()

    async def settle(self) -> None:
        """Tell what has changed, all of it."""
        quotas = self._quotas
        while shares := quotas.due(BATCH):
            was_alone = quotas.alone
            try:
                totals = await self._totals(shares)
            except (Refusal, Unreachable) as error:
                quotas.kept(shares)
                if not was_alone:
                    self._log.warning("quotas are kept by each node alone, since Redis is away", error=str(error))
                return
            for session in quotas.settled(shares, totals):
                self._turn_away(session)
            if was_alone:
                self._log.info("quotas hold over all nodes again")
            await trio.lowlevel.checkpoint()
            if len(shares) < BATCH:
                return

    async def _totals(self, shares: Sequence[Share]) -> list[float]:
        if self._settle is None:
            return [0.0 if share.kind == "connections" else self._quotas.owed(share) for share in shares]
        return await self._settle(shares)

    def metrics(self) -> Iterable[Metric]:
        """How things are, for the counters' `others`."""
        quotas = self._quotas
        yield Metric("quotas_alone", "1 while each node keeps the quotas by itself.", int(quotas.alone))
        yield Metric("quota_holders", "Addresses, users and tenants of which something is counted.", quotas.remembered)
        yield Metric("quota_refused", "What was beyond a quota.", sum(quotas.refused.values()), counts=True)
