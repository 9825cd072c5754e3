"""How a process is joined to the others of its deployment: alone, in memory, or over Redis.

Made from single values, and knows no settings. `Alone` and `OverRedis` have the same surface (`Deployment`): the
backplane and the login store that the core is given, and what has to run beside it.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import structlog
import trio

from service.backplane.memory import MemoryBackplane, World
from service.backplane.memory_events import MemoryEvents
from service.backplane.memory_logins import MemoryLoginStore
from service.backplane.quota_settling import Settle
from service.backplane.redis.checks import examine
from service.backplane.redis.ingress import Ingress, Publish
from service.backplane.redis.logins import RedisLoginStore
from service.backplane.redis.metrics import backplane_metrics, ingress_metrics
from service.backplane.redis.names import Names
from service.backplane.redis.plane import CLIENT_NAME, EventsOnRedis, RedisBackplane, SharedRules
from service.backplane.redis.quotas import RedisQuotas
from service.backplane.redis.registry import Present
from service.backplane.redis.revocations import RedisRevocations
from service.core.back_end_events import BackEndEvent, EventLog, Stored
from service.core.cluster.backplane import HISTORY_BYTES, Backplane
from service.core.connections.session import Session
from service.core.counters import Metric
from service.core.gateway import make_id
from service.core.push.login_store import LoginStore
from service.core.push.publications import publication_of
from service.core.revocations import LocalRevocations, RevocationStore
from service.redis.address import Connector
from service.redis.cluster import Cluster, tagged
from service.redis.commands import Commands
from service.redis.urls import read_url

REPEATED: Final = "Pushes under an id that had been used within 5 minutes."

Log = structlog.typing.FilteringBoundLogger


class EventRules(NamedTuple):
    """`outbox`: events that may wait to be delivered (0: none are), `stream`: that are kept for whoever reads them;
    `offline_seconds`: how long a user must have been without a connection to be offline; `present` gives a `registered`
    of everybody who is here."""

    outbox: int
    stream: int
    offline_seconds: float
    present: Callable[[], Iterable[BackEndEvent]] = tuple


class EventsOfDeployment(EventLog, Protocol):
    """The log of events, and the outbox of those that are to be delivered."""

    dropped: int

    async def keep(self) -> None:
        """Stay the one that delivers, if this node is that, until cancelled."""

    @property
    def owned(self) -> bool:
        """Whether this node delivers."""

    @property
    def waiting(self) -> int:
        """Events that are not delivered yet, as far as is known here."""

    async def own(self) -> None:
        """Wait until this node is the one that delivers."""

    async def read(self, after: str, count: int) -> Sequence[Stored]:
        """Up to `count` events behind the key `after`, the oldest first."""

    async def wait(self) -> None:
        """Until there may be more."""

    async def settle(self, keys: Sequence[str]) -> None:
        """These were delivered."""

    async def bury(self, entry: Stored, reason: str) -> None:
        """This one is given up."""


class Deployment(Protocol):
    """What a node is given of its deployment."""

    @property
    def backplane(self) -> Backplane:
        """What joins it to the others."""

    @property
    def login_store(self) -> LoginStore:
        """Where login sessions are kept."""

    @property
    def revocations(self) -> RevocationStore:
        """Where revocations are kept."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it joined until cancelled. At the end it says goodbye."""

    async def take_in(self) -> None:
        """Publish what other programs put on the ingress stream, until cancelled."""

    @property
    def settle_quotas(self) -> Settle | None:
        """How what this node has counted of quotas is settled with the others; None where there are none."""

    async def follow_revocations(self) -> None:
        """Hear what other nodes take back, until cancelled."""

    def on_registered(self, session: Session) -> None:
        """Somebody is connected, or is somebody else now."""

    def on_closed(self, session: Session) -> None:
        """Somebody isn't any more."""

    @property
    def events(self) -> EventsOfDeployment | None:
        """Where its events are put, and wait to be delivered; None where nobody listens."""

    def forget_old(self) -> None:
        """Drop what is too old. To be called every 100 ms or so."""

    def metrics(self) -> Iterable[Metric]:
        """What it counts, for metrics."""


