"""RedisBackplane: what joins the nodes of a deployment, over one Redis.

Joins its parts and knows little itself: `commands` sends, `subscription` receives, `publishing` has receipts to give,
`following` knows how far each stream has come, `epoch_finder` finds out which history that is, `membership` knows which
nodes live. Promises what `service.core.cluster.backplane` does. Anybody may publish on a channel: a message that cannot
be read is dropped and counted, and nothing of it is raised or logged.
"""

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import structlog
import trio

from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target
from service.core.back_end_events import BackEndEvent
from service.core.cluster.backplane import (
    HISTORY_BYTES,
    PATIENCE,
    Joined,
    NodeObserver,
    NodeState,
    Publication,
    Published,
    PushObserver,
    StreamPositions,
)
from service.core.reply import Reply
from service.redis.address import Connector
from service.redis.commands import Callback, Commands
from service.redis.faults import Refusal
from service.redis.subscription import LARGEST_PAYLOAD, Subscription

from .checks import Checks
from .epoch_finder import EpochFinder
from .events import RedisEvents
from .following import Following
from .joining import Counts
from .membership import HELD, KINDS, Membership
from .names import ORDINARY, Names
from .payloads import Ack, ClusterMessage, Push, acks, cluster_message, read_inbox, read_ordinary, read_push
from .publishing import Publisher
from .registry import Present
from .sweeping import Sweeper

CLIENT_NAME: Final = "portico"
"""What CLIENT LIST shows of our connections."""
TICK: Final = 0.05
"""Seconds between two looks at what has waited too long."""
STOOD_STILL: Final = 0.5
"""Seconds without running after which a process is given GRACE: what it waits for is there, and has yet to be read."""
GRACE: Final = 0.5


def _nobody(node: str, client_id: str | None, user_id: str | None) -> None:
    """Where nobody asks who left with a node."""


class EventsOnRedis(NamedTuple):
    """How events for back ends are kept: `stream` for those that read it, `outbox` of those to be delivered (0: none),
    and who is here, as `registered` events."""

    stream: int
    outbox: int
    offline_seconds: float
    present: Callable[[], Iterable[BackEndEvent]]


class SharedRules(NamedTuple):
    """What all nodes that share a Redis keep to.

    `prefix`: of everything of ours in Redis; `length` events and `ttl` seconds of each stream are kept; a node is
    thought dead `lease` seconds after its last sign of life; `history_bytes`: see Reader; `settings`: fingerprints, by
    name, of what the nodes of one deployment have in common.
    """

    prefix: str = "portico:"
    length: int = 1000
    ttl: float = 86_400.0
    lease: float = 10.0
    history_bytes: int = HISTORY_BYTES
    settings: Mapping[str, str] = MappingProxyType({})


