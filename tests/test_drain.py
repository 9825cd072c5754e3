"""The drain on a clock of its own: who is closed when, and what happens to requests meanwhile."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw
from trio.testing import MockClock

from portico.wire.codes import CloseCode
from service.core.connections.session import Session
from service.core.dispatch.departure import NOTICE
from service.core.ports import HttpAnswer
from service.drain import ASKING, KEPT, drain

from .core.dispatch.dispatch_bench import Someone
from .fakes import MemoryPeer, Stage, handshake, stage, stages

TOLD = [(CloseCode.RESTARTING, "retry_within_ms=10000")]


@asynccontextmanager
async def draining(house: Stage, connections: int = 0) -> AsyncIterator[None]:
    """A drain of 10 s while the block runs, which must see its end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(drain, house.gateway, 10.0, lambda: connections, Random(1)))
        await trio.testing.wait_all_tasks_blocked()
        yield


def hang_up(house: Stage) -> None:
    """Whoever was told to go goes."""
    for session, peer in house.peers.items():
        if peer.closes:
            house.close(session, *peer.closes[0])


def requester(house: Stage, data: object = None) -> Session:
    """A requester that has asked something."""
    session, _ = house.connect("/requester")
    house.say(session, {"request_id": "q", "command": "work", "data": data})
    return session


def answers(house: Stage, session: Session) -> list[tuple[Any, Any]]:
    return [(message["data"], message["error"]) for message in house.peers[session].take()]


async def test_closings_are_spread_over_the_window(autojump_clock: MockClock) -> None:
    house = stage()
    for number in range(200):
        house.client(client_id=f"c{number}")
    closed_at = []
    async with draining(house):
        while house.gateway.sessions:
            before = len(house.gateway.sessions)
            hang_up(house)
            closed_at += [trio.current_time()] * (before - len(house.gateway.sessions))
            await trio.sleep(0.01)
    assert [peer.closes for peer in house.peers.values()] == [TOLD] * len(house.peers)
    assert max(closed_at) <= 10.1
    # A uniform spread puts about 50 into each quarter.
    assert all(20 <= sum(2.5 * n <= at < 2.5 * (n + 1) for at in closed_at) <= 80 for n in range(4))
    assert trio.current_time() < 10.2


async def test_whoever_waits_for_an_answer_gets_it_first(autojump_clock: MockClock) -> None:
    house = stage()
    worker, peer = house.worker("w1", commands=["work"])
    asks = requester(house)
    (request,) = peer.take()
    async with draining(house):
        await trio.sleep(9.5)
        assert not house.peers[asks].closes
        assert not peer.closes
        house.say(worker, {"type": "response", "data": {"request_id": request["msg_id"], "success": True, "result": 5}})
        await trio.sleep(0.1)
        assert answers(house, asks) == [(5, None)]
        assert house.peers[asks].closes == TOLD
        assert peer.closes == TOLD
        hang_up(house)
    assert trio.current_time() < 9.8


async def test_at_the_window_s_end_nobody_waits_any_longer(autojump_clock: MockClock) -> None:
    house = stage()
    house.worker("w1", commands=["work"])
    requester(house)
    async with draining(house):
        await trio.sleep(10.1)
        assert [peer.closes for peer in house.peers.values()] == [TOLD] * len(house.peers)
        hang_up(house)
    assert trio.current_time() < 10.3


async def test_a_client_that_was_asked_may_answer(autojump_clock: MockClock) -> None:
    house = stage()
    asked, peer = house.connect("/ws")
    house.say(asked, {"type": "connect", "data": {"client_id": "e1"}})
    asks = requester(house)
    peer.take()
    house.gateway.dispatcher.ask_client(house.gateway.envelopes.link(asked), asks, "q2", "work", Raw(b"null"))
    (request,) = peer.take()
    async with draining(house):
        await trio.sleep(9)
        assert not peer.closes
        house.say(asked, {"type": "response", "msg_id": request["msg_id"], "data": {"success": True, "result": 5}})
        await trio.sleep(0.1)
        assert peer.closes == TOLD
        hang_up(house)


def finish(house: Stage, worker: Session) -> int:
    """The worker answers all that it was sent; how much that was."""
    requests = [message for message in house.peers[worker].take() if message["type"] == "request"]
    for request in requests:
        house.say(worker, {"type": "response", "data": {"request_id": request["msg_id"], "success": True, "result": 5}})
    return len(requests)


@pytest.mark.shows(
    "are answered by the workers that are there",
    "three quarters of `PORTICO_DRAIN_SECONDS`; refused after that",
)
async def test_what_waits_and_what_is_asked_meanwhile_is_answered(autojump_clock: MockClock) -> None:
    house = stage()
    worker, peer = house.worker("w1", commands=["work"], capacity=1)
    asking = [requester(house) for _ in range(8)]
    asked = dict.fromkeys(asking, 1)
    answered = dict.fromkeys(asking, 0)
    async with draining(house):
        while trio.current_time() < 7.4:
            finish(house, worker)
            for session in asking:
                for answer in answers(house, session):
                    assert answer == (5, None)
                    answered[session] += 1
                if not session.over and answered[session] == asked[session]:
                    asked[session] += 1
                    house.say(session, {"request_id": "q", "command": "work", "data": None})
            await trio.sleep(0.1)
        assert min(asked.values()) > 1
        # Only for as long as one has asked something is it still there.
        assert all(house.peers[session].closes or asked[session] > answered[session] for session in asking)
        assert not peer.closes
        await trio.sleep(0.2)
        finish(house, worker)
        await trio.sleep(0.1)
        assert all(house.peers[session].closes == TOLD for session in asking)
        hang_up(house)


