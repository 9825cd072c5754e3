"""Membership: which nodes live, and what they say of themselves, by leases in Redis.

A node lives while it holds its lease: a key that runs out unless it is renewed, with what the others are to know of the
node as its value. An index names all that hold one, so that nobody must search for leases. Changes are told to the
others at once as well; leases are the truth, messages only make it known sooner.

What it promises:
- A node that stops without a word is known to be gone within one lease, and each node is told once.
- Its users are reported as left once, by one of the others (`MembershipEvents.on_client_left`).
- While Redis is out of reach nobody is thought to be gone: the last view stays. Afterwards whoever was not seen since
  has a full lease to come back, and the time that it may sleep between two tries.
- A name has one node: who finds its name taken goes by another, the name with a suffix.
- One that was frozen, and buried meanwhile, comes back as somebody new, with all its clients.
- One that stood still itself buries nobody for that: on a machine that did so, the others were late for their leases.

Knows nothing of pushes, sessions or HTTP. Every wait for Redis has an end.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec
import trio

from service.core.cluster.backplane import NodeState
from service.redis.faults import Refusal, Unreachable, reason
from service.redis.link import LONGEST_DELAY
from service.redis.scripts import Ask

from .members import MembershipEvents, Seen, Word, read_lease
from .registry import KEPT, Registry, pop, registry_key
from .scripts import LEASE_RELEASE, LEASE_RENEW, LEASE_TAKE, NODE_BURY, NODES_LOOK

NODE: Final = "node"
"""A message: what a node says of itself."""
BYE: Final = "bye"
"""A message: the node stops. Its body is its instance."""
KINDS: Final = (NODE, BYE)
HELD: Final = "the other nodes know that this one is alive"
"""What is noted when all is well."""
UNSURE: Final = "This node is finding out which others live."
STRANGER: Final = "another deployment seems to share this Redis and prefix"
"""What is noted when a node has other settings."""

SOON: Final = 0.05
"""Seconds in which changes are gathered before the others are told."""
LATER: Final = 0.25
"""The same, where only the load has changed."""
_HELD: Final = 0.95
"""Key TTL as a share of the lease; the rest is time to notice, so a dead node is gone within one lease."""
_LATE_LOOKS: Final = 5
"""Looks in a row that may come late until that spares nobody any more: a node that is always slow, or whose Redis is,
has to find the dead, too."""
_REAPING: Final = 30
"""Seconds after which somebody else may go on with what a reaper has begun."""
_AGAIN: Final = 0.25
"""Seconds between two tries while Redis is out of reach; connecting has its own back-off."""
_FAREWELL: Final = 1.0
_MAX_BYES: Final = 1000

_FAULTS: Final = (Refusal, Unreachable, trio.TooSlowError)


class Membership:
    """This node's place among the others."""

    def __init__(
        self,
        ask: Ask,
        events: MembershipEvents,
        *,
        name: str,
        prefix: str,
        lease: float,
        settings: Mapping[str, str] = MappingProxyType({}),
        losses: Callable[[], int] = lambda: 0,
    ) -> None:
        """`lease` in seconds; `settings`: fingerprints of what the nodes of one deployment have in common; `losses`:
        how often the link to Redis was lost."""
        self._losses = losses
        self._losses_seen = 0
        self._settings = dict(settings)
        self._ask = ask
        self._events = events
        self._prefix = prefix
        self._lease = lease
        # The others, too, may sleep between two tries to reach Redis.
        self._grace = lease + LONGEST_DELAY
        self._instance = _new_instance()
        self._version = 0
        self._wanted = name
        self._state = NodeState(name, "combined", None, False, 0, b"{}")
        self._view: dict[str, Seen] = {}
        self._said_bye: OrderedDict[str, None] = OrderedDict()
        self._index = f"{prefix}members"
        self._missing: dict[str, float] = {}  # instances without a lease, and since when
        self._unlisted: dict[str, str] = {}  # the same, of nodes that are gone from the index without a word
        self._held = False  # ever
        self._since = 0.0  # from when on what we see of Redis is whole
        self._looked = 0.0  # when we saw last who lives
        self._late_looks = 0  # in a row
        self._tell_at: float | None = None
        self._stirred = trio.Event()
        self._scope = trio.CancelScope()
        self.registry: Final = Registry(prefix, events.present)
        self.settled: Final = trio.Event()
        """Set when the lease was taken for the first time, and the name is sure."""
        self._trouble: str | None = "This node has not reached Redis yet."
        # How often messages of the others may have been missed, and how many of these times a look came after.
        self._missed = 1
        self._made_up_for = 0
        self._returned = False  # since the last look; messages were heard all the while, so that is no trouble
        self.nodes_lost = 0
        """Nodes that this one has found gone and reported."""
        self.clients_left = 0
        """Who was connected there."""

    @property
    def node(self) -> str:
        """This node's name."""
        return self._state.node

    @property
    def trouble(self) -> str | None:
        """Why this node's lease cannot be renewed, or the others cannot be known; or None."""
        return self._trouble or (UNSURE if self._is_unsure else None)

    @property
    def strangers(self) -> int:
        """Nodes that live and have other settings: of another deployment, perhaps."""
        return sum(bool(self._differing(seen)) for seen in self._view.values())

    def nodes(self) -> list[NodeState]:
        """The nodes that live, by name, this one among them."""
        states = [self._state, *(seen.word.state for seen in self._view.values())]
        return sorted(states, key=lambda state: state.node)

    def announce(self, state: NodeState) -> None:
        """What the others are to know from now on. The name stays."""
        state = state._replace(node=self.node)
        if state == self._state:
            return
        only_load = state._replace(load=self._state.load) == self._state
        self._state = state
        self._version += 1
        at = trio.current_time() + (LATER if only_load else SOON)
        if self._tell_at is None or at < self._tell_at:
            self._tell_at = at
            self._stirred.set()
        self._events.on_nodes_changed()

    def look_again(self) -> None:
        """Messages of the others may have been missed: see at once who lives. Until then that is trouble."""
        self._missed += 1
        self._stirred.set()

    @property
    def _is_unsure(self) -> bool:
        return self._made_up_for != self._missed

    def on_message(self, sender: str, kind: str, body: bytes) -> None:
        """A message of another's membership; one that makes no sense is ignored, the leases will tell."""
        if kind == BYE:
            instance = body.decode("ascii", "replace")
            # What was read of its lease a moment ago may come afterwards.
            self._said_bye[instance] = None
            if len(self._said_bye) > _MAX_BYES:
                self._said_bye.popitem(last=False)
            seen = self._view.get(sender)
            if seen is not None and seen.instance == instance:
                del self._view[sender]
                self._events.on_node_left(sender)
                self._events.on_nodes_changed()
            return
        now = trio.current_time()
        found = read_lease(body, now, now + self._lease)
        if found is not None and found.word.state.node == sender and self._merge(found):
            self._events.on_nodes_changed()

    # Its life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the lease and watch those of the others, whatever becomes of Redis, until `leave`.

        Cancelled, it ends without a word, and the others find that out by its lease.
        """
        task_status.started()
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_lease)
                await self.settled.wait()
                nursery.start_soon(self._keep_registry)

    async def leave(self) -> None:
        """Give up the lease, and say goodbye. Waits a second at most; fine also where Redis is away."""
        self._scope.cancel()
        try:
            with trio.fail_after(_FAREWELL, shield=True):
                await self._events.on_leaving()
                await self._ask("SREM", self._index, self._member())
                await LEASE_RELEASE.ask(self._ask, (self._key(),), (self._instance + " ",))
                await self._ask("DEL", registry_key(self._prefix, self._instance))
        except _FAULTS as error:
            self._events.note("Redis could not be told that this node leaves", reason=reason(error))
        self._events.tell_all(BYE, self._instance.encode())

    async def _keep_lease(self) -> None:
        """Hold the lease and watch the others until that fails, and again."""
        while True:
            # Who wasn't seen since now may have been as cut off as we were.
            self._since = trio.current_time()
            try:
                await self._heartbeat()
            except _FAULTS as error:
                self._failed(error)
            self.registry.rewrite()
            await trio.sleep(_AGAIN)

    async def _keep_registry(self) -> None:
        """Store who is connected until that fails, and again. A node whose clients cannot be stored, in a full Redis,
        works on: should it die, nobody reports that they have left."""
        while True:
            try:
                await self.registry.write(self._ask)
            except _FAULTS as error:
                if not self.registry.behind:
                    self._events.note("this node's clients cannot be stored in Redis", reason=reason(error))
                self.registry.behind = True
            self.registry.rewrite()
            await trio.sleep(self._lease / 3)

    def _failed(self, error: Exception) -> None:
        if self._trouble is None:
            self._events.note("the other nodes can't be told that this one is alive", reason=reason(error))
        self._missed += 1
        self._trouble = f"This node's lease in Redis cannot be renewed: {reason(error)}."

    async def _heartbeat(self) -> None:
        while True:
            untold, self._tell_at = self._tell_at, None
            try:
                with trio.fail_after(self._lease / 3):
                    # Before every look, since it tells whether Redis is still the one that we knew.
                    await self._hold()
            except BaseException:
                self._tell_at = untold
                raise
            if untold is not None:
                self._events.tell_all(NODE, self._text())
            may_join, missed = self._is_unsure or self._returned, self._missed
            self._returned = False
            with trio.fail_after(self._lease / 3):
                dead = await self._look()
            self._made_up_for = missed
            if self._trouble is not None:
                self._events.note(HELD)
                self._trouble = None
            if may_join and not self._is_unsure:
                self._events.on_joined()
            for instance, node in dead:
                await self._reap(instance, node)
            await self._pause()

    async def _pause(self) -> None:
        """Until the lease is to be renewed, another runs out, or there is something to tell."""
        now = trio.current_time()
        due = now + self._lease / 3
        for seen in self._view.values():
            until = seen.until if self._renewed(seen) else max(seen.until, self._since + self._grace)
            if until > now:
                due = min(due, until + 0.01)
        while not self._is_unsure and ((tell_at := self._tell_at) is None or trio.current_time() < tell_at):
            self._stirred = trio.Event()
            with trio.move_on_at(due if tell_at is None else min(due, tell_at)):
                await self._stirred.wait()
            if trio.current_time() >= due:
                return

    # The lease

    def _key(self) -> str:
        return f"{self._prefix}node:{self.node}"

    def _member(self) -> str:
        return f"{self._instance} {self.node}"

    def _text(self) -> bytes:
        return f"{self._instance} ".encode() + msgspec.json.encode(Word(self._version, self._state, self._settings))

    @property
    def _milliseconds(self) -> int:
        return max(1, int(self._lease * 1000 * _HELD))

    async def _hold(self) -> None:
        """Renew the lease; take it where there is none."""
        if self._held:
            keys = (self._key(), self._index, registry_key(self._prefix, self._instance))
            words = (self._instance + " ", self._text(), self._milliseconds, self._member(), KEPT)
            renewed = await LEASE_RENEW.ask(self._ask, keys, words)
            if renewed == 1:
                return
            # It ran out: we were frozen or cut off, or Redis has lost what it had. So may the others' have.
            self._since = trio.current_time()
            self._returned = True
            await self._return()
        else:
            await self._take()
            self._held = True
        self.registry.begin(self._instance)
        self._events.on_instance(self._instance)
        self._events.tell_all(NODE, self._text())
        self.settled.set()

    async def _return(self) -> None:
        """Take the lease again: as the one that this node was, unless somebody has buried that one."""
        grave = _grave(self._prefix, self._instance)
        old = self._member()
        keys = (self._key(), grave, _scratch(self._prefix))
        free = await NODE_BURY.ask(self._ask, keys, (self._instance + " ", self._instance, _REAPING)) == 1
        buried = not free and await self._ask("GET", grave) != self._instance.encode()
        if buried:
            self._instance = _new_instance()
        self._events.note(
            "this node was out of touch for so long that others may take it for dead", taken_for_dead=buried
        )
        await self._take()
        if not buried:
            if old != self._member():
                await self._ask("SREM", self._index, old)
            await self._ask("DEL", grave)

    async def _take(self) -> None:
        while True:
            keys = (self._key(), self._index, _scratch(self._prefix))
            words = (self._instance + " ", self._text(), self._milliseconds, self._member())
            if await LEASE_TAKE.ask(self._ask, keys, words) == 1:
                return
            taken = self.node
            self._state = self._state._replace(node=f"{self._wanted}-{os.urandom(2).hex()}")
            self._events.note("the node's name is taken by another", name=taken, renamed=self.node)
            self._events.on_renamed(self.node)

    # The others

    def _renewed(self, seen: Seen) -> bool:
        """Whether a node has taken or renewed its lease since Redis is back for this one."""
        return seen.at >= self._since and seen.until - self._milliseconds / 1000 >= self._since

    async def _look(self) -> list[tuple[str, str]]:
        """See who lives. Returns the instances that are dead, with the names of their nodes."""
        started = trio.current_time()
        answer = await NODES_LOOK.ask(self._ask, (self._index,), (f"{self._prefix}node:",))
        assert isinstance(answer, list)
        now = trio.current_time()
        if (losses := self._losses()) != self._losses_seen:
            # The link is a new one, though no renewal of ours may have been due in between. Others' may have been.
            self._losses_seen, self._since = losses, started
        patience = 0 if self._is_in_time(now) else self._lease / 2
        found: dict[str, Seen] = {}
        dead: list[tuple[str, str]] = []
        listed: set[str] = set()
        for member, text, left in answer:
            instance, _, name = member.decode().partition(" ")
            listed.add(instance)
            seen = None if text is None else read_lease(text, started, now + max(0, left) / 1000)
            if seen is not None and seen.instance == instance:
                found[name] = seen
            elif instance != self._instance:
                dead.append((instance, name))
        for instance, name in list(self._unlisted.items()):
            if instance in listed or instance in self._said_bye:
                del self._unlisted[instance]
            else:
                dead.append((instance, name))
        gone: set[str] = set()
        unknown = {instance for instance, _ in dead}
        self._missing = {instance: at for instance, at in self._missing.items() if instance in unknown}
        changed = False
        for name, seen in found.items():
            if name != self.node:
                changed |= self._merge(seen)
        again = self._since + self._grace
        for name, known in list(self._view.items()):
            if name in found:
                continue
            # One that was heard of while we looked may have come since. One that has not renewed its lease since Redis
            # is back for us has a lease's time: it may not have found its own way back yet. And one that says nothing
            # has the time of its lease: that may be missing because Redis has thrown it away, or its clock has jumped.
            over = known.instance not in listed or (
                self._lacks_it_for(known.instance, now) >= patience and now >= known.until
            )
            if over and known.at < started and (self._renewed(known) or now >= again):
                del self._view[name]
                if known.instance in listed:
                    gone.add(name)
                else:
                    # It has left, and its goodbye was lost; or Redis has thrown the index away, and this one is dead
                    # unless it lists itself again.
                    self._unlisted[known.instance] = name
                self._events.on_node_left(name)
                changed = True
        if changed:
            self._events.on_nodes_changed()
        return [
            (instance, name) for instance, name in dead if name in gone or (now >= again and self._is_dead(instance))
        ]

    def _is_in_time(self, now: float) -> bool:
        """Whether this look, of which there are three a lease, came so soon after the one before that every other node
        has renewed its lease since, and had time to take it again if it was thrown away then."""
        gap, self._looked = now - self._looked, now
        if gap <= self._lease * _HELD / 2:
            self._late_looks = 0
            return True
        if gap > self._lease or self._late_looks < _LATE_LOOKS:
            # We stood still. Where the others did too, their leases have run out.
            self._late_looks += 1
            self._since = now
        return False

    def _is_dead(self, instance: str) -> bool:
        """Whether one that has no lease has had none for so long that it would have taken it again."""
        if any(seen.instance == instance for seen in self._view.values()):
            return False
        return self._lacks_it_for(instance, trio.current_time()) >= self._lease / 2

    def _lacks_it_for(self, instance: str, now: float) -> float:
        """For how many seconds we have seen no lease of that instance."""
        return now - self._missing.setdefault(instance, now)

    def _merge(self, found: Seen) -> bool:
        """Take what was seen of a node into the view. Returns whether that changes it."""
        name = found.word.state.node
        if name == self.node or found.instance in self._said_bye:
            return False
        known = self._view.get(name)
        if known is None or known.instance != found.instance:
            self._view[name] = found
            if others := self._differing(found):
                self._events.note(STRANGER, other_node=name, settings=others)
            if known is not None:
                self._events.on_node_left(name)
            return True
        known.at = max(known.at, found.at)
        known.until = max(known.until, found.until)
        if found.word.version <= known.word.version:
            return False
        known.word = found.word
        return True

    def _differing(self, seen: Seen) -> list[str]:
        """The settings in which another node differs, though the nodes of one deployment would not."""
        theirs = seen.word.settings
        return [name for name, mine in self._settings.items() if theirs.get(name, mine) != mine]

    async def _reap(self, instance: str, node: str) -> None:
        """Report the users of a node that is lost, unless another does."""
        keys = (f"{self._prefix}node:{node}", _grave(self._prefix, instance), _scratch(self._prefix))
        if await NODE_BURY.ask(self._ask, keys, (instance + " ", self._instance, _REAPING)) != 1:
            return
        left = 0
        while names := await pop(self._ask, self._prefix, instance):
            left += len(names)
            for client_id, user_id in names:
                self._events.on_client_left(node, client_id, user_id)
        await self._events.on_buried(instance, node)
        await self._ask("SREM", self._index, f"{instance} {node}")
        if self._unlisted.pop(instance, None) is not None and not left:
            return  # it may have left properly
        self.nodes_lost += 1
        self.clients_left += left
        self._events.note("a node died", dead_node=node, clients=left)


def _new_instance() -> str:
    return os.urandom(8).hex()


def _grave(prefix: str, instance: str) -> str:
    return f"{prefix}reap:{instance}"


def _scratch(prefix: str) -> str:
    """A key that never exists."""
    return f"{prefix}nothing"
