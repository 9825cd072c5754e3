"""Succession, by what a server that handed over may answer; with real ones in `test_sentinel` and `test_cluster`."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from service.redis import succession
from service.redis.address import Address
from service.redis.faults import Unreachable
from service.redis.resp import Command
from service.redis.succession import HANDOVER_SECONDS, field, has_all_of

OLD = Address("10.0.0.1", 7000)
RUN = b"the-run"
NONE = b"0" * 40
SUCCESSOR = b"role:master\r\nmaster_replid:new\r\nmaster_replid2:before\r\n"
FOLLOWS = b"role:slave\r\nmaster_link_status:up\r\nmaster_replid:new\r\nmaster_replid2:before\r\n"
LINKING = b"role:slave\r\nmaster_link_status:down\r\n"
PRIMARY = b"role:master\r\n"

Answer = list[object] | Exception
Answers = Callable[..., list[Command]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Has the old server answer these, one after the other, and the last of them from then on."""

    def script(*given: Answer) -> list[Command]:
        left = list(given)
        asked: list[Command] = []

        async def ask_once(address: Address, questions: list[Command], *, seconds: float) -> list[object]:
            assert address is OLD
            await trio.lowlevel.checkpoint()
            asked[:] = questions
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(succession, "ask_once", ask_once)
        return asked

    return script


def info(replication: bytes, run: bytes = RUN) -> list[object]:
    return [b"run_id:%b\r\n" % run, replication]


def test_a_field_of_info_is_found_by_its_whole_name() -> None:
    assert field(b"# Replication\r\nmaster_replid2:two\r\nmaster_replid:one\r\n", b"master_replid") == b"one"
    assert field(b"role:master", b"run_id") == b""


async def test_one_that_went_on_where_it_was_has_left_everything(answers: Answers) -> None:
    asked = answers(info(FOLLOWS))
    assert await has_all_of(OLD, RUN, SUCCESSOR)
    assert asked == [("INFO", "server"), ("INFO", "replication")]


async def test_it_has_a_moment_to_follow(answers: Answers, autojump_clock: MockClock) -> None:
    answers(info(LINKING), info(LINKING), info(FOLLOWS))
    assert await has_all_of(OLD, RUN, SUCCESSOR)
    assert 0 < trio.current_time() < HANDOVER_SECONDS


async def test_one_that_does_not_follow_in_time_proves_nothing(answers: Answers, autojump_clock: MockClock) -> None:
    answers(info(LINKING))
    assert not await has_all_of(OLD, RUN, SUCCESSOR)
    assert trio.current_time() == pytest.approx(HANDOVER_SECONDS)


@pytest.mark.parametrize(
    ("answer", "successor"),
    [
        pytest.param(info(FOLLOWS, b"another-run"), SUCCESSOR, id="it was started anew"),
        pytest.param(info(FOLLOWS.replace(b"before", b"other")), SUCCESSOR, id="it was copied anew"),
        pytest.param(info(FOLLOWS.replace(b":new", b":third")), SUCCESSOR, id="it follows somebody else"),
        pytest.param(
            info(FOLLOWS.replace(b"before", NONE)), SUCCESSOR.replace(b"before", NONE), id="there was nothing before"
        ),
        pytest.param(info(FOLLOWS.replace(b"before", b"")), PRIMARY, id="the successor says nothing"),
        pytest.param(info(PRIMARY), SUCCESSOR, id="it is a primary too"),
        pytest.param(Unreachable("gone"), SUCCESSOR, id="it is gone"),
    ],
)
async def test_what_proves_nothing(answers: Answers, answer: Answer, successor: bytes) -> None:
    answers(answer)
    assert not await has_all_of(OLD, RUN, successor)


@pytest.mark.parametrize(
    ("state", "slots", "proved"),
    [
        ("ok", [[0, 99, [b"10.0.0.2", 7000, b"id"]]], True),
        ("ok", [[0, 5, [b"10.0.0.1", 7000, b"id"]], [6, 99, [b"10.0.0.1", 7001, b"id"]]], True),
        ("ok", [[0, 99, [b"10.0.0.1", 7000, b"id"]]], False),
        ("ok", [[0, 99, [None, 7000, b"id"]]], False),  # no host: the one that was asked
        ("ok", [[0, 99, [b"one.example", 7000, b"id", [b"ip", b"10.0.0.1"]]]], False),  # nodes are announced by name
        ("ok", [[0, 99, [b"two.example", 7000, b"id", [b"ip", b"10.0.0.2"]]]], True),
        ("ok", [[0, 5, [b"10.0.0.2", 7000, b"id"]]], False),  # nobody serves it
        ("ok", b"nonsense", False),
        ("fail", [[0, 99, [b"10.0.0.2", 7000, b"id"]]], False),  # it may be cut off, and not know better
    ],
)
async def test_a_primary_of_the_cluster_that_serves_the_slot_no_more(
    answers: Answers, autojump_clock: MockClock, state: str, slots: object, proved: bool
) -> None:
    asked = answers([*info(PRIMARY), f"cluster_state:{state}\r\n".encode(), slots])
    assert await has_all_of(OLD, RUN, SUCCESSOR, slot=7) is proved
    assert asked[2:] == [("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")]


async def test_a_primary_has_a_moment_to_know_that_it_serves_the_slot_no_more(
    answers: Answers, autojump_clock: MockClock
) -> None:
    own, moved = ([[0, 99, [host, 7000, b"id"]]] for host in (b"10.0.0.1", b"10.0.0.2"))
    still, no_more = ([*info(PRIMARY), b"cluster_state:ok\r\n", slots] for slots in (own, moved))
    answers(still, still, no_more)
    assert await has_all_of(OLD, RUN, SUCCESSOR, slot=7)
