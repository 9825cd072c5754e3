from service.transports.allowance import Allowance


def test_a_burst_of_two_seconds_then_the_rate() -> None:
    allowance = Allowance(10, 0, 0.0)
    assert all(allowance.take(1, 0.0) for _ in range(20))
    assert not allowance.take(1, 0.0)
    allowance = Allowance(10, 0, 0.0)
    assert all(allowance.take(1, second / 10) for second in range(1000))


def test_bytes() -> None:
    allowance = Allowance(0, 100, 0.0)
    assert allowance.take(150, 0.0)
    assert allowance.take(100, 0.0)
    assert not allowance.take(1, 0.0)
    assert allowance.take(1, 1.0)


def test_saved_up_for_no_longer_than_two_seconds() -> None:
    allowance = Allowance(1, 0, 0.0)
    taken = sum(allowance.take(1, 1000.0) for _ in range(10))
    assert taken == 2