class Alone:
    """One process without Redis: everything is in its memory, and ends with it."""

    def __init__(
        self,
        *,
        node: str,
        length: int,
        ttl: float,
        history_bytes: int = HISTORY_BYTES,
        events: EventRules | None = None,
    ) -> None:
        self.events: Final = (
            None
            if events is None
            else MemoryEvents(
                kept=events.outbox,
                offline_seconds=events.offline_seconds,
                now=time.monotonic,
                wall=time.time,
                make_id=make_id,
                node=node,
            )
        )
        self._world = World(now=time.monotonic, length=length, ttl=ttl, limit=history_bytes)
        self.backplane: Final = MemoryBackplane(self._world, node, make_id)
        self.login_store: Final = MemoryLoginStore(now=time.monotonic)
        self.revocations: Final = LocalRevocations()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """There is nobody to be joined to."""
        task_status.started()
        await trio.sleep_forever()

    settle_quotas: Final = None
    """There is nobody to settle with."""

    async def take_in(self) -> None:
        """There is no stream."""
        await trio.sleep_forever()

    async def follow_revocations(self) -> None:
        """There is nobody else."""
        await trio.sleep_forever()

    def on_registered(self, session: Session) -> None:
        """Nobody else asks."""

    def on_closed(self, session: Session) -> None:
        """Nobody else asks."""

    def forget_old(self) -> None:
        """Drop what is too old."""
        self._world.forget_old()
        if self.events is not None:
            self.events.tick()

    def metrics(self) -> Iterable[Metric]:
        """What the history takes."""
        return [
            Metric("history_bytes", "Bytes of durable events that are kept.", self._world.history.bytes),
            Metric("pushes_repeated", REPEATED, self._world.repeated, True),
        ]


class OverRedis:
    """One of several nodes that share the Redis at `redis_url`.

    Raises ValueError, with a sentence for the operator, where the URL cannot be read.

    `publish` is where what comes by the ingress stream goes; `present` gives everybody who is connected here.
    """

    def __init__(
        self,
        redis_url: str,
        rules: SharedRules,
        *,
        node: str,
        publish: Publish,
        present: Callable[[], Iterable[Session]],
        log: Log,
        events: EventRules | None = None,
    ) -> None:
        self._log = log
        way, prefix, sharded = _way(redis_url, rules.prefix)
        self.backplane: Final = RedisBackplane(
            way,
            rules._replace(prefix=prefix),
            node=node,
            sharded=sharded,
            make_id=make_id,
            log=log,
            present=lambda: [_present(session) for session in present()],
            on_client_left=self._on_client_left,
            events=None
            if events is None
            else EventsOnRedis(events.stream, events.outbox, events.offline_seconds, events.present),
        )
        self.events: Final[EventsOfDeployment | None] = self.backplane.events
        self.login_store: Final = RedisLoginStore(self.backplane.commands.send, prefix)
        self.settle_quotas = RedisQuotas(self.backplane.commands.ask, prefix, lambda: self.backplane.node).settle
        self.revocations: Final = RedisRevocations(self.backplane.commands.send, self.backplane.commands.ask, prefix)
        # Reading holds a connection up, so it has one of its own.
        self._reading = Commands(way, name=CLIENT_NAME, purpose="the ingress stream", log=log)
        self.ingress: Final = Ingress(
            self._reading.ask,
            publish,
            publication_of,
            node=lambda: self.backplane.node,
            prefix=prefix,
            lease=rules.lease,
            log=log,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep it joined until cancelled."""
        await self.backplane.run(task_status=task_status)

    async def take_in(self) -> None:
        """Publish what other programs put on the ingress stream, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reading.run)
            # Its name may be taken; entries are read under the one that it keeps.
            await self.backplane.membership.settled.wait()
            await self.ingress.run()

    async def follow_revocations(self) -> None:
        """Hear what other nodes take back, until cancelled."""
        await self.revocations.run()

    def on_registered(self, session: Session) -> None:
        """Somebody is connected, or is somebody else now."""
        self.backplane.membership.registry.on_connected(_present(session))

    def on_closed(self, session: Session) -> None:
        """Somebody isn't any more."""
        self.backplane.membership.registry.on_left(session.id)

    def forget_old(self) -> None:
        """Redis does that."""

    def metrics(self) -> Iterable[Metric]:
        """What all that goes through Redis comes to."""
        return [
            Metric("pushes_repeated", REPEATED, self.backplane.publisher.repeated, True),
            *backplane_metrics(self.backplane),
            *ingress_metrics(self.ingress),
        ]

    def _on_client_left(self, node: str, client_id: str | None, user_id: str | None) -> None:
        self._log.info("client left", dead_node=node, client_id=client_id, user_id=user_id, reason="node_lost")


async def examine_redis(url: str, prefix: str) -> list[str]:
    """What to warn of before a gateway starts on this Redis, as sentences; see `checks`."""
    way, prefix, sharded = _way(url, prefix)
    return await examine(way, Names(prefix, database=way.database, sharded=sharded))


def _way(url: str, prefix: str) -> tuple[Connector, str, bool]:
    """The way to Redis, the prefix there, and whether what is published stays in one shard of a cluster."""
    way: Connector = read_url(url)
    if isinstance(way, Cluster):
        prefix = tagged(prefix)
        return way.under(prefix), prefix, True
    return way, prefix, False


def _present(session: Session) -> Present:
    return Present(session.id, session.identity.client_id, session.identity.user_id)
