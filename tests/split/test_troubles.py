"""What becomes of clients and events when Redis itself is in trouble, or shared: accounts over real processes."""

from pathlib import Path
from typing import Final

import pytest

from tests.adversity.scene import sized

from .deployment import deployment
from .scene import scene

pytestmark = pytest.mark.live

CLIENTS: Final = sized(100, 1000)
USERS: Final = 21
HOUR: Final = 3600.0
FILL: Final = "for n = 1, ARGV[2] do redis.call('SET', KEYS[1] .. n, ARGV[1], 'EX', 600) end"


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
