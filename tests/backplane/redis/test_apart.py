"""Deployments on one Redis: apart where they are meant to be, and told where they are not."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.backplane.redis.membership import STRANGER
from service.settings import Settings
from service.settings.fingerprint import SHARED, fingerprints

from ..contract import ANN, event
from ..redis_server import RedisServer, redis_server
from .test_plane import node
from .test_plane_adversity import ready


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.mark.shows("they hear nothing of one another", "but for `notifications:{user_id}`")
@pytest.mark.parametrize(
    ("databases", "prefixes"), [((0, 1), ("a:", "a:")), ((0, 0), ("a", "a:b"))], ids=("databases", "prefixes")
)
async def test_two_deployments_on_one_redis(
    redis: RedisServer, databases: tuple[int, int], prefixes: tuple[str, str]
) -> None:
    """Also where one's prefix is the beginning of the other's."""
    urls = [redis.url.removesuffix("/0") + f"/{database}" for database in databases]
    async with node(urls[0], "n", prefixes[0]) as here, node(urls[1], "n", prefixes[1]) as there:
        await ready(here, there)
        mine, theirs = await here.join(ANN), await there.join(ANN)
        assert (await here.publish(ANN, event(1))).matched == 1
        assert (await there.publish(ANN, event(2), durable=True)).matched == 1
        assert (mine.numbers, theirs.numbers) == ([1], [2])
        here.plane.tell_all("kick", b"x")
        assert await here.tell_holders(ANN, "kick", b"x") == 0
        await there.publish(ANN, event(3))
        assert there.messages == []
        # A name is taken in one of them only.
        assert here.plane.node == there.plane.node == "n"
        assert [state.node for state in here.plane.nodes()] == ["n"]
        # What other programs push to a user reaches both: Redis knows no databases there.
        redis.command("PUBLISH", "notifications:ann", '{"type": "cart"}')
        for one, client in ((here, mine), (there, theirs)):
            await one.until(lambda client=client: client.events[-1].type == "cart")  # type: ignore[misc]


@pytest.mark.shows("each logs which settings differ", "once for each node of the other")
async def test_two_that_share_a_prefix_by_mistake_notice(redis: RedisServer) -> None:
    said = io.StringIO()
    async with node(redis.url, "a", said=said, PORTICO_API_KEYS="1111", ENVIRONMENT="2222") as a:
        await ready(a)
        async with (
            node(redis.url, "same", ENVIRONMENT="2222") as same,  # it has no keys
            node(redis.url, "other", PORTICO_API_KEYS="3333", ENVIRONMENT="2222") as other,
        ):
            await ready(same, other)
            await a.until_true(lambda: len(a.plane.nodes()) == len(other.plane.nodes()) == 3)
            assert [one.plane.membership.strangers for one in (a, same, other)] == [1, 0, 1]
    [line] = [json.loads(line) for line in said.getvalue().splitlines() if STRANGER in line]
    assert (line["other_node"], line["settings"], line["level"]) == ("other", ["PORTICO_API_KEYS"], "warning")


def test_a_fingerprint_tells_nothing_of_a_secret() -> None:
    one = fingerprints(Settings.load({"PORTICO_API_KEYS": "s3cret-s3cret-s3cret", "PORTICO_HISTORY_LENGTH": "7"}))
    two = fingerprints(Settings.load({"PORTICO_API_KEYS": "another-another-one", "PORTICO_HISTORY_LENGTH": "7"}))
    assert {name for name in one if one[name] != two[name]} == {"PORTICO_API_KEYS"}
    assert set(one) < set(SHARED)
    assert all(len(digest) == 4 for digest in one.values())
