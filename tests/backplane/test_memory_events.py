"""The event log of a process that is alone: who is online, who is offline, and what an outbox may hold."""

import json
from itertools import count

import trio

from service.backplane import memory_events
from service.backplane.memory_events import MemoryEvents
from service.core.back_end_events import BackEndEvent
from tests.fakes import ManualClock

_number = count(1)


class Log:
    """A MemoryEvents with a clock of the test's."""

    def __init__(self, kept: int = 100) -> None:
        self.clock = ManualClock()
        self.events = MemoryEvents(
            kept=kept, offline_seconds=5, now=self.clock.now, wall=self.clock.wall, make_id=lambda: "made", node="n1"
        )

    async def told(self) -> list[str]:
        """What is in its outbox, by name."""
        return [one.event for one in await self.events.read("", 100)]

    def append(self, name: str, connection: str, user: str | None = "ann", body: bytes = b"{}") -> None:
        self.events.append(BackEndEvent(f"e{next(_number)}", name, connection, user, "c1", body))

    def pass_time(self, seconds: float) -> None:
        self.clock.move(seconds)
        self.events.tick()


async def test_a_user_is_online_with_the_first_connection_and_offline_some_time_after_the_last() -> None:
    log = Log()
    log.append("registered", "k1")
    log.append("registered", "k2")
    log.append("left", "k1")
    assert await log.told() == ["registered", "user_online", "registered", "left"]
    online = json.loads((await log.events.read("", 100))[1].body)
    assert (online["event"], online["user_id"]) == ("user_online", "ann")
    log.pass_time(10)
    assert len(await log.told()) == 4, "another connection of hers is still there"
    log.append("left", "k2")
    log.pass_time(4)
    log.append("registered", "k3")
    assert (await log.told())[4:] == ["left", "registered"], "she came back in time"
    log.append("left", "k3")
    log.pass_time(6)
    assert (await log.told())[-1] == "user_offline"


async def test_one_who_is_nobody_and_one_who_left_twice() -> None:
    log = Log()
    log.append("registered", "k1", None)
    log.append("left", "k1", None)
    log.append("left", "k1", None)
    log.append("left", "k9", "bob")
    log.append("message", "k9", "bob")
    log.pass_time(10)
    assert await log.told() == ["registered", "left", "message"]


async def test_events_are_read_in_their_order_until_they_are_settled_or_buried() -> None:
    log = Log()
    for number in range(3):
        log.append("message", "k1", body=b"%d" % number)
    first, second = await log.events.read("", 2)
    assert (first.body, second.body) == (b"0", b"1")
    assert [one.body for one in await log.events.read(second.key, 9)] == [b"2"]
    assert await log.events.read("3", 9) == ()
    await log.events.settle([first.key, "99"])
    await log.events.bury(second, "refused")
    assert list(log.events.dead) == [(second, "refused")]
    assert [one.body for one in await log.events.read("", 9)] == [b"2"]
    assert (log.events.waiting, log.events.dropped, log.events.owned) == (1, 0, True)


async def test_who_waits_is_woken_by_the_next_one() -> None:
    log = Log()
    woken = []

    async def wait() -> None:
        await log.events.wait()
        woken.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not woken
        log.append("message", "k1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert len(woken) == 1, "once for each"
        log.append("message", "k1")


async def test_of_too_many_the_oldest_go(monkeypatch: object) -> None:
    log = Log(kept=2)
    for number in range(4):
        log.append("message", "k1", body=b"%d" % number)
    assert ([one.body for one in await log.events.read("", 9)], log.events.dropped) == ([b"2", b"3"], 2)
    large = Log()
    for _ in range(3):
        large.append("message", "k1", body=bytes(memory_events.MAX_BYTES // 2))
    assert (large.events.waiting, large.events.dropped) == (2, 1)
    large.append("message", "k1", body=bytes(memory_events.MAX_BYTES + 1))
    assert large.events.waiting == 1, "one of any size may wait"


def test_without_an_outbox_nothing_waits() -> None:
    log = Log(kept=0)
    log.append("message", "k1")
    assert log.events.waiting == 0
