"""What becomes of clients and events when Redis itself is in trouble, or shared: accounts over real processes."""

from pathlib import Path
from typing import Final

import pytest

from tests.adversity.crowd import Client, register
from tests.adversity.scene import sized
from tests.backplane.redis_server import RedisServer, redis_server
from tests.backplane.shifted_clock import COMPILER, ShiftedClock

from .account import finish
from .deployment import NodeProcess, deployment
from .scene import Scene, push, scene

pytestmark = pytest.mark.live

CLIENTS: Final = sized(100, 1000)
USERS: Final = 21
HOUR: Final = 3600.0
BUSY: Final = 10.0
"""Seconds more for a machine that has other things to do."""
FILL: Final = "for n = 1, ARGV[2] do redis.call('SET', KEYS[1] .. n, ARGV[1], 'EX', 600) end"


def lease(redis: RedisServer, node: NodeProcess) -> int:
    """Milliseconds that are left of a node's lease."""
    return int(redis.command("PTTL", f"portico:node:{node.name}")[1:])


def some_leave(here: Scene, turn: int) -> None:
    """A tenth of the clients hang up, and come back."""
    for client in here.clients[turn % 10 :: 10]:
        client.leave()


@pytest.mark.shows(
    "nobody whose events may be gone is told that everything was recovered",
    "none: use `noeviction`",
)
def test_a_redis_that_evicts(tmp_path: Path) -> None:
    """The default of hosted ones: what has a time to live goes when memory is needed."""
    with redis_server(
        tmp_path / "redis", aof=True, maxmemory="4mb", maxmemory_policy="volatile-lru", maxmemory_samples=64
    ) as redis:
        with deployment(tmp_path, nodes=2, redis=redis) as parts, scene(parts, clients=CLIENTS, users=USERS) as here:
            for turn in range(sized(6, 60)):
                some_leave(here, turn)
                # Of the history of a user that nobody publishes to just now nothing is left.
                redis.command("EVAL", FILL, "1", f"filler-{turn}-", "x" * 1000, "3000")
                here.pump(0.5)
            here.all_registered()
        evicted = redis.command("INFO", "stats").split(b"evicted_keys:")[1].split(b"\r")[0]
        assert int(evicted) > 1000
    assert here.account.told_lost > 0, "what was evicted may have been lost, and is said to be"


@pytest.mark.shows(
    "nothing is lost, doubled or out of order, and nobody is told of a gap",
    "nodes that lost their lease by it are ready again within 5 s",
)
@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler for a clock that can be put wrong")
@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "back"])
def test_the_clock_of_redis_jumps_and_is_put_right(tmp_path: Path, seconds: float) -> None:
    clock = ShiftedClock(tmp_path / "clock")
    redis = RedisServer(tmp_path / "redis", aof=True)
    redis.environment = clock.environment
    redis.start()
    try:
        with deployment(tmp_path, nodes=2, redis=redis) as parts, scene(parts, clients=CLIENTS, users=USERS) as here:
            for turn in range(sized(2, 10)):
                clock.put(seconds)
                here.pump(1.5)
                some_leave(here, 2 * turn)
                here.pump(1)
                clock.put(0)
                here.pump(1.5)
                some_leave(here, 2 * turn + 1)
                here.pump(1)
            here.until_probed(200, 5 + BUSY)
            here.all_registered()
        # An offset in the future is no reason to forget where one was.
        assert here.account.told_lost == 0
    finally:
        redis.kill()


@pytest.mark.shows(
    "nothing is lost, and nobody is told of a gap",
    "events are accepted again as soon as the nodes are up",
)
def test_everything_is_restarted(tmp_path: Path) -> None:
    """Every node and Redis, at once, by kill -9: with `appendfsync always` nothing is lost, and nobody is told."""
    with deployment(tmp_path, nodes=2) as parts, scene(parts, clients=CLIENTS, users=USERS) as here:
        for _ in range(sized(2, 10)):
            parts.redis.kill()
            for node in parts.all:
                node.kill()
            here.pump(0.5)
            parts.redis.start()
            for node in parts.all:
                node.start()
            here.until_probed(200, 30)
            here.until_accepted()
            here.all_registered()
            here.pump(1)
    assert here.account.told_lost == 0
    assert here.account.replayed + here.account.delivered > 0


