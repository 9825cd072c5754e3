"""NodeJournal: what a node's core reports, told to the log, to the deployment (who is here), and to the quotas."""

import structlog

from service.backplane.deployment import Deployment
from service.core.connections.session import Session
from service.core.quota_gate import QuotaGate
from service.observe import LogJournal


class NodeJournal(LogJournal):
    """A LogJournal that also tells the deployment who is here. `quota_gate` is set where there are quotas."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger, deployment: Deployment) -> None:
        super().__init__(log)
        self._deployment = deployment
        self.quota_gate: QuotaGate | None = None

    def on_registered(self, session: Session) -> None:
        """See Journal."""
        self._deployment.on_registered(session)
        if self.quota_gate is not None:
            self.quota_gate.on_known(session)
        super().on_registered(session)

    def on_closed(self, session: Session, code: int, reason: str, seconds: float) -> None:
        """See Journal."""
        self._deployment.on_closed(session)
        if self.quota_gate is not None:
            self.quota_gate.on_closed(session)
        super().on_closed(session, code, reason, seconds)
