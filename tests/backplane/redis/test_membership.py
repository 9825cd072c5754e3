"""Nodes that come, die, freeze and say goodbye, over a real Redis; each lives in tasks of its own."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from service.backplane.redis.members import Word
from service.backplane.redis.membership import UNSURE, Membership
from service.backplane.redis.registry import CHUNK, MAX_PENDING, Present
from service.backplane.redis.scripts import LEASE_RENEW, LEASE_TAKE, NODE_BURY, NODES_LOOK
from service.core.cluster.backplane import NodeState
from service.observe import make_log
from service.redis.commands import Commands
from service.redis.link import LONGEST_DELAY
from service.redis.resp import Word as Command
from service.redis.urls import read_url
from tests.backplane.redis_server import RedisServer, redis_server, tcp_proxy

LEASE = 1.0
LONG = 60.0
"""A lease that does not run out while a test runs, though the machine stand still."""
LIMIT = 60.0
"""Seconds for what should take one, on a busy machine."""

Left = tuple[str, str | None, str | None]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


class Node:
    """A membership, and all that it says."""

    def __init__(self, town: "Town", name: str, url: str) -> None:
        self.town = town
        self.commands = Commands(read_url(url), log=make_log("json", "error"))
        self.here: dict[str, Present] = {}
        self.gone: list[str] = []
        self.left_users: list[Left] = []
        self.names: list[str] = []
        self.notes: list[str] = []
        self.changes = 0
        self.joined_with: list[list[str]] = []
        self.told_in: list[str | None] = []
        self.scope = trio.CancelScope()
        self.membership = Membership(self.commands.ask, self, name=name, prefix="test:", lease=town.lease)

    @property
    def seen(self) -> list[str]:
        """The names of the nodes that it knows of."""
        return [state.node for state in self.membership.nodes()]

    async def run(self) -> None:
        """Until it is killed."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.commands.run)
                await nursery.start(self.membership.run)

    def on_instance(self, instance: str) -> None:
        """Nothing is kept of it."""

    async def on_buried(self, instance: str, node: str) -> None:
        """Nothing else is to be said."""

    async def on_leaving(self) -> None:
        """Nothing is to be said."""

    async def leave(self) -> None:
        """A clean end."""
        await self.membership.leave()
        self.scope.cancel()

    def kill(self) -> None:
        """All ends at once; nothing is said."""
        self.scope.cancel()

    def client(self, session: str, client_id: str | None = None, user_id: str | None = None) -> None:
        """Somebody connects."""
        one = self.here[session] = Present(session, client_id, user_id)
        self.membership.registry.on_connected(one)

    # Its surroundings

    def tell_all(self, kind: str, body: bytes) -> None:
        self.told_in.append(self.membership.trouble)
        for other in self.town.nodes:
            if other is not self and not self.town.mute:
                other.membership.on_message(self.membership.node, kind, body)

    def on_node_left(self, node: str) -> None:
        self.gone.append(node)

    def on_nodes_changed(self) -> None:
        self.changes += 1

    def on_joined(self) -> None:
        self.joined_with.append([state.node for state in self.membership.nodes()])

    def on_client_left(self, node: str, client_id: str | None, user_id: str | None) -> None:
        self.left_users.append((node, client_id, user_id))

    def on_renamed(self, node: str) -> None:
        self.names.append(node)

    def present(self) -> Iterable[Present]:
        return self.here.values()

    def note(self, event: str, /, **fields: object) -> None:
        self.notes.append(event)


class Town:
    """The nodes of a test. `mute`: their messages are lost, only leases tell."""

    def __init__(self, nursery: trio.Nursery, redis: RedisServer, lease: float = LEASE) -> None:
        self.nursery = nursery
        self.lease = lease
        self.redis = redis
        self.nodes: list[Node] = []
        self.mute = False

    async def node(self, name: str, url: str | None = None) -> Node:
        """One more, as soon as it has its lease."""
        node = Node(self, name, url or self.redis.url)
        self.nodes.append(node)
        self.nursery.start_soon(node.run)
        with trio.fail_after(LIMIT):
            await node.membership.settled.wait()
        return node

    def members(self) -> int:
        """How many the index in Redis names."""
        return int(self.redis.command("SCARD", "test:members")[1:])


