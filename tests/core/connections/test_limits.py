"""Limits on connections and handshakes."""

import pytest

from service.core.connections.admission import ConnectionLimits

from ...fakes import ManualClock


def limits(clock: ManualClock, total: int = 0, per_address: int = 0, rate: float = 0.0) -> ConnectionLimits:
    return ConnectionLimits(now=clock.now, total=total, per_address=per_address, handshakes_per_second=rate)


def test_zero_is_no_limit() -> None:
    free = limits(ManualClock())
    for _ in range(10_000):
        assert free.check("a") is None
        assert free.opened("a") is None


def test_per_address() -> None:
    some = limits(ManualClock(), per_address=1)
    assert some.opened("a") is None
    assert some.check("a") is not None
    assert some.check("b") is None
    some.closed("a")
    assert some.check("a") is None
    assert not some._by_address, "an address that has gone leaves nothing"


@pytest.mark.parametrize(("rate", "burst"), [(5.0, 10), (0.5, 1), (0.1, 1)])
def test_handshakes_per_second_with_bursts_of_two(rate: float, burst: int) -> None:
    clock = ManualClock()
    some = limits(clock, rate=rate)
    assert [some.check("a") is None for _ in range(burst + 1)] == [True] * burst + [False]
    clock.move(1.01 / rate)
    assert [some.check("a") is None for _ in range(2)] == [True, False]
    clock.move(1000)
    assert sum(some.check("a") is None for _ in range(100)) == burst


def test_the_refusal_says_when_and_why() -> None:
    some = limits(ManualClock(), total=1)
    some.opened("a")
    answer = some.check("b")
    assert answer is not None
    assert (answer.status, dict(answer.headers)["retry-after"]) == (503, "5")
    assert b"limit of connections" in answer.body
    assert some.opened("b") is not None