class RedisBackplane:
    """One node's place among those that share a Redis (the core's Backplane, the subscription's observer).

    `connector` leads to it; `sharded`: what is published stays in one shard of a cluster; `make_id` names pushes that
    have no id. `present` gives all who are connected here;
    `on_client_left` is told who was connected at a node that died (the node, client_id, user_id), on one node only.

    For metrics: the attributes of `commands`, `publisher`, `following`, `subscription` and `membership`, and
    `malformed` (messages that could not be read), `ordinary_dropped` (of other programs), `untold` (messages to nodes
    that could not be sent).
    """

    def __init__(
        self,
        connector: Connector,
        rules: SharedRules,
        *,
        node: str,
        sharded: bool = False,
        make_id: Callable[[], str],
        log: structlog.typing.FilteringBoundLogger,
        present: Callable[[], Iterable[Present]] = tuple,
        on_client_left: Callable[[str, str | None, str | None], None] = _nobody,
        events: EventsOnRedis | None = None,
    ) -> None:
        self._log = log
        self.names = Names(rules.prefix, database=connector.database, sharded=sharded)
        finder = EpochFinder(connector, self.names)
        self.commands = Commands(connector, name=CLIENT_NAME, prepare=finder.prepare, log=log)
        self.subscription = Subscription(
            connector,
            self,
            name=CLIENT_NAME,
            probe=self._probe,
            sharded=self.names.is_sharded,
            canary=self.names.inbox(os.urandom(8).hex()),
            log=log,
        )
        self.following = Following(
            self.commands,
            self.names,
            node,
            self.subscription,
            finder,
            acknowledge=self._acknowledge,
            ttl=rules.ttl,
            history_bytes=rules.history_bytes,
            log=log,
        )
        self.publisher = Publisher(
            self.commands,
            self.names,
            node,
            self.following,
            length=rules.length,
            ttl=rules.ttl,
            renew=finder.renew,
            make_id=make_id,
            log=log,
        )
        finder.attach(self.commands, self.following, self.publisher)
        self.checks = Checks(connector, self.names, log)
        self.sweeper = Sweeper(self.commands.ask, self.names, rules.ttl, lambda: self.following.now)
        self.membership = Membership(
            self.commands.ask,
            _Events(self, present, on_client_left, log),
            name=node,
            prefix=rules.prefix,
            lease=rules.lease,
            settings=rules.settings,
            losses=lambda: self.commands.reconnects,
        )
        self.events: RedisEvents | None = None
        """The log of events for back ends, where there is one."""
        if events is not None:
            self.events = RedisEvents(
                self.commands.ask,
                rules.prefix,
                stream=events.stream,
                outbox=events.outbox,
                offline_seconds=events.offline_seconds,
                node=lambda: self.node,
                present=events.present,
            )
        self._acks: dict[str, list[Ack]] = {}
        self._pushes: PushObserver
        self.nodes_observer: NodeObserver
        self.malformed = 0
        self.ordinary_dropped = 0
        self.untold = 0
        self._hears_nodes = False  # ever
        self.subscription.want([self.names.inbox(node), self.names.all_nodes], self._on_hears_nodes)

    @property
    def node(self) -> str:
        """This node's name; another than it was given, from the first moments on, if that was taken."""
        return self.membership.node

    @property
    def epoch(self) -> str:
        """The history's; empty as long as Redis has never been reached."""
        return self.following.epoch

    @property
    def trouble(self) -> str | None:
        """Why this node is cut off from the others, or None."""
        return self.checks.trouble or self.commands.trouble or self.subscription.trouble or self.membership.trouble

    def attach(self, pushes: PushObserver, nodes: NodeObserver) -> None:
        """Say who is told."""
        self._pushes, self.nodes_observer = pushes, nodes
        self.following.attach(pushes)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep this node joined to the others until cancelled; `started` once Redis was tried, whether or not it is
        there. At the end it says goodbye, and what was published before is still sent: two seconds at most. What has no
        answer by then is refused."""
        ending = trio.CancelScope(shield=True)

        async def command() -> None:
            with ending:
                await self.commands.run()

        try:
            async with trio.open_nursery() as outer:
                outer.start_soon(command)
                try:
                    async with trio.open_nursery() as nursery:
                        await self.commands.tried.wait()
                        nursery.start_soon(self.subscription.run)
                        nursery.start_soon(self.following.run)
                        nursery.start_soon(self.membership.run)
                        nursery.start_soon(self.sweeper.run)
                        nursery.start_soon(self.checks.run)
                        nursery.start_soon(self._tick)
                        if self.events is not None:
                            nursery.start_soon(self.events.run)
                        task_status.started()
                finally:
                    await self.membership.leave()
                    ending.cancel()
        finally:
            self.publisher.end()
            self.following.end()

    # Pushes and history

    def publish(self, publication: Publication, reply: Reply[Published | PeerFault]) -> None:
        """Push to all nodes."""
        refusal = self._pushes.refusal(publication.target)
        if refusal is not None:
            reply(refusal)
        else:
            self.publisher.publish(publication, reply)

    def join(self, targets: Collection[Target], resume: StreamPositions | None, reply: Reply[Joined]) -> None:
        """One more connection here belongs to these targets."""
        self.following.join(targets, resume, reply)

    def leave(self, targets: Collection[Target]) -> None:
        """One connection less belongs to these targets."""
        self.following.leave(targets)

    # Among nodes

    def tell(self, node: str, kind: str, body: bytes) -> None:
        """Send a message to one node."""
        if node != self.node:
            self._tell(self.names.inbox(node), kind, body)

    def tell_all(self, kind: str, body: bytes) -> None:
        """Send a message to every other node."""
        self._tell(self.names.all_nodes, kind, body)

    def tell_holders(self, target: Target, kind: str, body: bytes, reply: Reply[int] | None = None) -> None:
        """Send a message to every other node that has joined a target."""

        def reached(answer: object) -> None:
            if reply is not None:
                nodes = answer if isinstance(answer, int) else 0
                reply(max(0, nodes - self.following.subscribed_to(target)))

        self._tell(self.names.channel(target), kind, body, reached)

    def nodes(self) -> Collection[NodeState]:
        """The nodes that live."""
        return self.membership.nodes()

    def announce(self, state: NodeState) -> None:
        """What the others are to know of this node."""
        self.membership.announce(state)

    def renamed(self, node: str) -> None:
        """The name was another's: this node has a new one, and hears under that."""
        self.subscription.want([self.names.inbox(node)], self.membership.look_again)
        self.publisher.node = node
        self.following.renamed(node)

    def _tell(self, channel: bytes, kind: str, body: bytes, done: Callback | None = None) -> None:
        def sent(answer: object) -> None:
            if isinstance(answer, Exception):
                self.untold += 1
            if done is not None:
                done(answer)

        message = cluster_message(ClusterMessage(self.node, kind, body))
        if len(message) > LARGEST_PAYLOAD:
            sent(Refusal("ERR a message that no node would read"))
        else:
            self.commands.send(self.names.publish, channel, message, done=sent)

    # The subscription's observer

    def on_message(self, channel: bytes, payload: bytes) -> None:
        """A message came on one of this node's channels."""
        target = self.names.target(channel)
        if target is None:
            self._on_told(payload)
        elif channel.startswith(ORDINARY):
            self._on_ordinary(channel, target, payload)
        elif (arrival := read_push(payload)) is not None:
            self.following.on_push(target, arrival, len(payload))
        else:
            self._on_told(payload)

    def on_read(self) -> None:
        """A batch of messages was handled: what became of the pushes among them goes out together."""
        self._acknowledge_all()

    def on_gap(self) -> None:
        """Messages may have been missed."""
        self.following.on_resubscribed()
        self.membership.look_again()

    def _on_hears_nodes(self) -> None:
        self._hears_nodes = True
        self.membership.look_again()

    def on_joined(self) -> None:
        """All nodes that live are known. It is told further once they are heard, too."""
        if self._hears_nodes:
            self.nodes_observer.on_joined()

    def _on_told(self, payload: bytes) -> None:
        match read_inbox(payload):
            case ClusterMessage(sender, kind, body):
                if sender == self.node:
                    return
                if kind in KINDS:
                    self.membership.on_message(sender, kind, body)
                else:
                    self.nodes_observer.on_message(sender, kind, body)
            case int(number):
                self.following.on_fence(number)
            case list(some):
                self.publisher.acknowledged(some)
            case None:
                self.malformed += 1

    def _on_ordinary(self, channel: bytes, target: Target, payload: bytes) -> None:
        try:
            event: Event = read_ordinary(payload)
        except PeerFault as fault:
            self.ordinary_dropped += 1
            if not self.ordinary_dropped & (self.ordinary_dropped - 1):
                self._log.warning(
                    "a notification from another program was dropped",
                    channel=channel.decode("utf-8", "replace"),
                    reason=fault.message,
                    count=self.ordinary_dropped,
                )
        else:
            self._pushes.on_push(target, event)

    def _acknowledge(self, push: Push, counts: Counts) -> None:
        ack = Ack(push.number, *counts)
        if push.node == self.node:
            self.publisher.acknowledged([ack])
        else:
            self._acks.setdefault(push.node, []).append(ack)

    def _acknowledge_all(self) -> None:
        if self._acks:
            collected, self._acks = self._acks, {}
            for node, some in collected.items():
                self.commands.send(self.names.publish, self.names.inbox(node), acks(some))

    # What lasts

    async def _tick(self) -> None:
        patient_until = -math.inf
        while True:
            due = trio.current_time() + TICK
            await trio.sleep_until(due)
            now = trio.current_time()
            # Not time after time: a process that hardly runs must answer too.
            if now - due > STOOD_STILL and now > patient_until + PATIENCE:
                patient_until = now + GRACE
            if now >= patient_until:
                self.publisher.look(now)
                self.following.look(now)
            self._acknowledge_all()

    async def _probe(self, channel: bytes, payload: bytes) -> object:
        return await self.commands.ask(self.names.publish, channel, payload)