@asynccontextmanager
async def town(redis: RedisServer, lease: float = LEASE) -> AsyncIterator[Town]:
    async with trio.open_nursery() as nursery:
        yield Town(nursery, redis, lease)
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Wait until it holds; what it waits for happens in Redis or in tasks, so it looks again and again."""
    with trio.fail_after(limit):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def written(node: Node) -> None:
    """Until the registry is."""
    registry = node.membership.registry
    await until(lambda: not registry.pending and int(_count(node)[1:]) == len(node.here))


def _count(node: Node) -> bytes:
    key = f"test:on:{node.membership._instance}"
    return node.town.redis.command("HLEN", key).strip()


@pytest.mark.parametrize("mute", [False, True])
async def test_nodes_see_one_another_and_what_they_announce(redis: RedisServer, mute: bool) -> None:
    async with town(redis) as at:
        at.mute = mute
        a, b = await at.node("a"), await at.node("b")
        await until(lambda: b.membership.trouble is None)
        assert b.joined_with[0] == ["a", "b"], "it is ready once it knows who lives"
        await until(lambda: a.seen == ["a", "b"] == b.seen)
        state = NodeState("x", "websocket", "ws://box:8001", False, 3, json.dumps({"v": 1}).encode())
        changes = b.changes
        a.membership.announce(state)
        assert a.membership.nodes()[0] == state._replace(node="a")
        await until(lambda: b.membership.nodes()[0] == state._replace(node="a"))
        a.membership.announce(state._replace(load=4))
        a.membership.announce(state._replace(draining=True))
        await until(lambda: b.membership.nodes()[0].draining)
        assert b.changes > changes
        assert not a.gone + b.gone


async def test_a_node_that_says_nothing_any_more_is_gone_within_a_lease_and_its_users_left_once(
    redis: RedisServer,
) -> None:
    async with town(redis) as at:
        a, b, c = await at.node("a"), await at.node("b"), await at.node("c")
        for n in range(2 * CHUNK + 10):
            c.client(f"s{n}", f"c{n}", "u1" if n % 2 else None)
        await written(c)
        del c.here["s0"]
        c.membership.registry.on_left("s0")
        await written(c)
        await until(lambda: a.seen == ["a", "b", "c"] == b.seen)
        at.nodes.remove(c)
        c.kill()
        killed = trio.current_time()
        await until(lambda: a.seen == ["a", "b"] == b.seen)
        # Within one lease, and what a busy machine takes.
        assert trio.current_time() - killed < LEASE + 10
        await until(lambda: at.members() == 2)
        assert a.gone == b.gone == ["c"]
        left = a.left_users + b.left_users
        assert sorted(left) == sorted(("c", f"c{n}", "u1" if n % 2 else None) for n in range(1, 2 * CHUNK + 10))
        # Counted once Redis has answered that it is off the list, which is seen above before that.
        await until(lambda: sorted([a.membership.nodes_lost, b.membership.nodes_lost]) == [0, 1])
        assert a.membership.clients_left + b.membership.clients_left == 2 * CHUNK + 9


@pytest.fixture
def long_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves has the time to say so, though the machine stand still."""
    monkeypatch.setattr("service.backplane.redis.membership._FAREWELL", LIMIT)


@pytest.mark.usefixtures("long_farewell")
async def test_who_says_goodbye_is_gone_at_once_and_nobody_is_reported(redis: RedisServer) -> None:
    async with town(redis, LONG) as at:
        a, b = await at.node("a"), await at.node("b")
        await until(lambda: a.seen == ["a", "b"])
        b.client("s1", "c1", "u1")
        await written(b)
        await b.leave()
        assert (a.seen, a.gone) == (["a"], ["b"])
        at.nodes.remove(b)
        # The name is free at once.
        again = await at.node("b")
        await until(lambda: a.seen == ["a", "b"])
        assert again.membership.node == "b"
        assert a.gone == ["b"]
        assert a.left_users == []


