"""`portico` itself: help, version, wrong arguments, and the ways to start it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from portico.version import VERSION
from service.cli import main
from tests.cli.running import BARE, ROOT


@pytest.mark.parametrize(
    "arguments",
    [[], ["serve"], ["worker"], ["request"], ["check"], ["token"], ["token", "make"], ["token", "key"]],
    ids=lambda given: " ".join(given) or "portico",
)
def test_every_command_explains_itself(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_the_version() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("portico 0.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["request", "echo", "{not json"], "must be JSON"),
        (["request", "echo", "NaN"], "must be JSON"),
        (["request", "echo", "--url", "http://localhost:1"], "not an address like ws://"),
        (["request", "echo", "--base-url", "localhost"], "not an address like http://"),
        (["request", "echo", "--url", "ws://a", "--base-url", "http://a"], "not both"),
        (["request", "echo", "--count", "0"], "--count"),
        (["request", "echo", "--timeout", "0"], "--timeout"),
        (["request", "echo", "--stream", "--count", "5"], "not both"),
        (["request"], "Missing argument"),
        (["worker", "--commands", "get_time,rm"], "no command 'rm'"),
        (["worker", "--capacity", "0"], "--capacity"),
        (["worker", "--url", "nowhere"], "not an address like ws://"),
        (["frobnicate"], "No such command"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_and_is_exit_code_2(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["--version"], ["check"], ["token", "secret"]], ids=" ".join)
def test_an_answer_that_cannot_be_written_is_a_sentence(arguments: list[str]) -> None:
    """The disk that standard output goes to is full."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            env=BARE, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, cwd=ROOT,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.startswith("portico: No space left on device:")
    assert len(ended.stderr.splitlines()) == 1


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", "--version"], capture_output=True, text=True, check=True, env=BARE
    )
    assert done.stdout.startswith("portico ")


def test_it_says_its_version_where_it_was_copied_and_not_installed(tmp_path: Path) -> None:
    # The layout of the Dockerfile: sources beside what they depend on, and no metadata of their own.
    for package in ("portico", "service"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    # Isolated from this environment's installed metadata: only the dependencies are on the path.
    program = (
        "import importlib.metadata, runpy, sys\n"
        "def gone(name): raise importlib.metadata.PackageNotFoundError(name)\n"
        "importlib.metadata.distribution = importlib.metadata.version = gone\n"
        "sys.argv = ['portico', '--version']\n"
        "runpy.run_module('service', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=BARE | {"PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"portico {VERSION}\n", "")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed_are_no_error(tmp_path: Path, closed: str) -> None:
    command = f'"{sys.executable}" -m service check {closed}'
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, env=BARE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert ("PORT" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))
