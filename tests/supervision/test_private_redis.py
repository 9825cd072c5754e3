"""The folder of a Redis of the gateway's own: whose it is, and that it is gone whenever nobody has it any more."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from service.supervision.private_redis import MISSING, PrivateRedis
from tests.gateways import ROOT, clean_environment
from tests.supervision.test_several_processes import eventually


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, with a short name: a socket's path may have 100 characters."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_it_is_removed_at_the_end_and_can_be_removed_twice(temporary: Path) -> None:
    redis = PrivateRedis()
    assert redis.folder.stat().st_mode & 0o777 == 0o700
    redis.remove()
    redis.remove()
    assert list(temporary.iterdir()) == []


def test_without_the_program_there_is_no_folder(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match=MISSING[:20]):
        PrivateRedis()
    assert list(temporary.iterdir()) == []


def test_a_temporary_folder_that_cannot_be_written_to_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(OSError, match=r"cannot make a folder for Redis in /nowhere .*: set TMPDIR"):
        PrivateRedis()


PROGRAM = """
import os, signal, sys, tempfile
tempfile.tempdir = sys.argv[1]
from service.supervision.private_redis import PrivateRedis
redis = PrivateRedis()
print(redis.folder, flush=True)
{first}
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(temporary: Path, first: str = "") -> Path:
    """The folder of a supervisor that was killed, having done something `first`."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first), str(temporary)],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
        process_group=0,
    )
    assert ended.returncode == -signal.SIGKILL
    return Path(ended.stdout.strip())


def test_it_is_removed_when_its_owner_was_killed(temporary: Path) -> None:
    folder = killed(temporary)
    eventually(lambda: not folder.exists())


def test_what_nobody_could_remove_is_removed_at_the_next_start_and_nothing_else(temporary: Path) -> None:
    folder = killed(temporary, "redis._reaper.kill(); redis._reaper.wait()")
    assert folder.is_dir()
    (temporary / "portico-redis-of-another-program").mkdir()
    other, ours = PrivateRedis(), PrivateRedis()
    assert not folder.exists()
    assert other.folder.is_dir()
    ours.remove()
    other.remove()
    assert os.listdir(temporary) == ["portico-redis-of-another-program"]