@pytest.mark.usefixtures("long_farewell")
async def test_a_goodbye_that_was_lost_is_seen_by_the_lease(redis: RedisServer) -> None:
    async with town(redis) as at:
        a, b = await at.node("a"), await at.node("b")
        await until(lambda: a.seen == ["a", "b"])
        b.client("s1", "c1", "u1")
        at.mute = True
        await b.leave()
        await until(lambda: a.seen == ["a"])
        assert a.gone == ["b"]
        assert a.left_users == []


async def test_one_name_has_one_node(redis: RedisServer) -> None:
    async with town(redis, LONG) as at:
        a, other = await at.node("a"), await at.node("a")
        assert other.membership.node.startswith("a-")
        assert other.names == [other.membership.node]
        assert "the node's name is taken by another" in other.notes
        await until(lambda: a.seen == ["a", other.membership.node] == other.seen)
        assert a.names == []


async def test_while_redis_is_away_nobody_is_thought_gone(redis: RedisServer) -> None:
    async with town(redis) as at:
        a, b, c = await at.node("a"), await at.node("b"), await at.node("c")
        for node in (a, b, c):
            node.client(f"s-{node.membership.node}", node.membership.node, "u1")
            await written(node)
        await until(lambda: a.seen == ["a", "b", "c"] == b.seen)
        redis.kill()
        await until(lambda: a.membership.trouble and b.membership.trouble)
        at.nodes.remove(c)
        c.kill()
        await trio.sleep(1.5 * LEASE)
        assert a.seen == ["a", "b", "c"] == b.seen
        # It has lost everything.
        redis.start()
        await until(lambda: not (a.membership.trouble or b.membership.trouble))
        await written(a)
        await written(b)
        await until(lambda: a.seen == ["a", "b"] == b.seen)
        assert a.gone == b.gone == ["c"]
        # What Redis lost of the dead node nobody can tell; of the living, nobody has left.
        assert a.left_users == b.left_users == []
        assert (a.membership.node, b.membership.node) == ("a", "b")


async def test_a_redis_that_hangs_for_longer_than_a_lease_buries_nobody(redis: RedisServer) -> None:
    async with town(redis) as at:
        a, b = await at.node("a"), await at.node("b")
        a.client("s1", "c1", "u1")
        b.client("s2", "c2", "u2")
        await written(a)
        await written(b)
        await until(lambda: a.seen == ["a", "b"] == b.seen)
        redis.stop()
        await until(lambda: a.membership.trouble and b.membership.trouble)
        await trio.sleep(LEASE)
        redis.cont()
        await until(lambda: not (a.membership.trouble or b.membership.trouble))
        since = trio.current_time()
        await until(lambda: trio.current_time() > since + 4 * LEASE)
        assert (a.gone, a.left_users, a.seen) == ([], [], ["a", "b"])
        assert (b.gone, b.left_users, b.seen) == ([], [], ["a", "b"])


async def test_one_that_was_cut_off_and_buried_comes_back_with_its_clients(redis: RedisServer) -> None:
    async with town(redis) as at, tcp_proxy(redis.port) as way:
        a, b = await at.node("a"), await at.node("b", way.url)
        b.client("s1", "c1", "u1")
        await written(b)
        await until(lambda: a.seen == ["a", "b"] == b.seen)
        first = b.membership._instance
        way.stall()
        await until(lambda: a.left_users)
        assert (a.gone, a.left_users) == (["b"], [("b", "c1", "u1")])
        # It doesn't know of anything, and believes in the others.
        await until(lambda: b.membership.trouble)
        assert b.seen == ["a", "b"]
        joined = len(b.joined_with)
        way.cut()
        way.resume()
        await until(lambda: a.seen == ["a", "b"])
        assert b.membership._instance != first
        await until(lambda: len(b.joined_with) > joined)
        assert b.joined_with[-1] == ["a", "b"]
        await written(b)
        assert (b.gone, b.left_users) == ([], [])
        # And when it dies for good, that is told again.
        at.nodes.remove(b)
        b.kill()
        await until(lambda: len(a.left_users) == 2)
        assert (a.gone, a.left_users) == (["b", "b"], [("b", "c1", "u1")] * 2)


