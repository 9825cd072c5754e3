"""The bench of dear JSON: every path takes every kind, tiny, and the table says something of each. Costs are not."""

import json
import re
import subprocess
import sys

import pytest

from tests.bench.environment import ROOT
from tests.bench.json_costs import PATHS
from tests.bench.json_kinds import KINDS, TEXT

_LIMIT = 600.0
_NO_JSON = {"NaN", "NaN at the end", "NaN in many texts", "no end"}


@pytest.mark.live
def test_every_path_is_measured() -> None:
    command = [sys.executable, "-m", "tests.bench.json_costs", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_LIMIT)
    assert done.returncode == 0, done.stderr
    head, line, *rows = done.stdout.splitlines()
    assert head.count("|") == line.count("|") == 7
    assert [row.split(" | ")[0] for row in rows] == [f"| {path.name}" for path in PATHS]
    for row in rows:
        assert re.fullmatch(r"\| .+ \| [\d.]+ ms \| [\d.]+ ms \| .+ \| [\d.]+ × \| [\d.]+ × \|", row), row


def test_a_path_that_is_not_there_is_refused() -> None:
    command = [sys.executable, "-m", "tests.bench.json_costs", "--paths", "Gopher"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_LIMIT)
    assert done.returncode == 2
    assert "no path begins so" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_about_the_size_that_it_is_made_for(kind: str) -> None:
    for size in (1 << 14, 1 << 18):
        value = KINDS[kind](size)
        assert 0.8 * size <= len(value) <= 1.2 * size
    if kind not in _NO_JSON and not kind.startswith("one whole"):
        json.loads(KINDS[kind](1 << 12))


def test_each_path_that_refuses_has_one_that_accepts() -> None:
    names = {path.name for path in PATHS}
    assert all(path.like is None or path.like in names for path in PATHS)
    assert TEXT in KINDS
    assert len(KINDS) > 25
