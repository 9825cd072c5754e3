"""The timing wheel: never early, at most a resolution late, each key once."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.deadlines import SPARE_SLOTS, DeadlineWheel

RESOLUTION = 0.1


def wheel() -> DeadlineWheel[str]:
    return DeadlineWheel(RESOLUTION)


def test_a_key_comes_out_once_and_not_before_its_deadline() -> None:
    w = wheel()
    w.add("a", 1.05)
    assert w.expire(1.049) == []
    assert w.expire(1.151) == ["a"]
    assert w.expire(99.0) == []
    assert len(w) == 0


def test_keys_come_out_by_deadline_then_by_the_order_of_adding() -> None:
    w = wheel()
    for key, deadline in (("late", 3.0), ("b", 2.0), ("a", 2.0), ("early", 1.0)):
        w.add(key, deadline)
    assert w.expire(5.0) == ["early", "b", "a", "late"]


def test_adding_again_moves_the_deadline() -> None:
    w = wheel()
    w.add("a", 1.0)
    w.add("a", 5.0)
    assert len(w) == 1
    assert w.expire(4.9) == []
    w.add("a", 2.0)
    assert w.expire(2.2) == ["a"]


def test_a_discarded_key_never_comes_out_and_discarding_an_unknown_one_is_harmless() -> None:
    w = wheel()
    w.add("a", 1.0)
    w.discard("a")
    w.discard("a")
    w.discard("never there")
    assert "a" not in w
    assert w.expire(10.0) == []


def test_a_deadline_in_the_past_comes_out_at_once() -> None:
    w = wheel()
    w.expire(50.0)
    w.add("a", 10.0)
    assert w.expire(50.0) == ["a"]


def test_a_key_may_be_added_again_while_what_expired_is_looked_at() -> None:
    w = wheel()
    w.add("a", 1.0)
    for key in w.expire(2.0):
        w.add(key, 2.5)
    assert w.expire(2.7) == ["a"]


def test_in_order_after_a_long_pause() -> None:
    w = wheel()
    for number in reversed(range(5)):
        w.add(str(number), number * 100.0)
    assert w.expire(1e6) == ["0", "1", "2", "3", "4"]


def test_what_is_discarded_leaves_nothing_behind_however_far_away_it_was() -> None:
    w = wheel()
    for number in range(20 * SPARE_SLOTS):
        w.add("a", 1000.0 + number)
        w.discard("a")
    assert len(w._slots) <= SPARE_SLOTS + 1
    assert len(w._due) == len(w._slots)


@pytest.mark.parametrize("resolution", [0.0, -1.0, float("nan")])
def test_a_resolution_that_is_none_is_refused(resolution: float) -> None:
    with pytest.raises(ValueError, match="above 0 seconds"):
        DeadlineWheel(resolution)


_operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 9), st.floats(0, 30)),
        st.tuples(st.just("discard"), st.integers(0, 9), st.just(0.0)),
        st.tuples(st.just("pass"), st.just(0), st.floats(0, 3)),
    ),
    max_size=60,
)


@given(_operations, st.sampled_from([0.1, 1.0, 0.25, 0.03]), st.floats(0, 1e6))
def test_it_does_what_a_plain_dict_of_deadlines_would(
    operations: list[tuple[str, int, float]], resolution: float, start: float
) -> None:
    w: DeadlineWheel[int] = DeadlineWheel(resolution)
    plain: dict[int, float] = {}
    now = start
    for operation, key, seconds in operations:
        if operation == "add":
            w.add(key, now + seconds)
            plain[key] = now + seconds
        elif operation == "discard":
            w.discard(key)
            plain.pop(key, None)
        else:
            now += seconds
            expired = w.expire(now)
            assert len(expired) == len(set(expired))
            rounding = 1e-9 * (1 + now)
            for gone in expired:
                assert plain.pop(gone) <= now + rounding
            assert min(plain.values(), default=inf) > now - resolution - rounding
        assert len(w) == len(plain)
