"""RedisBackplane: what joins the nodes of a deployment, over one Redis.

Joins its parts and knows little itself: `commands` sends, `subscription` hears, `publishing` has receipts to give,
`following` knows how far each stream has come. Promises what `service.core.backplane` does. What comes on a channel
may be anybody's: what cannot be read is dropped and counted, and nothing of it is raised or logged.

Redis is trusted with what it has accepted as long as its process lives, and after a restart where it keeps an
append-only file; otherwise a restart begins a new epoch: whoever resumes is told that something may be lost.
"""

import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import structlog
import trio

from service.core.backplane import Done, Inbound, Joined, Order, Resume
from service.wire.faults import PeerFault
from service.wire.messages import Event, Target

from .commands import AskAll, Callback, Commands, Refusal, Word
from .following import Counts, Following
from .names import ORDINARY, Names
from .payloads import Ack, Push, Told, acks, read_inbox, read_ordinary, read_push, told
from .publishing import Publisher
from .scripts import ALL, EPOCH
from .subscription import LARGEST_MESSAGE, Subscription

TICK: Final = 0.05
"""Seconds between two looks at what has waited too long."""


class RedisBackplane:
    """One node's place among those that share a Redis.

    `dial` makes a connection, `greeting` is what is said first on it; `prefix` of everything of ours in Redis;
    `length` events and `ttl` seconds of each stream are kept; `make_id` names pushes that have no id.

    For metrics: the attributes of `commands`, `publisher`, `following` and `subscription`, and `malformed`,
    `ordinary_dropped`.
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[trio.abc.Stream]],
        *,
        node: str,
        greeting: Sequence[Sequence[bytes]] = (),
        prefix: str = "portico:",
        length: int = 1000,
        ttl: float = 86_400.0,
        make_id: Callable[[], str],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self.node = node
        self._log = log
        self.names = Names(prefix)
        self._inbox = self.names.inbox(node)
        self._greeting = greeting
        self._run: tuple[Word, ...] = (b"", 0)
        self.commands = Commands(
            dial,
            prepare=self._prepare,
            log=log,
        )
        self.subscription = Subscription(
            dial,
            greeting=greeting,
            probe=self._probe,
            canary=self._inbox + b":canary",
            on_message=self._heard,
            on_read=self._acknowledge_all,
            on_gap=self._resubscribed,
            log=log,
        )
        self.following = Following(
            self.commands,
            self.names,
            node,
            want=self.subscription.want,
            unwant=self.subscription.unwant,
            doubtful=lambda: self.subscription.trouble is not None,
            acknowledge=self._acknowledge,
            renew=self._renew,
            ttl=ttl,
            log=log,
        )
        self.publisher = Publisher(
            self.commands,
            self.names,
            node,
            length=length,
            ttl=ttl,
            floor=lambda: self.following.seen,
            make_id=make_id,
            log=log,
        )
        self._acks: dict[str, list[Ack]] = {}
        self._inbound: Inbound
        self.malformed = 0
        self.ordinary_dropped = 0
        self.untold = 0
        self.subscription.want([self._inbox, self.names.all_nodes])

    @property
    def epoch(self) -> str:
        """The history's; empty as long as Redis has never been reached."""
        return self.following.epoch

    @property
    def trouble(self) -> str | None:
        """Why this node is cut off from the others, or None."""
        return self.commands.trouble or self.subscription.trouble

    def attach(self, inbound: Inbound) -> None:
        """Say who is told."""
        self._inbound = inbound
        self.following.attach(inbound)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep this node joined to the others until cancelled; `started` once Redis was tried, whether or not it is
        there. What was published before the end is still sent, within a second."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.commands.run)
            nursery.start_soon(self.subscription.run)
            nursery.start_soon(self.following.run)
            nursery.start_soon(self._tick)
            task_status.started()

    # Pushes and history

    def publish(self, order: Order, done: Done) -> None:
        """Push to all nodes."""
        self.publisher.publish(order, done)

    def join(self, targets: Collection[Target], resume: Resume | None, done: Callable[[Joined], None]) -> None:
        """One more connection here belongs to these targets."""
        self.following.join(targets, resume, done)

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

    def tell_holders(self, target: Target, kind: str, body: bytes, done: Callable[[int], None] | None = None) -> None:
        """Send a message to every other node that has joined a target."""

        def reached(answer: object) -> None:
            if done is not None:
                nodes = answer if isinstance(answer, int) else 0
                done(max(0, nodes - self.following.subscribed_to(target)))

        self._tell(self.names.channel(target), kind, body, reached)

    def _tell(self, channel: bytes, kind: str, body: bytes, done: Callback | None = None) -> None:
        def sent(answer: object) -> None:
            if isinstance(answer, Exception):
                self.untold += 1
            if done is not None:
                done(answer)

        message = told(Told(self.node, kind, body))
        if len(message) > LARGEST_MESSAGE:
            sent(Refusal("ERR a message that no node would read"))
        else:
            self.commands.send("PUBLISH", channel, message, done=sent)

    # What is heard

    def _heard(self, channel: bytes, payload: bytes) -> None:
        target = self.names.target(channel)
        if target is None:
            self._heard_here(payload)
        elif channel.startswith(ORDINARY):
            self._heard_ordinary(target, payload)
        elif (arrival := read_push(payload)) is not None:
            self.following.arrived(target, arrival, len(payload))
        else:
            self._heard_here(payload)

    def _heard_here(self, payload: bytes) -> None:
        match read_inbox(payload):
            case Told(sender, kind, body):
                if sender != self.node:
                    self._inbound.heard(sender, kind, body)
            case int(number):
                self.following.fence_heard(number)
            case list(some):
                self.publisher.acknowledged(some)
            case None:
                self.malformed += 1

    def _heard_ordinary(self, target: Target, payload: bytes) -> None:
        try:
            event: Event = read_ordinary(payload)
        except PeerFault as fault:
            self.ordinary_dropped += 1
            if not self.ordinary_dropped & (self.ordinary_dropped - 1):
                self._log.warning(
                    "a notification from another program was dropped", reason=fault.message, count=self.ordinary_dropped
                )
        else:
            self._inbound.arrived(target, event)

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
                self.commands.send("PUBLISH", self.names.inbox(node), acks(some))

    # What lasts

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK)
            now = trio.current_time()
            self.publisher.look(now)
            self.following.look(now)
            self._acknowledge_all()

    async def _probe(self, channel: bytes, payload: bytes) -> None:
        await self.commands.ask("PUBLISH", channel, payload)

    async def _prepare(self, ask_all: AskAll) -> None:
        """On a new connection, before anything is read or published: what Redis is this, and which epoch?"""
        if self._greeting:
            try:
                await ask_all(self._greeting)
            except Refusal as refusal:
                # What Redis says of AUTH may repeat the password.
                raise Refusal(f"{refusal.word}: it refuses the user, the password or the database") from None
        *_, server, persistence = await ask_all(
            [*(script.load for script in ALL), ("INFO", "server"), ("INFO", "persistence")]
        )
        assert isinstance(server, bytes)
        assert isinstance(persistence, bytes)
        self._run = (_field(server, b"run_id"), int(_field(persistence, b"aof_enabled") == b"1"))
        [name] = await ask_all([EPOCH.call((self.names.epoch,), self._epoch_words(""))])
        self._named(name)

    def _renew(self, over: str) -> None:
        """Find out which epoch it is; `over`: the name of one that has ended."""
        EPOCH.send(self.commands, (self.names.epoch,), self._epoch_words(over), self._named)

    def _epoch_words(self, over: str) -> tuple[Word, ...]:
        return (*self._run, os.urandom(8).hex(), over)

    def _named(self, answer: object) -> None:
        if isinstance(answer, bytes):
            self.following.epoch = answer.decode()

    def _resubscribed(self) -> None:
        self.following.subscribed_anew()


def _field(info: bytes, name: bytes) -> bytes:
    for line in info.splitlines():
        key, _, value = line.partition(b":")
        if key == name:
            return value
    return b""
