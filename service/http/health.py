"""Health: is the gateway there, may it be sent traffic, who is connected, and the numbers for Prometheus.

Open to everybody, so nothing here names a client or a user.
"""

from collections import Counter
from dataclasses import dataclass

from service.core.cluster.discovery import Places
from service.core.connections import presence
from service.core.gateway import Gateway
from service.core.ports import HttpAnswer, Wall

from .answers import json_answer, missing
from .asking import Asking, Handler, Ready
from .forms import Health, Probe, Status
from .metrics import metrics_answer
from .waiting import answer_of


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What the answers about health are made from."""

    gateway: Gateway
    places: Places
    ready: Ready
    wall: Wall

    def health(self) -> HttpAnswer:
        """`GET /api/health`: 200 for as long as anybody can answer at all."""
        gateway = self.gateway
        return json_answer(
            200, Health("ok", gateway.backplane.node, self.places.environment, len(gateway.sessions), self.wall())
        )

    def livez(self) -> HttpAnswer:
        """`GET /livez`: 200 unless the process should be restarted."""
        return json_answer(200, Probe("ok", None))

    def readyz(self) -> HttpAnswer:
        """`GET /readyz`: 503 while traffic should go elsewhere."""
        reason = self.ready()
        if reason is None:
            return json_answer(200, Probe("ok", None))
        return json_answer(503, Probe("unavailable", reason), [("retry-after", "1")])

    async def status(self) -> HttpAnswer:
        """`GET /api/c-client/status`: who is connected, as totals over all nodes."""
        return self._status(await answer_of(self.gateway.presence.status))

    def status_now(self) -> HttpAnswer:
        """The same where nothing can be waited for: of other nodes what they said a moment ago."""
        return self._status(self.gateway.presence.status_now())

    def _status(self, found: presence.Status) -> HttpAnswer:
        totals = found.totals
        return json_answer(
            200,
            Status(
                "ok",
                totals.total,
                totals.registered,
                totals.workers,
                totals.by_dialect,
                totals.by_transport,
                found.by_node,
                self.wall(),
                **missing(found.missing),
            ),
        )

    def metrics(self) -> HttpAnswer:
        """`GET /metrics`."""
        return metrics_answer(self.gateway, connections(self.gateway), self.ready() is None)


def connections(gateway: Gateway) -> Counter[tuple[str, str]]:
    """How many connections there are, by dialect and transport."""
    return Counter((session.handler.name, session.peer.transport) for session in gateway.sessions)


def health_room(doctor: HealthCheck) -> dict[str, Handler]:
    """The handlers of this room, by operation."""

    async def get_health(_: Asking) -> HttpAnswer:
        return doctor.health()

    async def get_livez(_: Asking) -> HttpAnswer:
        return doctor.livez()

    async def get_readyz(_: Asking) -> HttpAnswer:
        return doctor.readyz()

    async def get_status(_: Asking) -> HttpAnswer:
        return await doctor.status()

    async def get_metrics(_: Asking) -> HttpAnswer:
        return doctor.metrics()

    return {
        "getHealth": get_health,
        "getLiveness": get_livez,
        "getReadiness": get_readyz,
        "getStatus": get_status,
        "getMetrics": get_metrics,
    }
