"""NodeJournal tells the log, the deployment and the quotas of the same sessions."""

import io

from service.backplane.deployment import Alone
from service.core.quota_gate import QuotaGate
from service.node_journal import NodeJournal
from service.observe import make_log

from .fakes import stage


class _Deployment(Alone):
    def __init__(self) -> None:
        super().__init__(node="here", length=10, ttl=60.0, events=None)
        self.told: list[tuple[str, object]] = []

    def on_registered(self, session: object) -> None:
        self.told.append(("registered", session))

    def on_closed(self, session: object) -> None:
        self.told.append(("closed", session))


class _QuotaGate(QuotaGate):
    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def on_known(self, session: object) -> None:
        self.told.append(("registered", session))

    def on_closed(self, session: object) -> None:
        self.told.append(("closed", session))


def test_who_comes_and_goes_is_told_to_all_three() -> None:
    session, _ = stage().client(client_id="c1")
    deployment, gate, stream = _Deployment(), _QuotaGate(), io.StringIO()
    journal = NodeJournal(make_log("json", "info", stream), deployment)
    journal.on_registered(session)  # where there are no quotas, nobody else is told
    journal.quota_gate = gate
    journal.on_opened(session)
    journal.on_registered(session)
    journal.on_closed(session, 1000, "", 1.0)
    assert deployment.told == [("registered", session), ("registered", session), ("closed", session)]
    assert gate.told == deployment.told[1:]
    assert '"connection closed"' in stream.getvalue()
