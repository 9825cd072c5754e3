"""The bench of deployments with Redis: every row runs, tiny, and says something sane. No speed is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import environment
from tests.bench.redis.report import DEMANDS, ROWS, Demand, Verdict, as_markdown, summary, verdicts
from tests.bench.redis.work import QUICK

_LIMIT = 400.0


@pytest.mark.live
def test_every_row_runs(tmp_path: Path) -> None:
    try:
        environment.install()
    except environment.Unavailable as problem:
        pytest.skip(str(problem))
    target = tmp_path / "bench-redis.json"
    command = [sys.executable, "-m", "tests.bench.redis", "--quick", "--json", str(target)]
    done = subprocess.run(command, cwd=environment.ROOT, capture_output=True, text=True, check=False, timeout=_LIMIT)
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())
    assert list(found["rows"]) == [row.name for row in ROWS]
    for row in ROWS:
        assert f"**{row.title}**" in done.stdout
        for case in row.cases:
            measured = found["rows"][row.name][case]
            if not QUICK.has(row.name, case):
                assert measured["runs"] == []
                continue
            assert measured["fault"] is None, (row.name, case)
            # So few clients may fit into what the process holds already; and no event is to be accounted for.
            assert row.name in ("memory", "account", "dispatch") or measured["median"] > 0, (row.name, case)
    # Speed may be anything, but not this.
    [account] = found["rows"]["account"]["node"]["runs"]
    assert account["clients"] == 60
    assert account["lost"] == account["doubled"] == account["disordered"] == account["unrecovered"] == 0
    assert len(found["demands"]) == len(DEMANDS)


def test_a_demand_is_met_or_not() -> None:
    assert Verdict(Demand("across", "nodes", 3.0, at_most=True), 2.9).met
    assert Verdict(Demand("across", "nodes", 3.0, at_most=True), 3.1).met is False
    assert Verdict(Demand("unicast", "api", 15_000), 14_999).met is False
    assert Verdict(Demand("unicast", "api", 15_000), None).met is None


def test_latency_is_judged_by_its_ratio() -> None:
    [row] = [row for row in ROWS if row.name == "across"]

    def run(p99: float) -> dict[str, float]:
        return {"p50_ms": 1.0, "p99_ms": p99, "max_ms": p99, "cpu_ms": 1.0, "samples": 9}

    table = {"across": {"nodes": summary(row, [run(60)], []), "combined": summary(row, [run(20)], [])}}
    [verdict] = verdicts(table)
    assert verdict.reached == 3
    assert verdict.met
    assert "| 3 |" in as_markdown(table)


def test_one_lost_event_is_one_too_many() -> None:
    [row] = [row for row in ROWS if row.name == "account"]
    clean = {"lost": 0, "doubled": 0, "disordered": 0, "unrecovered": 0, "publishing_us": {}, "kept_bytes": 1}
    [good] = verdicts({"account": {"node": summary(row, [clean], [])}})
    [bad] = verdicts({"account": {"node": summary(row, [{**clean, "lost": 1}], [])}})
    [unknown] = verdicts({"account": {"node": summary(row, [], ["the load never said 'gone'"])}})
    assert (good.met, bad.met, unknown.met) == (True, False, None)


def test_a_distribution_is_judged_by_the_worker_that_differs_most() -> None:
    [row] = [row for row in ROWS if row.name == "dispatch"]
    side = {"rate": 900.0, "per_cpu_second": 5000.0}
    run = {"nodes": {"spread": [48, 52], **side}, "one": {"spread": [80, 120], **side}}
    assert row.figure(run) == pytest.approx(20)
    assert "48.0 52.0 %, 900 /s, 5,000 for a second of CPU; in one process 40.0 60.0 %" in row.remark(run)
