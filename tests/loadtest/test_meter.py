import time

import pytest

from loadtest import _meter


def test_a_look_at_the_clocks_that_was_interrupted_is_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that loses its processor between two looks must not take that for a clock that was put right."""
    truth, monotonic = _meter.wall_ahead(), time.monotonic
    looks = iter(range(1000))

    def interrupted() -> float:
        # The second of the first three looks comes 300 ms late.
        if next(looks) == 1:
            time.sleep(0.3)
        return monotonic()

    monkeypatch.setattr(time, "monotonic", interrupted)
    assert abs(_meter.wall_ahead() - truth) < 0.05
