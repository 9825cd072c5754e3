"""A node's core that shares a real Redis with others; clock, deferred calls and clients are in a test's hands."""

import random
from typing import NamedTuple

from service.backplane.memory import World
from service.backplane.redis.logins import RedisLoginStore
from service.backplane.redis.plane import RedisBackplane, SharedRules
from service.backplane.redis.revocations import RedisRevocations
from service.core.gateway import Gateway, GatewayParts, Rules, make_id
from service.observe import make_log
from service.redis.urls import read_url
from tests.fakes import FifoDefer, ManualClock, RecordingJournal, Stage

LOG = make_log("json", "critical")


class SharedCore(NamedTuple):
    """The core, and what joins it to the others: the test runs that, as far as it needs it."""

    stage: Stage
    plane: RedisBackplane
    revocations: RedisRevocations


def shared_core(url: str, name: str, prefix: str) -> SharedCore:
    """The core of the node `name`; those of one `prefix` are one deployment."""
    plane = RedisBackplane(read_url(url), SharedRules(prefix=prefix), node=name, make_id=make_id, log=LOG)
    revocations = RedisRevocations(plane.commands.send, plane.commands.ask, prefix)
    clock, defer, journal = ManualClock(), FifoDefer(), RecordingJournal()
    parts = GatewayParts(
        now=clock.now,
        wall=clock.wall,
        defer=defer,
        journal=journal,
        backplane=plane,
        login_store=RedisLoginStore(plane.commands.send, prefix),
        revocations=revocations,
    )
    gateway = Gateway(Rules(random=random.Random(7)), parts)
    return SharedCore(Stage(gateway, clock, defer, journal, World(now=clock.now)), plane, revocations)
