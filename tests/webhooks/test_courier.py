"""The courier against real receivers: in order, at least once, with back-off, given up at last, and never elsewhere."""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from itertools import count

import pytest
import structlog
import trio

from service.backplane.memory_events import MemoryEvents
from service.core.back_end_events import BackEndEvent
from service.outgoing.network import public_and
from service.outgoing.post import Poster
from service.webhooks import courier as module
from service.webhooks.courier import Courier
from tests.outgoing.closing import Close, closing_server
from tests.outgoing.servers import Answer, Asked, back_end

KEY = b"a-signing-key-of-this-test-0123456789"
_ids = count(1)


def outbox(kept: int = 1000, offline: float = 0.05) -> MemoryEvents:
    return MemoryEvents(
        kept=kept,
        offline_seconds=offline,
        now=time.monotonic,
        wall=time.time,
        make_id=lambda: f"made-{next(_ids)}",
        node="n1",
    )


def event(name: str, user: str | None = "ann", connection: str = "k1", number: int = 0) -> BackEndEvent:
    event_id = f"e-{next(_ids)}"
    body = json.dumps({"id": event_id, "event": name, "user_id": user, "number": number}).encode()
    return BackEndEvent(event_id, name, connection, user, "c1", body)


@asynccontextmanager
async def delivering(
    box: MemoryEvents,
    url: str,
    *,
    timeout: float = 20.0,
    give_up: float = 3600.0,
    private: bool = True,
    late: Callable[[], bool] = bool,
) -> AsyncIterator[Courier]:
    judge = public_and([ip_network("127.0.0.0/8")] if private else [])
    poster = Poster(url, judge, limit=1000, connections=4, keys=[KEY], agent="test")
    log = structlog.wrap_logger(structlog.ReturnLogger())
    made = Courier(box, poster, timeout=timeout, give_up=give_up, wall=lambda: time.time() + 1e6 * late(), log=log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        with trio.fail_after(60):
            yield made
        nursery.cancel_scope.cancel()


async def until(true: Callable[[], object]) -> None:
    while not true():  # noqa: ASYNC110 - what is awaited is another's counter
        await trio.sleep(0.01)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)


def bodies(asked: list[Asked], **wanted: object) -> list[int]:
    said = [json.loads(one.body) for one in asked]
    return [one["number"] for one in said if all(one[name] == value for name, value in wanted.items())]


async def test_events_of_a_user_arrive_in_their_order_each_signed_with_its_id() -> None:
    with back_end(lambda asked: Answer(204)) as server:
        box = outbox()
        for number in range(40):
            box.append(event("message", user=f"u{number % 4}", number=number))
        async with delivering(box, server.url + "/hook") as courier:
            await until(lambda: courier.idle)
        assert courier.delivered == len(server.asked) == 40
        for user in range(4):
            assert bodies(server.asked, user_id=f"u{user}") == list(range(user, 40, 4))
        one = server.asked[0]
        assert one.headers["portico-event-id"] == json.loads(one.body)["id"]
        assert one.headers["portico-signature"].startswith("t=")


@pytest.mark.parametrize("close", [Close.CLEAN, Close.RESET])
async def test_a_kept_connection_that_the_receiver_closes_is_no_failure(close: Close) -> None:
    async with closing_server(close, b"HTTP/1.1 204 No Content\r\n\r\n") as server:
        box = outbox()
        for number in range(3):
            box.append(event("message", number=number))
        async with delivering(box, server.url) as courier:
            await until(lambda: courier.idle)
        assert (courier.delivered, courier.failed) == (3, 0)
        assert [json.loads(body)["number"] for _, body in server.came] == [0, 1, 1, 2]


async def test_one_that_is_refused_holds_up_its_user_only_and_comes_again() -> None:
    refused = 0

    def answer(asked: Asked) -> Answer:
        nonlocal refused
        if json.loads(asked.body)["user_id"] == "ann" and refused < 3:
            refused += 1
            return Answer((500, 404, 302)[refused - 1], headers={"Location": "/elsewhere"})
        return Answer(200)

    with back_end(answer) as server:
        box = outbox()
        for number in range(3):
            box.append(event("message", number=number))
        box.append(event("message", user="bob", number=9))
        async with delivering(box, server.url) as courier:
            await until(lambda: courier.idle)
        assert bodies(server.asked, user_id="ann") == [0, 0, 0, 0, 1, 2]
        assert bodies(server.asked, user_id="bob") == [9]
        assert {one.path for one in server.asked} == {"/"}, "redirects are not followed"
        ids = {json.loads(one.body)["id"] for one in server.asked[:1]}
        assert len(ids) == 1


LIES = [
    Answer(hangs=True),
    Answer(endless=True),
    Answer(raw=b"garbage\r\n\r\n"),
    Answer(302, headers={"Location": "http://127.0.0.1:1/"}),
    Answer(500),
]


@pytest.mark.parametrize("lie", LIES)
async def test_a_receiver_that_never_accepts_gets_it_until_it_is_too_old(lie: Answer) -> None:
    with back_end(lambda asked: lie) as server:
        box = outbox()
        box.append(event("message"))
        async with delivering(box, server.url, timeout=0.2, late=lambda: len(server.asked) >= 2) as courier:
            await until(lambda: courier.dead)
            await until(lambda: courier.idle)
        assert len(server.asked) >= 2
        ((entry, reason),) = box.dead
        assert entry.event == "message"
        assert reason
        assert courier.delivered == 0


async def test_nothing_is_sent_to_a_private_address() -> None:
    with back_end(lambda asked: Answer(200)) as server:
        box = outbox()
        box.append(event("message"))
        async with delivering(box, server.url, give_up=0.0, private=False) as courier:
            await until(lambda: courier.dead)
        assert not server.asked
        assert "private address" in box.dead[0][1]


async def test_the_outbox_is_bounded() -> None:
    box = outbox(kept=3)
    for number in range(5):
        box.append(event("message", number=number))
    assert (box.waiting, box.dropped) == (3, 2)
    with back_end(lambda asked: Answer(200)) as server:
        async with delivering(box, server.url) as courier:
            await until(lambda: courier.idle)
        assert bodies(server.asked) == [2, 3, 4]


async def test_the_outbox_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.backplane.memory_events.MAX_BYTES", 1000)
    box = outbox()
    for number in range(100):
        box.append(event("message", number=number))
    assert 5 < box.waiting < 20
    assert box.waiting + box.dropped == 100
    await box.settle([entry.key for entry in await box.read("", 100)])
    assert (box.waiting, box._size) == (0, 0)
