"""How a command starts `portico` again."""

import sys
from pathlib import Path

import pytest

from service.cli.again import portico_again


def test_the_same_script_or_else_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "portico"
    monkeypatch.setattr(sys, "argv", [str(script), "serve"])
    # A script that is not there (any more) can't be started.
    assert portico_again() == [sys.executable, "-P", "-m", "service.cli"]
    script.touch()
    assert portico_again() == [sys.executable, "-P", str(script)]
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "pytest"), "serve"])
    assert portico_again() == [sys.executable, "-P", "-m", "service.cli"]
