"""What follows from stairs: the number held, where and why it broke, the knee, and the advice."""

from pathlib import Path

import msgspec
import pytest

from loadtest._capacity._comparison import BOTTLENECK, Measured, advise, machine, read, write
from loadtest._result import Stage

from .results import comparison, measured, stage

HELD: list[tuple[str, list[Stage], int, int | None, list[str]]] = [
    ("all met", [stage(100), stage(1000)], 1000, None, []),
    (
        "broke",
        [stage(100), stage(1000, "not met", broke=("heartbeat p99_ms", "max_lost"))],
        100,
        1000,
        ["heartbeat p99_ms", "max_lost"],
    ),
    ("broke at once", [stage(100, "not met", broke=("max_lost",))], 0, 100, ["max_lost"]),
    (
        "a stair above one that broke does not count",
        [stage(100), stage(500, "not met", broke=("x",)), stage(1000)],
        100,
        500,
        ["x"],
    ),
    ("the load was the bottleneck", [stage(100), stage(500, "invalid", broke=("x",))], 100, 500, [BOTTLENECK]),
    ("an invalid stair below one that held", [stage(100, "invalid"), stage(500)], 500, None, []),
    ("nothing but invalid ones", [stage(100, "invalid"), stage(500, "invalid")], 0, 100, [BOTTLENECK]),
    ("no stairs", [], 0, None, []),
]


@pytest.mark.parametrize(
    ("stages", "held", "broke_at", "broke"), [row[1:] for row in HELD], ids=[row[0] for row in HELD]
)
def test_the_number_held(stages: list[Stage], held: int, broke_at: int | None, broke: list[str]) -> None:
    mode = measured("serve", *stages)
    assert (mode.held, mode.broke_at, mode.broke) == (held, broke_at, broke)


def test_ramps_are_no_stairs() -> None:
    ramp = msgspec.structs.replace(stage(500), kind="ramp", verdict=None)
    assert [stair.users for stair in measured("serve", ramp, stage(500)).stairs] == [500]


def test_a_stair_sums_up_what_was_delivered_and_divides_by_connections() -> None:
    [stair] = measured("serve", stage(1000, lost=3, doubled=2)).stairs
    assert (stair.lost, stair.doubled, stair.deliveries_per_second) == (3, 2, 99.7)
    assert stair.cpu_per_connection_us == pytest.approx(200)
    assert stair.latencies["heartbeat"] == (1.0, 4.0, 8.0)
    [bare] = measured("serve", stage(1000, served=False)).stairs
    assert (bare.cpu_share, bare.memory, bare.cpu_per_connection_us) == (None, None, None)


KNEES: list[tuple[str, list[Stage], int | None]] = [
    ("as the connections", [stage(100, p99=20), stage(1000, p99=200)], None),
    ("four times as much", [stage(100, p99=20), stage(200, p99=160)], 200),
    ("too quick to matter", [stage(100, p99=0.1), stage(200, p99=9)], None),
    ("the first of two", [stage(100, p99=20), stage(200, p99=160), stage(400, p99=2000)], 200),
    ("invalid", [stage(100, p99=20), stage(200, "invalid", p99=900), stage(400, p99=80)], None),
    ("one stair", [stage(100, p99=900)], None),
]


@pytest.mark.parametrize(("stages", "knee"), [row[1:] for row in KNEES], ids=[row[0] for row in KNEES])
def test_the_knee(stages: list[Stage], knee: int | None) -> None:
    assert measured("serve", *stages).knee == knee


BROKE = stage(1000, "not met", broke=("heartbeat p99_ms",))
SPLIT = ("split", 3)
ADVICE: list[tuple[str, list[Measured], str, str]] = [
    (
        "one process holds all",
        [measured("serve", stage(2000)), measured("split", stage(2000), processes=3)],
        "2,000 connections are held. Advised: the mode serve.",
        "one process holds 2,000 at these rates",
    ),
    (
        "one process breaks at 1,000",
        [measured("serve", stage(500), BROKE), measured("split", stage(500), stage(1000), processes=3)],
        "1,000 connections are held. Advised: the mode split.",
        "one process holds less than that rule promises",
    ),
    (
        "several hold more",
        [measured("serve", stage(2000)), measured("split", stage(2000), stage(5000), processes=3)],
        "5,000 connections are held. Advised: the mode split.",
        "Above 2,000 and up to 5,000 connections: several processes (the mode split).",
    ),
    (
        "nothing held",
        [measured("serve", BROKE)],
        "No number of connections was held: nothing can be advised.",
        "One process held no stair (the mode serve); at 1,000 it did not meet: heartbeat p99_ms.",
    ),
    (
        "the load was the bottleneck at 1,000, which says nothing about the rule",
        [measured("serve", stage(500), stage(1000, "invalid"))],
        "500 connections are held. Advised: the mode serve.",
        "Too few connections were tried to say whether that holds here.",
    ),
    (
        "only several were measured",
        [measured("split", stage(500), processes=3)],
        "500 connections are held. Advised: the mode split.",
        "Several processes held 500 connections (the mode split), the most that was tried.",
    ),
    (
        "none could be started",
        [Measured("serve", "the mode serve", 1, failed="it does not start")],
        "Nothing was measured, so nothing is advised.",
        "",
    ),
]


@pytest.mark.parametrize(("modes", "first", "among"), [row[1:] for row in ADVICE], ids=[row[0] for row in ADVICE])
def test_the_advice(modes: list[Measured], first: str, among: str) -> None:
    sentences = advise(modes, shared_core=False).sentences
    assert sentences[0] == first
    assert among in " ".join(sentences)
    assert len(first.split()) < 13


def test_that_several_processes_shared_one_core_is_said() -> None:
    modes = (measured("serve", stage(500)), measured("split", stage(500), processes=3))
    said = " ".join(comparison(*modes, gateway_cores=(1,)).advice.sentences)
    assert "had one core here" in said
    assert "had one core here" not in " ".join(comparison(*modes).advice.sentences)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    report = comparison(measured("serve", stage(100), BROKE))
    write(report, tmp_path / "report.json")
    assert read(tmp_path / "report.json") == report
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_this_machine() -> None:
    here = machine([1], [0])
    assert here.cores > 0
    assert here.memory > 1_000_000
    assert here.limits["open files of a process"]