class _Events:
    """What the membership of a node tells its backplane, and asks of it."""

    def __init__(
        self,
        plane: RedisBackplane,
        present: Callable[[], Iterable[Present]],
        on_client_left: Callable[[str, str | None, str | None], None],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._plane = plane
        self._log = log
        self.present = present
        self.on_client_left = on_client_left

    def tell_all(self, kind: str, body: bytes) -> None:
        """Send a message to every other node."""
        self._plane.tell_all(kind, body)

    def on_renamed(self, node: str) -> None:
        """This node has this name from now on."""
        self._plane.renamed(node)

    def on_node_left(self, node: str) -> None:
        """A node is gone."""
        self._plane.nodes_observer.on_node_left(node)

    def on_nodes_changed(self) -> None:
        """The nodes are others than before."""
        self._plane.nodes_observer.on_nodes_changed()

    def on_joined(self) -> None:
        """All nodes that live are known again."""
        self._plane.on_joined()

    def on_instance(self, instance: str) -> None:
        """This node is known by this name from now on."""
        if self._plane.events is not None:
            self._plane.events.begin(instance)

    async def on_buried(self, instance: str, node: str) -> None:
        """A node that is lost is reported, by this one."""
        if self._plane.events is not None:
            await self._plane.events.tell_left(instance, node)

    async def on_leaving(self) -> None:
        """This node gives up its lease."""
        if self._plane.events is not None:
            await self._plane.events.finish()

    def note(self, event: str, /, **fields: object) -> None:
        """Something that operators should know; that all is well is no warning."""
        say = self._log.info if event == HELD else self._log.warning
        say(event, **fields)
