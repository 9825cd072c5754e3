"""Whatever happens to Redis and to nodes, one thing after the other as chance has it, while clients come and go."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.adversity.scene import sized

from .deployment import deployment
from .scene import Scene, scene

pytestmark = pytest.mark.live

EVENTS: Final = sized(6, 60)


def redis_is_killed(here: Scene, seconds: float) -> None:
    here.parts.redis.kill()
    here.pump(seconds)
    here.parts.redis.start()


def redis_is_wiped(here: Scene, seconds: float) -> None:
    here.parts.redis.kill()
    here.pump(seconds)
    here.parts.redis.start(emptied=True)
    here.forgotten = True


def redis_freezes(here: Scene, seconds: float) -> None:
    here.parts.redis.stop()
    here.pump(2 * seconds)
    here.parts.redis.cont()


def redis_is_emptied(here: Scene, seconds: float) -> None:
    here.parts.redis.command("FLUSHALL")
    here.forgotten = True


def scripts_are_forgotten(here: Scene, seconds: float) -> None:
    here.parts.redis.command("SCRIPT", "FLUSH")


def subscriptions_are_cut(here: Scene, seconds: float) -> None:
    here.parts.redis.command("CLIENT", "KILL", "TYPE", "pubsub")


def commands_are_cut(here: Scene, seconds: float) -> None:
    here.parts.redis.command("CLIENT", "KILL", "TYPE", "normal")


def a_node_is_killed(here: Scene, seconds: float) -> None:
    node = here.parts.nodes[0]
    node.kill()
    here.pump(seconds)
    node.start()


def a_node_freezes(here: Scene, seconds: float) -> None:
    # Longer than its lease, at times: then it is buried, and comes back as somebody new.
    pid = here.parts.nodes[1].pid
    os.kill(pid, signal.SIGSTOP)
    here.pump(seconds)
    os.kill(pid, signal.SIGCONT)


def the_publishers_node_freezes(here: Scene, seconds: float) -> None:
    os.kill(here.parts.api.pid, signal.SIGSTOP)
    here.pump(seconds)
    os.kill(here.parts.api.pid, signal.SIGCONT)


THINGS: Final[list[Callable[[Scene, float], None]]] = [
    redis_is_killed,
    redis_is_wiped,
    redis_freezes,
    redis_is_emptied,
    scripts_are_forgotten,
    subscriptions_are_cut,
    commands_are_cut,
    a_node_is_killed,
    a_node_freezes,
    the_publishers_node_freezes,
]


@pytest.mark.shows("none lost in silence, none doubled, none out of order", "200 at the end")
def test_nothing_is_lost_in_silence_or_doubled(tmp_path: Path) -> None:
    chance = Random(int(os.environ.get("CHANCE", "7")))
    settings = {"PORTICO_NODE_LEASE": 2}
    with deployment(tmp_path, nodes=3, settings=settings) as parts, scene(parts, clients=100, users=21) as here:
        calm = False

        def come_and_go() -> None:
            if not calm:
                for client in chance.sample(here.clients, 4):
                    client.leave()
                here.crowd.later(0.2, come_and_go)

        come_and_go()
        for _ in range(EVENTS):
            thing, seconds = chance.choice(THINGS), chance.uniform(0.05, 3)
            print(f"{thing.__name__} {seconds:.2f}")  # what a failure shows
            thing(here, seconds)
            here.pump(chance.uniform(0.1, 1.5))
        calm = True
        here.until_probed(200, 30)
        here.pump(1)
        here.all_registered()
