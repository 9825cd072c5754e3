"""What a node tells Redis, so that this can say which epoch its history is of. What Redis makes of it, with real ones,
is in `test_recovery`, and in the tests of Sentinel and of clusters."""

from collections.abc import Callable, Sequence

import pytest
import trio

from service.backplane.redis.epoch_finder import EpochFinder
from service.backplane.redis.names import Names
from service.backplane.redis.scripts import EPOCH, ORDERED
from service.redis.resp import Command, Word
from service.redis.urls import read_url

ORIGINAL = b"0" * 40
PROMOTED = b"a" * 40


class House:
    """A finder and what surrounds it: the connector, the link, what follows and what publishes."""

    def __init__(self) -> None:
        self.origin = "redis-1"
        self.heard_at = trio.current_time() - 2.0
        self.epoch, self.seen, self.accepted = "", 0, 0
        self.run, self.aof, self.replid2 = b"run-1", b"1", ORIGINAL
        self.before: object = [None, None]
        self.hands_over = False
        self.asked_for: list[tuple[str, bytes]] = []
        self.told: list[dict[str, Word]] = []
        self.done: list[Callable[[object], None]] = []
        connector = read_url("redis://localhost")
        self.finder = EpochFinder(connector, Names("test:"))
        self.finder._connector = self  # type: ignore[assignment]  # of a connector only `handed_over` matters
        self.finder.attach(self, self, self)

    async def handed_over(self, origin: str, run: bytes, info: bytes) -> bool:
        self.asked_for.append((origin, run))
        return self.hands_over

    def on_epoch(self, epoch: str) -> None:
        self.epoch = epoch

    def send(self, *words: Word, done: Callable[[object], None]) -> None:
        self._note(words)
        self.done.append(done)

    async def ask_all(self, questions: Sequence[Command]) -> list[object]:
        """A Redis that answers what a new connection asks first, and names the epoch after its run."""
        if len(questions) == 1:
            self._note(questions[0])
            return [b"epoch of " + self.run]
        assert [script.load for script in ORDERED] == list(questions[: len(ORDERED)])
        info = b"run_id:%b\r\naof_enabled:%b\r\nmaster_replid2:%b\r\n" % (self.run, self.aof, self.replid2)
        return [*(b"digest" for _ in ORDERED), info, b"", b"", self.before]

    def _note(self, words: Sequence[Word]) -> None:
        assert words[:3] == ("EVALSHA", EPOCH.digest, 2)
        names = ("run", "keeps", "new", "over", "origin", "epoch", "seen", "whole", "elsewhere", "silent")
        self.told.append(dict(zip(names, words[5:], strict=True)))

    async def connect(self) -> dict[str, Word]:
        """A new connection; what Redis was told on it."""
        await self.finder.prepare(self.ask_all)
        return self.told[-1]


@pytest.fixture
async def house() -> House:  # a clock is needed, so it is made within trio
    return House()


async def test_each_new_connection_says_what_redis_it_is_and_what_was_seen(house: House) -> None:
    told = await house.connect()
    assert (told["run"], told["keeps"], told["over"], told["origin"]) == (b"run-1", 1, "", "redis-1")
    assert (told["epoch"], told["seen"], told["whole"], told["elsewhere"]) == ("", 0, b"", 0)
    assert isinstance(told["silent"], int)
    assert told["silent"] >= 2_000_000
    assert house.epoch == "epoch of run-1"
    house.seen = 77
    told = await house.connect()
    assert (told["epoch"], told["seen"]) == ("epoch of run-1", 77)


@pytest.mark.parametrize(("aof", "replid2"), [(b"0", ORIGINAL), (b"1", PROMOTED)], ids=["no file", "promoted"])
async def test_one_that_may_lack_what_was_accepted_says_so(house: House, aof: bytes, replid2: bytes) -> None:
    house.aof, house.replid2 = aof, replid2
    assert (await house.connect())["keeps"] == 0


async def test_what_another_redis_has_accepted_is_told_once(house: House) -> None:
    await house.connect()
    house.accepted = 500
    assert (await house.connect())["elsewhere"] == 0, "it is the same Redis"
    house.run = b"run-2"
    assert (await house.connect())["elsewhere"] == 500
    assert house.accepted == 0
    assert (await house.connect())["elsewhere"] == 0


async def test_one_that_is_gone_before_it_has_named_the_epoch_is_not_forgotten(house: House) -> None:
    await house.connect()
    house.accepted, house.run = 500, b"run-2"

    async def cut(questions: Sequence[Command]) -> list[object]:
        if len(questions) == 1:
            raise trio.BrokenResourceError
        return await house.ask_all(questions)

    with pytest.raises(trio.BrokenResourceError):
        await house.finder.prepare(cut)
    house.run = b"run-3"
    assert (await house.connect())["elsewhere"] == 500


@pytest.mark.parametrize("hands_over", [True, False])
async def test_a_successor_is_whole_if_it_was_handed_everything(house: House, hands_over: bool) -> None:
    house.origin, house.run, house.hands_over = "redis-2", b"run-2", hands_over
    house.before = [b"run-1", b"redis-1"]
    assert (await house.connect())["whole"] == (b"run-1" if hands_over else b"")
    assert house.asked_for == [("redis-1", b"run-1")]


@pytest.mark.parametrize("before", [[b"run-1", b"redis-9"], [b"run-0", b"redis-1"], [b"run-0", b""], [None, None]])
async def test_nobody_is_asked_where_nothing_can_have_been_handed_over(house: House, before: list[object]) -> None:
    house.before = before
    assert (await house.connect())["whole"] == b""
    assert house.asked_for == []


async def test_a_node_in_doubt_is_answered_before_it_goes_on(house: House) -> None:
    await house.connect()
    renewed: list[str] = []
    house.finder.renew(lambda: renewed.append(house.epoch), over="epoch of run-1")
    assert (house.told[-1]["over"], renewed) == ("epoch of run-1", [])
    house.done[-1](b"the next")
    assert renewed == ["the next"]
    house.finder.renew()
    assert house.told[-1]["over"] == ""
    house.done[-1](ConnectionError())  # it is asked again on the next connection
    assert house.epoch == "the next"
