"""Figures, doubts and verdicts, from made-up runs."""

from tests.bench.report import Demand, Summary, Verdict, as_markdown, figure, summary, verdicts


def run(work: int, server: float, load: float = 1.0, wall: float = 2.0) -> dict[str, float]:
    return {"work": work, "server_cpu": server, "load_cpu": load, "wall": wall}


def test_a_figure_is_work_per_second_of_the_servers_cpu() -> None:
    assert figure("fanout", run(1000, 2.0)) == 500
    assert figure("memory", {"bytes_per_client": 2048}) == 2
    assert figure("crowd", {"p99_ms": 7.5}) == 7.5


def test_a_load_that_was_the_bottleneck_is_said() -> None:
    assert summary("fanout", [run(1000, 1.8)], []).doubts == ()
    assert len(summary("fanout", [run(1000, 1.8, load=1.95)], []).doubts) == 1
    assert len(summary("fanout", [run(1000, 1.0)], []).doubts) == 1


def test_a_summary_has_the_median_and_the_spread() -> None:
    found = summary("fanout", [run(100, 1.0), run(300, 1.0), run(200, 1.0)], ["refused"])
    assert found.median == 200
    assert found.spread == 1.0
    assert found.fault == "refused"
    assert Summary(()).median is None


def test_a_server_that_did_nothing_is_reported_too() -> None:
    assert Summary((0.0,)).spread == Summary(()).spread == 0.0
    assert Summary((0.0, 0.0, 5.0)).spread == float("inf")
    table = {"row": {"portico": Summary((0.0,))}}
    said = as_markdown(table, {"row": "A row"}, {"row": "calls"}, {"portico": "Portico"})
    assert "| Portico | 0.00 | 0% |" in said


def test_a_ratio_is_met_or_not() -> None:
    table = {"fanout": {"portico": Summary((150.0,)), "websockets": Summary((100.0,)), "fastapi": Summary((100.0,))}}
    found = {verdict.demand.times: verdict for verdict in verdicts(table)}
    assert found["websockets"].met is True
    assert found["fastapi"].met is False
    assert found["node"].met is None
    assert found["node"].reached is None


def test_what_must_be_small_is_met_from_below() -> None:
    demand = Demand("crowd", "portico", at_most=25.0, aim=5.0)
    assert Verdict(demand, 24.0).met is True
    assert Verdict(demand, 24.0).aim_met is False
    assert Verdict(demand, 26.0).met is False


def test_a_peer_that_did_not_run_stands_in_the_table_with_the_reason() -> None:
    table = {"fanout": {"portico": Summary((150.0,)), "node": Summary((), (), "there is no node")}}
    labels = dict.fromkeys(("portico", "websockets", "fastapi", "picows"), "x") | {"node": "Node ws"}
    text = as_markdown(table, {"fanout": "fan-out"}, {"fanout": "deliveries"}, labels)
    assert "| Node ws | – | – | – | there is no node |" in text
    assert "not measured" in text
