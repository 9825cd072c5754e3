"""Every script is a file, and every file a script."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from service.backplane.redis import scripts
from service.redis.scripts import Script

from ..redis_server import RedisServer, redis_server
from .links import link


def test_every_file_is_a_script_and_every_script_a_file() -> None:
    folder = Path(scripts.__file__).parent
    found = {name: one for name, one in vars(scripts).items() if isinstance(one, Script)}
    assert {f"{name.lower()}.lua" for name in found} == {file.name for file in folder.glob("*.lua")}
    assert set(scripts.ORDERED) <= set(found.values())


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


KNOWN, ANOTHER, AGO = "e1", 10**15, 60 * 10**6


@pytest.mark.parametrize(
    ("run", "accepted", "ago", "now_begins"),
    [
        ("run-2", 0, 0, False),
        ("run-2", ANOTHER, AGO, False),  # before the epoch began: everybody was told since
        ("run-2", ANOTHER, 0, True),  # by a Redis that is no master any more, for example
        ("run-3", ANOTHER, AGO, True),  # who knows by whose clock the epoch began
    ],
)
async def test_what_another_redis_accepted_is_told_unless_it_was_told_since(
    redis: RedisServer, run: str, accepted: int, ago: int, now_begins: bool
) -> None:
    redis.command("FLUSHALL")
    commands = link(redis.url)
    async with trio.open_nursery() as nursery:
        await nursery.start(commands.run)

        async def name(run: str, new: str, accepted: int, ago: int) -> object:
            words = (run, 1, new, "", "", KNOWN, 0, "", accepted, ago)
            return await scripts.EPOCH.ask(commands.ask, ("test:epoch", "test:streams"), words)

        assert await name("run-2", "e2", 0, 0) == b"e2"
        assert await name(run, "e3", accepted, ago) == (b"e3" if now_begins else b"e2")
        nursery.cancel_scope.cancel()
