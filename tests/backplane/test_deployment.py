"""How a process is joined to its deployment: what one that is alone does by itself, and which way Redis' URL leads."""

import pytest

from service.backplane.deployment import Alone, EventRules, OverRedis, _way
from service.backplane.memory_events import MemoryEvents
from service.backplane.redis.plane import SharedRules
from service.observe import make_log
from service.redis.cluster import Cluster

LOG = make_log("json", "critical")


def test_one_that_is_alone_keeps_events_only_where_somebody_listens() -> None:
    assert Alone(node="n1", length=10, ttl=60).events is None
    alone = Alone(node="n1", length=10, ttl=60, events=EventRules(5, 0, 1.0))
    assert isinstance(alone.events, MemoryEvents)
    assert alone.backplane.node == "n1"
    alone.forget_old()
    assert [one.name for one in alone.metrics()] == ["history_bytes", "pushes_repeated"]
    assert alone.settle_quotas is None


def test_on_a_cluster_all_keys_are_in_one_slot() -> None:
    way, prefix, sharded = _way("redis+cluster://a,b", "portico:")
    assert (isinstance(way, Cluster), sharded) == (True, True)
    assert "{" in prefix
    _, prefix, sharded = _way("redis://a", "portico:")
    assert (prefix, sharded) == ("portico:", False)


def test_a_url_that_cannot_be_read_is_a_sentence_without_its_password() -> None:
    with pytest.raises(ValueError, match="URL of Redis") as refused:
        over_redis("http://:s3cret@a")
    assert "s3cret" not in str(refused.value)


async def test_every_metric_over_redis_has_a_name_of_its_own() -> None:
    metrics = list(over_redis("redis://127.0.0.1:1").metrics())
    names = [one.name for one in metrics]
    assert len(set(names)) == len(names)
    assert {"pushes_repeated", "redis_connected", "stream_gaps"} <= set(names)


def over_redis(url: str) -> OverRedis:
    return OverRedis(
        url,
        SharedRules(length=10, ttl=60),
        node="n1",
        publish=lambda *_: None,
        present=tuple,
        log=LOG,
    )
