"""Whatever happens to Redis and the ways to it, while clients to the letter come, go and register: nothing is lost in
silence, nothing comes twice or out of order, and once all is well nobody is told of a gap.

`make accounts` plays hundreds of such stories; `LETTERS=37` plays that one alone.
"""

import os
import random
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import trio

from portico.wire.messages import stream_of
from tests.adversity.scene import sized
from tests.fakes import Stage

from ..redis_server import RedisServer, TcpProxy, tcp_proxy
from ..shifted_clock import COMPILER, ShiftedClock
from .letters import TARGETS, LetterTraveller, Published, core

STEPS: Final = sized(30, 100)
STORIES: Final = sized(1, 60)
MODULES: Final = ("following", "reading", "plane", "publishing")
HURRY: Final = 0.15
"""Seconds of patience while things happen, so that a story isn't long."""
CALM: Final = 6.0
LIMIT: Final = 120.0


class Story:
    """One Redis, two ways to it, a node's core behind each, and three clients."""

    def __init__(
        self, redis: RedisServer, ways: list[TcpProxy], houses: list[Stage], chance: random.Random, mode: str
    ) -> None:
        self.redis = redis
        self.ways = ways
        self.houses = houses
        self.chance = chance
        self.published = Published(houses, chance, mortal=mode == "lapsing")
        self.clients = [LetterTraveller(f"c{n}", self.published, chance) for n in range(3)]
        self._frozen = False
        self._full = False
        self._saved = False

    def something(self, happen: Callable[["Story"], None]) -> None:
        """One of the things that happen anyway, or, now and then, `happen`."""
        chance, thing = self.chance, self.chance.random()
        client, way = chance.choice(self.clients), chance.choice(self.ways)
        if thing < 0.25:
            for _ in range(chance.randint(1, 3)):
                self.published.publish(chance.choice(TARGETS))
        elif thing < 0.45:
            client.connect(chance.choice(self.houses), chance.choice((1, 1, 2, 3)), each_resumes=chance.random() < 0.5)
        elif thing < 0.55:
            client.cut()
        elif thing < 0.68:
            for _ in range(chance.choice((1, 1, 2))):
                client.register(as_another=chance.random() < 0.6)
        elif thing < 0.75:
            client.read(chance.randint(1, 3))
        elif thing < 0.80:
            way.cut()
        elif thing < 0.86:
            way.stall()
        elif thing < 0.915:
            way.resume()
            way.refusing = False
        elif thing < 0.93:
            way.refusing = True
            way.cut()
        elif thing < 0.965:
            happen(self)
        else:
            way.delay = chance.choice((0.0, 0.0, 0.05))

    # What happens to Redis

    def nothing(self) -> None:
        """Only the ways to it are bad."""

    def emptied(self) -> None:
        self.published.forget()
        self.redis.command("FLUSHALL")

    def killed(self) -> None:
        self.redis.kill()
        self.redis.start()

    def wiped(self) -> None:
        self.published.forget()
        self.redis.kill()
        self.redis.start(emptied=True)

    def frozen(self) -> None:
        (self.redis.cont if self._frozen else self.redis.stop)()
        self._frozen = not self._frozen

    def filled(self) -> None:
        """It has no room, or has room again: what would write is refused, also within a script that has begun."""
        self._full = not self._full
        self.redis.command("CONFIG", "SET", "maxmemory", "1" if self._full else "0")

    def restored(self) -> None:
        """It is put back to what it was when this was asked for the last time, or that is kept."""
        older = self.redis.folder.with_name("older")
        self.redis.kill()
        if self._saved and self.chance.random() < 0.6:
            self.published.forget(all_of_it=True)
            shutil.rmtree(self.redis.folder)
            shutil.copytree(older, self.redis.folder)
        else:
            shutil.rmtree(older, ignore_errors=True)
            shutil.copytree(self.redis.folder, older)
            self._saved = True
        self.redis.start()

    # The end

    async def calm(self) -> list[str]:
        """All is well again, and everything comes. Returns what is wrong."""
        self.published.mortal = False
        if self._frozen:
            self.redis.cont()
        if self._full:
            self.filled()
        for way in self.ways:
            way.delay, way.refusing = 0.0, False
            way.resume()
        await until(lambda: all(house.gateway.backplane.trouble is None for house in self.houses))
        for _ in range(2):
            await until(lambda: not self.published.busy)
            await until(self._all_registered)
            last = {stream_of(target): self.published.publish(target) for target in TARGETS}
            await until(lambda last=last: self._all_have(last))  # type: ignore[misc]
            told = sum(client.told for client in self.clients)
            for client in self.clients:
                client.cut()
        await until(self._all_registered)
        wrong = [f"{client.name}: {fault}" for client in self.clients for fault in client.faults]
        wrong += [f"a bug: {error!r}" for house in self.houses for error in house.journal.broken]
        if sum(client.told for client in self.clients) != told:
            wrong.append("somebody was told of a gap when all was well")
        return wrong

    def _all_registered(self) -> bool:
        for client in self.clients:
            client.connect(self.chance.choice(self.houses))
            client.read(1000)
        return all(client.registered for client in self.clients)

    def _all_have(self, last: dict[str, int]) -> bool:
        for client in self.clients:
            client.connect(self.chance.choice(self.houses))
            client.read(1000)
        return all(last[stream] in client.had[stream] for client in self.clients for stream in client.since)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of."""
    with trio.fail_after(LIMIT):
        while not holds():  # noqa: ASYNC110 - peers and publishers are plain objects
            await trio.sleep(0.01)


MODES: Final[dict[str, Callable[[Story], None]]] = {
    "emptied": Story.emptied,
    "lapsing": Story.nothing,
    "killed": Story.killed,
    "wiped": Story.wiped,
    "frozen": Story.frozen,
    "restored": Story.restored,
    "filled": Story.filled,
}


async def live(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One story."""
    chance = random.Random(number)
    mode = list(MODES)[number % len(MODES)]
    happen = MODES[mode]
    redis = RedisServer(folder / "redis", aof=True)
    clock = ShiftedClock(folder / "clock") if mode == "lapsing" and COMPILER is not None and number % 2 else None
    if clock is not None:
        redis.environment = clock.environment
    redis.start()
    async with AsyncExitStack() as stack:
        stack.callback(redis.kill)
        ways = [await stack.enter_async_context(tcp_proxy(redis.port)) for _ in range(2)]
        houses = [await stack.enter_async_context(core(way.url, f"n{n}")) for n, way in enumerate(ways)]
        await until(lambda: all(house.gateway.backplane.trouble is None for house in houses))
        story = Story(redis, ways, houses, chance, mode)
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        for target in TARGETS:
            nursery.start_soon(story.published.run, target)
        with monkeypatch.context() as hurried:
            for module in MODULES:
                hurried.setattr(f"service.backplane.redis.{module}.PATIENCE", HURRY)
            for _ in range(STEPS):
                story.something(happen)
                if clock is not None and chance.random() < 0.05:
                    story.published.forget()  # the time of their ids may be over by that
                    clock.put(chance.choice((0.0, 0.0, 30.0, -30.0, 3600.0, -3600.0)))
                await trio.sleep(chance.choice((0.0, 0.0, 0.005, 0.03, 0.1, 0.25)))
                if chance.random() < 0.7:
                    for client in story.clients:
                        client.read(chance.randint(0, 5))
        for module in MODULES:
            # However busy the machine is, nobody gives up now.
            monkeypatch.setattr(f"service.backplane.redis.{module}.PATIENCE", CALM)
        if clock is not None:
            clock.put(0)
        wrong = await story.calm()
        stories = [f"{client.name} {line}" for client in story.clients for line in client.lines]
        assert not wrong, "\n".join([f"LETTERS={number} ({mode})", *wrong, *stories])
        monkeypatch.undo()


@pytest.mark.shows(
    "nothing is lost in silence, nothing comes twice or out of order", "once all is well nobody is told of a gap"
)
async def test_clients_to_the_letter_lose_nothing_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = os.environ.get("LETTERS")
    for number in range(STORIES) if chosen is None else [int(chosen)]:
        await live(number, tmp_path / str(number), monkeypatch)