async def test_a_node_that_finds_only_the_dead_reports_them(redis: RedisServer) -> None:
    async with town(redis) as at:
        a = await at.node("a")
        a.client("s1", "c1", "u1")
        await written(a)
        at.nodes.remove(a)
        a.kill()
        await until(lambda: redis.command("EXISTS", "test:node:a") == b":0\r\n")
        b = await at.node("b")
        await until(lambda: b.left_users)
        assert (b.left_users, b.gone, b.seen) == ([("a", "c1", "u1")], [], ["b"])
        await until(lambda: at.members() == 1)


async def test_without_redis_at_the_start_it_waits(redis: RedisServer) -> None:
    redis.kill()
    async with town(redis) as at:
        node = Node(at, "a", redis.url)
        at.nodes.append(node)
        node.client("s1", "c1", "u1")
        at.nursery.start_soon(node.run)
        await until(lambda: node.commands.trouble and "reached yet" not in node.commands.trouble)
        assert node.membership.trouble
        assert node.seen == ["a"]
        assert not node.membership.settled.is_set()
        redis.start()
        await until(node.membership.settled.is_set)
        await written(node)
        await until(lambda: node.membership.trouble is None)


async def test_who_may_have_missed_something_is_in_trouble_until_it_has_looked(redis: RedisServer) -> None:
    async with town(redis, LONG) as at:
        a = await at.node("a")
        await until(lambda: a.membership.trouble is None)
        at.mute = True
        await at.node("b")
        await until(lambda: at.members() == 2)
        assert (a.seen, a.joined_with) == (["a"], [["a"]])
        a.membership.look_again()
        assert a.membership.trouble == UNSURE
        await until(lambda: a.membership.trouble is None)
        assert (a.seen, a.joined_with) == (["a", "b"], [["a"], ["a", "b"]])


async def test_who_has_lost_its_lease_looks_anew_and_is_in_no_trouble(redis: RedisServer) -> None:
    async with town(redis) as at:
        a, b = await at.node("a"), await at.node("b")
        await until(lambda: a.membership.trouble is b.membership.trouble is None)
        joined = len(a.joined_with)
        a.told_in.clear()
        redis.command("FLUSHALL")
        await until(lambda: len(a.joined_with) > joined)
        assert (set(a.told_in), a.seen) == ({None}, ["a", "b"])


async def test_changes_that_wait_are_bounded(redis: RedisServer) -> None:
    async with town(redis) as at:
        a = await at.node("a")
        for n in range(MAX_PENDING + 10):
            a.client(f"s{n}")
            a.membership.registry.on_left(f"s{n}")
            del a.here[f"s{n}"]
        assert a.membership.registry.pending <= MAX_PENDING
        a.client("last", "c1")
        await written(a)


@pytest.mark.parametrize("body", [b"", b"x", b'x {"', b'x [0,["b","combined",null,false,"many",""]]', b"\xff []"])
async def test_words_that_make_no_sense_are_ignored(redis: RedisServer, body: bytes) -> None:
    async with town(redis) as at:
        a = await at.node("a")
        for kind in ("node", "bye"):
            a.membership.on_message("b", kind, body)
        assert (a.seen, a.gone) == (["a"], [])


