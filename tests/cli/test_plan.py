"""`portico plan`: what it prints, that it says how far it is off, and that bad input is one sentence."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.cli import main

RECORDED = Path(__file__).parent / "recorded"
ONE, OTHER = str(RECORDED / "capacity-every-5-s.json"), str(RECORDED / "capacity-every-2-s.json")


def _plan(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments])


def test_without_a_report_it_says_whose_figures_it_uses() -> None:
    done = _plan("--connections", "1e6", "--push-rate", "2,000")
    assert done.exit_code == 0
    assert "1,000,000 connections:" in done.stdout
    assert "from the figures of docs/discussion/performance.md, which are another machine's" in done.stdout
    assert "memory    = 80.0 MB + 3.07 KB × connections" in done.stdout
    assert "processor = 0.000 + 15.3 µs × heartbeats/s + 17.5 µs × deliveries/s" in done.stdout
    assert "340,000/s live" in done.stdout


def test_with_a_report_it_is_sized_by_what_was_measured() -> None:
    done = _plan("--connections", "5000", "--broadcast-rate", "1", "--report", ONE, "--json")
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    assert answer["model"]["mode"] == "serve"
    assert answer["model"]["source"] == f"3 stairs of {ONE}"
    assert answer["sizing"]["nodes"] >= 2
    assert answer["sizing"]["deliveries_per_second"] == 5000
    assert answer["check"] is None
    assert len(done.stdout.splitlines()) == 1


def test_a_run_that_was_not_used_to_fit_it_is_predicted_and_the_errors_are_printed() -> None:
    """Two runs of `make capacity` on a busy machine, at different rates: memory is near, the processor is not."""
    done = _plan("--report", ONE, "--check", OTHER)
    assert done.exit_code == 0
    assert "in a run that was not used to fit it" in done.stdout
    rows = json.loads(_plan("--report", ONE, "--check", OTHER, "--json").stdout)["check"]
    assert [row["connections"] for row in rows] == [100, 300, 600]
    for row in rows:
        assert abs(row["memory_error"]) < 0.1
        assert abs(row["processor_error"]) < 2
        assert f"{row['processor_error']:+.0%}" in done.stdout
        assert row["processor_error"] == pytest.approx(row["processor_predicted"] / row["processor_measured"] - 1)


def test_several_runs_are_predicted_each_with_its_errors(tmp_path: Path) -> None:
    """Whether as a further report or as a check: one is fitted, the others are what it is held against."""
    third = tmp_path / "third.json"
    third.write_bytes(Path(ONE).read_bytes())
    done = _plan("--report", ONE, "--report", OTHER, "--check", str(third))
    assert done.exit_code == 0
    said = done.stdout
    assert said.count("in a run that was not used to fit it, ") == 2
    assert said.index(f"fit it, {OTHER}:") < said.index(f"fit it, {third}:")
    assert said.count("  The largest errors: ") == 2
    rows = json.loads(_plan("--report", ONE, "--report", OTHER, "--check", str(third), "--json").stdout)["check"]
    assert [row["report"] for row in rows] == 3 * [OTHER] + 3 * [str(third)]
    worst = max(abs(row["memory_error"]) for row in rows), max(abs(row["processor_error"]) for row in rows)
    assert f"The largest errors of all 2: memory {worst[0]:.0%}, processor {worst[1]:.0%}." in said
    assert "The model, from 3 stairs of " + ONE in said


WRONG = [
    ([], "give --connections, the number of clients, such as 1e6, or --check."),
    (["--connections", "many"], "--connections is 'many'; it must be a number from 1 to 1e+12."),
    (["--connections", "0"], "--connections is '0'; it must be"),
    (["--connections", "nan"], "--connections is 'nan'; it must be"),
    (["--connections", "inf"], "--connections is 'inf'; it must be"),
    (["--connections", "5", "--push-rate", "-1"], "--push-rate is '-1'; it must be"),
    (["--connections", "5", "--processor", "50"], "--processor is '50'; it must be a number from 0.01 to 1."),
    (["--connections", "5", "--heartbeat-interval", "0"], "--heartbeat-interval is '0'"),
    (["--connections", "5", "--report", "/nowhere.json"], "/nowhere.json cannot be read: No such file or directory."),
    (["--connections", "5", "--report", __file__], "is no report.json of `make capacity`"),
    (["--connections", "5", "--mode", "serve"], "give --report too"),
    (["--connections", "5", "--mode", "split", "--report", ONE], "a fit needs 2 stairs of mode 'split' that held"),
    (["--check", ONE], "--check compares a report with another"),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=[" ".join(row[0])[-40:] for row in WRONG])
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    done = _plan(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert sentence in done.stderr
    assert done.stderr.startswith("portico: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_check_without_the_mode_says_what_there_is(tmp_path: Path) -> None:
    renamed = tmp_path / "report.json"
    renamed.write_text(Path(OTHER).read_text().replace('"name":"serve"', '"name":"adjacent"'))
    done = _plan("--report", ONE, "--check", str(renamed))
    assert done.exit_code == 2
    assert f"{renamed}: --check needs a stair of mode 'serve' that held; it has: adjacent (3)." in done.stderr
