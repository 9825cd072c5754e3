"""The gateway's back-off: doubling pauses up to the longest, jitter within its share, and a fresh start."""

from service.backoff import Backoff


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 1.0)
    assert [round(backoff.pause(), 6) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_after_a_reset_it_begins_again() -> None:
    backoff = Backoff(0.1, 1.0)
    for _ in range(10_000):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() == 0.1


def test_jitter_is_within_its_share_and_does_not_change_the_growth() -> None:
    backoff = Backoff(1.0, 4.0, jitter=0.5)
    for bound in (1.0, 2.0, 4.0, 4.0):
        assert bound / 2 <= backoff.pause() <= bound
    spread = {round(Backoff(1.0, 1.0, jitter=0.5).pause(), 3) for _ in range(50)}
    assert len(spread) > 10