async def test_a_lease_that_redis_has_thrown_away_buries_nobody(redis: RedisServer) -> None:
    """A Redis that evicts what has a time to live begins with leases; and a clock that jumps ends them all.

    No look need find a lease here: whoever takes one again says so to the others, to the one that comes late as well.
    """
    async with town(redis) as here:
        a, b = await here.node("a"), await here.node("b")
        b.client("s1", "c1", "u1")
        await written(b)
        await until(lambda: a.seen == b.seen == ["a", "b"])
        late = None
        for n in range(30):
            redis.command("DEL", "test:node:a", "test:node:b")
            await trio.sleep(LEASE / 10)
            if n == 3:
                late = await here.node("late")
        await until(lambda: late is not None and late.seen == a.seen == b.seen == ["a", "b", "late"])
        assert late is not None
        for node in (a, b, late):
            assert (node.gone, node.left_users) == ([], [])


async def test_a_node_that_died_is_reported_though_redis_has_thrown_the_index_away(redis: RedisServer) -> None:
    """As one that evicts anything does; nodes that live list themselves again, and are not buried."""
    async with town(redis) as at:
        a, b, c = await at.node("a"), await at.node("b"), await at.node("c")
        for one in (b, c):
            one.client(f"s-{one.membership.node}", "c1", "u1")
            await written(one)
        await until(lambda: a.seen == ["a", "b", "c"] == b.seen)
        at.nodes.remove(c)
        c.kill()
        redis.command("DEL", "test:members", "test:node:c", "test:node:b")
        await until(lambda: a.left_users + b.left_users == [("c", "c1", "u1")])
        await until(lambda: a.seen == b.seen == ["a", "b"])
        await until(lambda: sorted([a.membership.nodes_lost, b.membership.nodes_lost]) == [0, 1])
        assert a.left_users + b.left_users == [("c", "c1", "u1")]


class Leases:
    """The leases of a Redis, on the mock clock: this node's own, which is always renewed, and that of another node."""

    def __init__(self) -> None:
        self.losses = 0
        self.buryings = 0
        self.until = 0.0
        self.answers_in = 0.0
        """Seconds that each answer takes."""
        self.looked = trio.Event()
        state = NodeState("other", "websocket", None, False, 0, b"{}")
        self.text = b"0123 " + msgspec.json.encode(Word(1, state, {}))
        """What the other node says of itself."""

    def renewed(self) -> None:
        """The other node has renewed its lease."""
        self.until = trio.current_time() + 0.95 * LEASE

    def thrown_away(self) -> None:
        """The lease of the other node is."""
        self.until = 0.0

    async def look(self) -> None:
        """Wait until this node has looked who lives."""
        self.looked = trio.Event()
        await self.looked.wait()

    async def ask(self, *words: Command) -> object:
        """What Redis answers."""
        await trio.sleep(self.answers_in)
        if words[1] == NODES_LOOK.digest:
            self.looked.set()
            left = int((self.until - trio.current_time()) * 1000)
            return [[b"0123 other", self.text if left > 0 else None, left if left > 0 else -2]]
        self.buryings += words[1] == NODE_BURY.digest
        return 1 if words[1] in (LEASE_TAKE.digest, LEASE_RENEW.digest) else 0


@pytest.mark.parametrize("lost", [True, False])
async def test_who_has_not_renewed_since_the_link_was_lost_has_a_lease_s_time(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, lost: bool
) -> None:
    """Redis restarts between two renewals of this node, none of which fails; the other node is slower to find back."""
    leases = Leases()
    async with town(RedisServer(tmp_path)) as at:
        node = Node(at, "a", "redis://127.0.0.1:1/0")  # asked for nothing
        node.membership = Membership(
            leases.ask, node, name="a", prefix="test:", lease=LEASE, losses=lambda: leases.losses
        )
        leases.renewed()
        at.nursery.start_soon(node.membership.run)
        for _ in range(10):
            await trio.sleep(LEASE / 3)
            leases.renewed()
        assert node.seen == ["a", "other"]
        leases.losses += lost
        away = trio.current_time()
        # Longer than its lease and the time for noticing, shorter than what it may need.
        await trio.sleep(LEASE + 0.5 * LONGEST_DELAY)
        assert node.gone == ([] if lost else ["other"])
        leases.renewed()
        await trio.sleep(LEASE / 2)
        assert node.seen == ["a", "other"]
        # And when it does stay away, it is gone: once, and not much later.
        gone = len(node.gone)
        await trio.sleep(2 * LEASE)
        assert node.gone[gone:] == ["other"]
        assert trio.current_time() - away < 4 * (LEASE + LONGEST_DELAY)


