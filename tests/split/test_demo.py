"""The demonstration, small: a node and then Redis are killed, and the accounts come out even."""

from pathlib import Path

import pytest

from tests.adversity.scene import FULL

from .demo import demonstrate

pytestmark = pytest.mark.live


@pytest.mark.shows(
    "its clients are cut, and come back to another node",
    "replayed to those who `resume`",
    "accepted",
    "its workers' requests go to others (`idempotent`), or are answered `Worker lost`",
    "the others stay ready",
)
def test_nothing_is_lost_or_doubled_when_a_node_and_then_redis_are_killed(tmp_path: Path) -> None:
    outcome = demonstrate(tmp_path) if FULL else demonstrate(tmp_path, clients=60, users=13, rate=100, leg=1.5)
    assert outcome.clean, str(outcome)
    assert outcome.events.sent > 100
    assert outcome.events.reconnected >= (100 if FULL else 20), "a third of the clients was on the node"
    assert outcome.events.replayed > 0
    assert outcome.refused_without_node == outcome.unready_without_node == 0
    assert outcome.requests.answered > 100
    assert outcome.requests.moved > 0