@pytest.mark.shows(
    "durable events are refused with 503, live pushes arrive, and every node stays ready",
    "for as long as it is full",
)
def test_a_full_redis(tmp_path: Path) -> None:
    """`noeviction`: durable events are refused, everything else goes on, and nodes stay ready."""
    with redis_server(tmp_path / "redis", aof=True, maxmemory="8mb", maxmemory_policy="noeviction") as redis:
        with deployment(tmp_path, nodes=2, redis=redis) as parts, scene(parts, clients=CLIENTS, users=USERS) as here:
            listener = here.crowd.join(Client(here.crowd, register("live", user_id="live"), "/ws"))
            here.crowd.until(lambda: listener.registered, 10, "the listener is there")
            redis.command("CONFIG", "SET", "maxmemory", "1mb")
            heard = listener.texts
            held = {node.name: lease(redis, node) for node in parts.all}
            for _ in range(sized(8, 60)):
                here.pump(0.5)
                assert {node.probe() for node in parts.all} == {200}
                status, said, _ = push(parts.api, {"user_id": "live"}, durable=True)
                assert (status, said["error"]["code"]) == (503, "unavailable")
                status, said, _ = push(parts.api, {"user_id": "live"})
                assert (status, said["matched"]) == (202, 1)
            # Left alone, what is left of a lease only falls.
            for node in parts.all:
                here.crowd.until(
                    lambda node=node: lease(redis, node) > held[node.name] - 3000,  # type: ignore[misc]
                    10,
                    "its lease is renewed",
                )
            here.crowd.until(lambda: listener.texts >= heard + sized(8, 60), 10, "all came")
            assert listener.texts == heard + sized(8, 60)
            redis.command("CONFIG", "SET", "maxmemory", "64mb")
            here.until_accepted()
            here.pump(1)
            assert here.closed == 0
        assert here.account.told_lost == 0
        assert here.account.refused > 0


@pytest.mark.shows(
    "neither gets what is pushed to the other, and none of its clients is a duplicate of the other's",
    "the channels `notifications:…` excepted, which have no prefix",
)
def test_two_deployments_share_a_redis(tmp_path: Path) -> None:
    """In two databases of it, with the same prefix and the same users: neither gets what is the other's."""
    with redis_server(tmp_path / "redis", aof=True) as redis:
        first, second = (redis.url.removesuffix("/0") + f"/{database}" for database in (0, 1))
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        with (
            deployment(tmp_path / "one", nodes=1, redis=redis, redis_url=first) as one,
            deployment(tmp_path / "two", nodes=1, redis=redis, redis_url=second) as two,
            scene(one, clients=CLIENTS // 2, users=USERS) as here,
            scene(two, clients=CLIENTS // 2, users=USERS) as there,
        ):
            for turn in range(sized(6, 60)):
                for each in (here, there):
                    some_leave(each, turn)
                    each.pump(0.25)
            for each in (here, there):
                each.all_registered()
                # Whoever registers with the other is no duplicate of anybody here.
                assert {code for client in each.clients for code in client.codes} == {1006}
            assert push(one.api, {"client_id": "c0"})[1]["matched"] == 1
            assert push(two.api, {"client_id": "c0"})[1]["matched"] == 1
            finish(here.crowd, here.publishers)
            finish(there.crowd, there.publishers)
    for each in (here, there):
        assert each.account.told_lost == 0


@pytest.mark.shows(
    "each is answered, in order, and what the first resumes is delivered once",
)
def test_registrations_that_are_superseded(tmp_path: Path) -> None:
    """A second one in the same segment, before the first is answered: both are, and what the first resumes is owed."""
    with deployment(tmp_path, nodes=2) as parts, scene(parts, clients=CLIENTS, users=USERS, hasty=True) as here:
        for turn in range(sized(8, 60)):
            some_leave(here, turn)
            here.pump(0.4)
        here.all_registered()
        here.pump(1)
        assert {client.answers for client in here.clients} == {2}, "each registration is answered"
    assert here.account.told_lost == 0
    assert here.account.replayed > 0