@pytest.mark.shows("no node is taken for dead because of that, and no client for gone")
async def test_who_stood_still_itself_buries_nobody_for_that(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """A machine stands still for longer than a lease, and with it all nodes: which comes first afterwards?"""
    leases = Leases()
    async with town(RedisServer(tmp_path)) as at:
        node = Node(at, "a", "redis://127.0.0.1:1/0")  # asked for nothing
        node.membership = Membership(leases.ask, node, name="a", prefix="test:", lease=LEASE)
        leases.renewed()
        at.nursery.start_soon(node.membership.run)
        for _ in range(10):
            await trio.sleep(LEASE / 3)
            leases.renewed()
        assert node.seen == ["a", "other"]
        for still in (0.7 * LEASE, 1.5 * LEASE):
            autojump_clock.jump(still)
            await trio.sleep(0.9 * LEASE)  # the other one is slower to wake
            assert (node.seen, node.gone, leases.buryings) == (["a", "other"], [], 0)
            leases.renewed()
            await trio.sleep(LEASE / 3)
            leases.renewed()
        await trio.sleep(2 * (LEASE + LONGEST_DELAY))
        assert node.gone == ["other"]
        assert leases.buryings


@pytest.mark.parametrize("answers_in", [0.01, 0.06, 0.075, 0.085, 0.15])
async def test_where_all_are_slow_one_lease_that_was_thrown_away_buries_nobody(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, answers_in: float
) -> None:
    """Two looks a lease instead of three; and the other node renews just after this one has looked."""
    leases = Leases()
    async with town(RedisServer(tmp_path)) as at:
        node = Node(at, "a", "redis://127.0.0.1:1/0")  # asked for nothing
        node.membership = Membership(leases.ask, node, name="a", prefix="test:", lease=LEASE)
        leases.answers_in = answers_in
        at.nursery.start_soon(node.membership.run)
        for _ in range(10):
            await leases.look()
            await trio.sleep(0.001)
            leases.renewed()
        leases.thrown_away()
        await leases.look()
        await trio.sleep(answers_in)
        assert (node.seen, node.gone, leases.buryings) == (["a", "other"], [], 0)
        # And if it has died, that is seen.
        with trio.fail_after(10 * LEASE):
            while not leases.buryings:
                await leases.look()
        assert node.gone == ["other"]


@pytest.mark.parametrize("hears", [True, False])
async def test_who_comes_while_leases_are_thrown_away_buries_nobody(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, hears: bool
) -> None:
    """Whoever takes a lease again says so. Who comes and hears nothing gives the others time to."""
    leases = Leases()
    async with town(RedisServer(tmp_path)) as at:
        node = Node(at, "late", "redis://127.0.0.1:1/0")  # asked for nothing
        node.membership = Membership(leases.ask, node, name="late", prefix="test:", lease=LEASE)
        at.nursery.start_soon(node.membership.run)
        for _ in range(30 if hears else 7):
            await trio.sleep(LEASE / 3 + 0.001)  # after a look
            if hears:
                node.membership.on_message("other", "node", leases.text)
            assert (node.seen, node.gone) == (["late", "other"] if hears else ["late"], [])
            assert leases.buryings == 0
        leases.renewed()
        await leases.look()
        await trio.lowlevel.checkpoint()
        assert (node.seen, node.gone, leases.buryings) == (["late", "other"], [], 0)
        # And if that was its last word, it is gone.
        with trio.fail_after(10 * LEASE):
            while not leases.buryings:
                await leases.look()
        assert (node.seen, node.gone) == (["late"], ["other"])
