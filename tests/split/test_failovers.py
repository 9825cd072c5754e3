"""What becomes of clients and events when another Redis takes the place of the one there was: accounts over real
processes, with Sentinel and with Redis Cluster.

A replica may lack the last writes of its master, so after a failover nobody can say what is missing: there everybody is
told, and what nobody may be is not told. Where nothing can be missing (a slot that moves), nobody is told.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from service.redis.cluster import slot_of, tagged
from tests.adversity.scene import eventually, sized
from tests.backplane.redis_server import Guarded, RedisCluster, guarded_redis, redis_cluster

from .deployment import deployment
from .scene import Scene, scene

pytestmark = pytest.mark.live

PREFIX: Final = next(f"p{n}:" for n in range(100) if slot_of(tagged(f"p{n}:").encode()) < 5000)
"""Its slot is the first primary's, which has the replica."""
SLOT: Final = slot_of(tagged(PREFIX).encode())


def crowd(here: Scene, seconds: float, until: Callable[[], bool] | None = None) -> None:
    """Let things happen, with some clients leaving and coming back all the time."""
    for turn in range(round(seconds / 0.25)):
        for client in here.clients[turn % 10 :: 20]:
            client.leave()
        here.pump(0.25)
        if until is not None and until():
            return
    assert until is None, f"not within {seconds} s: {until.__name__}"


def switched(here: Scene, guarded: Guarded) -> None:
    """Have the sentinels put the replica in the place of the master, and wait until they have."""
    here.crowd.until(guarded.fail_over, 20, "the replica is a good one")
    crowd(here, 60, guarded.promoted)


def under_sentinels(folder: Path, guarded: Guarded, act: Callable[[Scene], None]) -> Scene:
    """An account of what `act` does to the master and its replica."""
    with (
        deployment(folder, nodes=2, redis=guarded.master, redis_url=guarded.url) as parts,
        scene(parts, clients=sized(100, 1000), users=21) as here,
    ):
        act(here)
        here.until_probed(200, 20)
        here.until_accepted()
        crowd(here, 2)
        here.all_registered()
    return here


@pytest.mark.shows(
    "what may be lost is told, also to clients of a node that is on the new master before the others",
    "nodes are ready within 20 s after the old one was told",
)
def test_a_healthy_master_is_switched(tmp_path: Path) -> None:
    with guarded_redis(tmp_path / "guarded", aof=True) as guarded:

        def act(here: Scene) -> None:
            switched(here, guarded)
            # The old one goes on as a master until the sentinels have told it otherwise, some ten seconds later. A
            # node that connects meanwhile is on the new one.
            node = here.parts.nodes[1]
            node.kill()
            node.start()
            crowd(here, 60, guarded.demoted)

        under_sentinels(tmp_path, guarded, act)


@pytest.mark.shows(
    "what may be lost is told, and nothing is doubled or out of order",
    "nodes are ready within 20 s after it follows",
)
def test_a_frozen_master_wakes(tmp_path: Path) -> None:
    with guarded_redis(tmp_path / "guarded", aof=True) as guarded:

        def act(here: Scene) -> None:
            guarded.master.stop()
            try:
                crowd(here, 1)
                switched(here, guarded)
                crowd(here, 2)
            finally:
                guarded.master.cont()
            crowd(here, 60, guarded.demoted)

        under_sentinels(tmp_path, guarded, act)


def in_a_cluster(folder: Path, cluster: RedisCluster, act: Callable[[Scene], None]) -> Scene:
    """An account of what `act` does to the primary that the deployment is on."""
    settings = {"REDIS_PREFIX": PREFIX}
    with (
        deployment(folder, nodes=2, redis=cluster.primaries[0], redis_url=cluster.url, settings=settings) as parts,
        scene(parts, clients=sized(100, 1000), users=21) as here,
    ):
        act(here)
        here.until_probed(200, 20)
        here.until_accepted()
        crowd(here, 2)
        here.all_registered()
    return here


def replaced(cluster: RedisCluster) -> bool:
    """Whether the replica is the primary by now."""
    assert cluster.replica is not None
    return b"role:master" in cluster.replica.command("INFO", "replication")


@pytest.mark.shows(
    "what may be lost is told, and nothing is doubled or out of order",
    "nodes are ready within 20 s",
)
def test_a_primary_of_a_cluster_dies(tmp_path: Path) -> None:
    with redis_cluster(tmp_path / "cluster", replica=True, aof=True) as cluster:

        def act(here: Scene) -> None:
            cluster.primaries[0].kill()
            crowd(here, 1)
            cluster.take_over()
            eventually(lambda: replaced(cluster), 20, "the replica takes the place of its primary")
            crowd(here, 2)

        in_a_cluster(tmp_path, cluster, act)


@pytest.mark.shows(
    "what may be lost is told, and nothing is doubled or out of order",
    "nodes are ready within 20 s",
)
def test_a_frozen_primary_of_a_cluster_wakes(tmp_path: Path) -> None:
    with redis_cluster(tmp_path / "cluster", replica=True, aof=True) as cluster:

        def act(here: Scene) -> None:
            cluster.primaries[0].stop()
            try:
                crowd(here, 1)
                cluster.take_over()
                crowd(here, 60, lambda: replaced(cluster))
                crowd(here, 2)
            finally:
                cluster.primaries[0].cont()
            crowd(here, 3)

        in_a_cluster(tmp_path, cluster, act)


@pytest.mark.shows(
    "nothing is lost, doubled or out of order, and nobody is told of a gap",
    "nodes are ready within 20 s",
)
def test_the_slot_of_a_deployment_moves(tmp_path: Path) -> None:
    with redis_cluster(tmp_path / "cluster", aof=True) as cluster:

        def act(here: Scene) -> None:
            cluster.move(SLOT, cluster.primaries[1])
            crowd(here, 2)

        here = in_a_cluster(tmp_path, cluster, act)
        assert here.account.told_lost == 0
