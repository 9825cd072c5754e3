"""The backplane of one process: the contract, where a World of three nodes stands for a deployment."""

from itertools import count

import pytest

from service.backplane.memory import MemoryBackplane, World
from tests.fakes import ManualClock

from .contract import LENGTH, TTL, BackplaneContract, Node, Scene


class TestMemory(BackplaneContract):
    """Three nodes of one process."""

    @pytest.fixture
    def scene(self) -> Scene:
        clock = ManualClock()
        world = World(now=clock.now, length=LENGTH, ttl=TTL)
        made = count()
        a, b, c = (Node(MemoryBackplane(world, name, lambda: f"made-{next(made)}")) for name in "abc")

        async def pass_time(seconds: float) -> None:
            clock.move(seconds + 1)

        return Scene(a, b, c, pass_time)
