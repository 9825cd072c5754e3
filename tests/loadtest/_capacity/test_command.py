"""The command: what is wrong in what was given is one sentence; an interrupt leaves a report, and no process."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from loadtest._capacity import _command
from loadtest._capacity._comparison import write
from tests.gateways import ROOT

from .results import comparison, measured, result, stage

WRONG = [
    (["--modes", "serve,splitt"], "there is no mode 'splitt'; those there are, are integrated, serve"),
    (["--modes", ","], "--modes names none"),
    (["--stairs", "100,50"], "--stairs is '100,50'; it must be ascending numbers of at least 1"),
    (["--stairs", "many"], "--stairs is 'many'"),
    (["--hold", "0"], "--hold is 0; it must be above 0."),
    (["--hold", "nan"], "--hold is nan; it must be above 0."),
    (["--rate", "-5"], "--rate is -5; it must be above 0."),
    (["--processes", "0"], "--processes is 0; it must be above 0."),
    (["--thresholds", "/nowhere/t.toml"], "/nowhere/t.toml"),
    (["--docs", "/nowhere"], "No such file or directory: '/nowhere/discussion/capacity.md'"),
    (["--from", "/nowhere/run.json"], "No such file or directory: '/nowhere/run.json'"),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_what_is_wrong_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert said.err.startswith("capacity: ")
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_result_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("{}", "[]", "not JSON"):
        (tmp_path / "run.json").write_text(text)
        assert _command.main(["--from", str(tmp_path / "run.json"), "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert "run.json" in said


def test_too_few_descriptors_is_one_sentence_with_the_number_that_would_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 1024))
    assert _command.main(["--stairs", "100,5000", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "5,000 connections need 5,200 open files" in said
    assert "ulimit -Hn 5200" in said
    assert "--stairs with at most 824." in said


def test_a_report_on_runs_that_were_made_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(comparison(measured("serve", stage(100))), tmp_path / "report.json")
    (tmp_path / "other.json").write_bytes(msgspec.json.encode(result(stage(200))))
    given = [str(tmp_path / "report.json"), str(tmp_path / "other.json")]
    assert _command.main(["--from", *given, "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [mode["name"] for mode in report["modes"]] == ["serve", "other"]
    assert "<svg" in (tmp_path / "out/report.html").read_text()


def test_an_interrupt_writes_what_there_is_and_ends_every_process(tmp_path: Path) -> None:
    out = tmp_path / "out"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "loadtest._capacity", "--modes", "serve", "--stairs", "20", "--hold", "300"]
    # What it starts has its folder for temporary files, so it can be told from all other processes by that.
    environment = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        [*command, "--out", str(out)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        give_up = time.monotonic() + 90
        while not _is_under_load(scratch):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.1)
        assert len(_of(scratch)) >= 3
        process.send_signal(signal.SIGTERM)  # SIGINT is ignored in what runs in the background
        said, _ = process.communicate(timeout=90)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    while _of(scratch):  # the observer ends when it sees that locust has
        assert time.monotonic() < give_up + 60
        time.sleep(0.1)
    report = json.loads((out / "report.json").read_text())
    assert report["modes"][0]["failed"] == "interrupted"
    assert [stage["users"] for stage in report["modes"][0]["result"]["stages"]] == [20, 20]
    assert "interrupted" in (out / "report.html").read_text()
    assert list(scratch.iterdir()) == []


def _is_under_load(scratch: Path) -> bool:
    return any("Holding 20" in log.read_text() for log in scratch.glob("capacity-*/serve.load.log"))


def _of(scratch: Path) -> list[int]:
    """The processes with this folder in their environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={scratch}\0".encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
    return found
