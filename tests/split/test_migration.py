"""The moves between one process and several, as the how-to tells them, over real processes behind a real nginx."""

from pathlib import Path

import pytest

from tests.adversity.scene import FULL
from tests.test_docs_nginx import NGINX, OPENSSL

from .migration import migrate

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(NGINX is None or OPENSSL is None, reason="needs nginx, and openssl for its helper"),
]


def test_clients_follow_and_nothing_durable_is_lost_or_doubled(tmp_path: Path) -> None:
    outcome = migrate(tmp_path, leg=3.0 if FULL else 0.3, rate=50, nodes=2 if FULL else 1)
    by_move: dict[str, list[str]] = {}
    for move in outcome.moves:
        by_move.setdefault(move.what, []).append(str(move))
        assert move.sent > 0, outcome
        assert move.silent == move.doubled == 0, outcome
        if move.what == "memory to Redis":
            # The history of the old process is gone, and each client is told so for both of its streams.
            assert (move.told, move.connections) == (2, 1), outcome
        else:
            assert move.told == move.missed == 0, outcome
            assert move.connections == (0 if move.what == "in memory" else 1), outcome
    assert [len(clients) for clients in by_move.values()] == [3, 3, 3, 3]
    assert outcome.refused == []
    assert outcome.unordered == 0
    integrated, redis, split, back = outcome.advertised
    assert {integrated, redis, back} == {"ws://nginx/api/websocket"}
    assert split.startswith("ws://127.0.0.1:")
