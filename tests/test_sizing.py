"""What mode is advised, by the number of connections and by how the process does."""

from service.sizing import Advice, Sizing
from service.vitals import Figures

IDLE = Figures(cpu=0.12, lag=0.003, memory=80 << 20, memory_share=0.02)
BUSY = IDLE._replace(cpu=0.93)


def sizing() -> tuple[Sizing, list[Advice]]:
    told: list[Advice] = []
    return Sizing(1000, 10_000, told.append), told


def test_below_the_first_threshold_nothing_is_advised_however_busy_it_is() -> None:
    made, told = sizing()
    made.look(999, BUSY)
    assert (made.advice, made.step, told) == (None, 0, [])


def test_the_number_alone_moves_nobody() -> None:
    for connections, idle, busy in ((1000, "integrated", "split"), (10_000, "split", "streams")):
        made, told = sizing()
        made.look(connections, IDLE)
        made.look(connections, BUSY)
        assert [(advice.mode, advice.strained) for advice in told] == [(idle, False), (busy, True)]
        assert "CPU 93% of a core" in told[1].reason
        assert "the core is busy" in told[1].reason
        assert f"{connections:,} connections" in told[1].reason


def test_each_of_the_figures_can_be_the_cause() -> None:
    for figures, cause in (
        (BUSY, "the core is busy"),
        (IDLE._replace(lag=0.4), "the event loop is late"),
        (IDLE._replace(memory_share=0.9), "memory is short"),
    ):
        made, _ = sizing()
        made.look(1500, figures)
        assert made.advice is not None
        assert (made.advice.mode, cause in made.advice.reason) == ("split", True)


def test_it_is_said_once_and_does_not_come_and_go() -> None:
    made, told = sizing()
    for connections in (1000, 950, 1001, 990, 1200):
        made.look(connections, IDLE)
        assert made.advice is not None
    made.look(700, IDLE)
    assert made.advice is None
    made.look(1100, IDLE)
    assert made.step == 1
    assert len(told) == 1


def test_a_threshold_of_nothing_is_never_reached() -> None:
    told: list[Advice] = []
    made = Sizing(0, 0, told.append)
    made.look(50_000, BUSY)
    assert (made.advice, told) == (None, [])