async def test_in_the_rest_of_the_window_workers_are_sent_nothing_new(autojump_clock: MockClock) -> None:
    house = stage()
    _, peer = house.worker("w1", commands=["work"], capacity=1)
    at_work, waiting = requester(house), requester(house)
    async with draining(house):
        assert [message["type"] for message in peer.take()] == ["request", "notification"]
        await trio.sleep(10 * ASKING + 0.1)
        assert answers(house, waiting) == [(None, "No available workers")]
        house.say(at_work, {"request_id": "q2", "command": "work", "data": None})
        assert answers(house, at_work) == [(None, "No available workers")]
        await trio.sleep(2.5)
        assert not peer.take()
        assert peer.closes == house.peers[at_work].closes == TOLD
        hang_up(house)


async def test_what_a_worker_loses_goes_to_another_that_is_still_there(autojump_clock: MockClock) -> None:
    house = stage()
    first, _ = house.worker("w1", commands=["work"])
    asks = requester(house)
    second, _ = house.worker("w2", commands=["work"])
    async with draining(house):
        house.close(first, 1006)
        assert finish(house, second) == 1
        assert answers(house, asks) == [(5, None)]
        await trio.sleep(10.1)
        hang_up(house)


async def test_workers_that_nobody_can_ask_go_at_their_moments(autojump_clock: MockClock) -> None:
    house = stage()
    for number in range(20):
        house.worker(f"w{number}", commands=[f"work {number}"])
        house.client(client_id=f"c{number}")
    async with draining(house):
        await trio.sleep(5)
        assert 5 <= sum(session.worker is not None for session in house.gateway.sessions if not session.over) <= 15
        await trio.sleep(5.1)
        hang_up(house)


class AtOnce(Random):
    """Everybody's moment is the first."""

    def uniform(self, a: float, b: float) -> float:
        """The lower end."""
        return a


async def test_of_workers_that_can_stand_in_for_one_another_the_last_stays(autojump_clock: MockClock) -> None:
    here, there = stages(2)
    for number in range(4):
        here.worker(f"w{number}", commands=["work"])
    here.worker("sums", commands=["sum"])

    def stay() -> list[str | None]:
        hang_up(here)
        return [session.worker.client_id for session in here.gateway.sessions if session.worker is not None]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain, here.gateway, 10.0, lambda: 0, AtOnce())
        await trio.sleep(1)
        assert stay() == ["w0", "sums"]
        there.worker("back", commands=["work"])
        here.pass_time(NOTICE)
        await trio.sleep(1)
        assert stay() == ["sums"]
        await trio.sleep(10 * ASKING - 2.1)
        assert stay() == ["sums"]
        await trio.sleep(0.2)
        assert stay() == []


async def test_one_that_came_in_at_the_last_moment_is_closed_too(autojump_clock: MockClock) -> None:
    house = stage()
    house.client(client_id="c1")
    admission = house.gateway.admit(handshake())
    assert not isinstance(admission, HttpAnswer)
    async with draining(house):
        await trio.sleep(1)
        peer = MemoryPeer()
        house.peers[house.gateway.opened(peer, admission)] = peer
        await trio.sleep(9.1)
        assert peer.closes == TOLD
        hang_up(house)


async def test_it_waits_for_the_goodbyes_but_not_for_ever(autojump_clock: MockClock) -> None:
    house = stage()
    async with draining(house, connections=1):
        pass
    assert 1.0 <= trio.current_time() <= 1.1


async def drained_after(house: Stage, http: Callable[[], int], seconds: float = 10.0) -> float:
    begun = trio.current_time()
    await drain(house.gateway, seconds, lambda: 0, Random(1), http=http)
    return trio.current_time() - begun


async def test_kept_connections_have_a_moment_for_the_answer_that_tells_them(autojump_clock: MockClock) -> None:
    assert await drained_after(stage(), lambda: 0) == 0
    gone = trio.current_time() + 2
    assert 2 <= await drained_after(stage(), lambda: int(trio.current_time() < gone)) < 2.1
    assert KEPT <= await drained_after(stage(), lambda: 1) < KEPT + 0.1, "who asks nothing for so long is idle"
    assert 1 <= await drained_after(stage(), lambda: 1, 1.0) < 1.1, "within the window"


async def test_who_waits_for_an_answer_of_another_node_has_the_window(autojump_clock: MockClock) -> None:
    here, there = stages(2)
    there.worker("w")
    caller = Someone()
    request = here.gateway.dispatcher.submit(caller, None, "work", Raw(b"1"), timeout=60.0)

    async def take_back() -> None:
        await trio.sleep(7)
        here.gateway.dispatcher.cancel_request(request)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_back)
        assert not caller.answers
        assert 7 <= await drained_after(here, lambda: 1) < 7.1
