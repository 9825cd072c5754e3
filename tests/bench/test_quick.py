"""The bench itself: every row runs, tiny, on Portico and one peer, and says something sane. No speed is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import environment
from tests.bench.report import DEMANDS
from tests.bench.work import ROWS

_LIMIT = 600.0


@pytest.mark.live
def test_every_row_runs(tmp_path: Path) -> None:
    try:
        environment.install()
    except environment.Unavailable as problem:
        pytest.skip(str(problem))
    target = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--quick", "--servers", "portico,websockets", "--json", str(target)]
    done = subprocess.run(command, cwd=environment.ROOT, capture_output=True, text=True, check=False, timeout=_LIMIT)
    assert done.returncode == 0, done.stderr
    found = json.loads(target.read_text())
    assert list(found["rows"]) == [row.name for row in ROWS]
    for row, servers in found["rows"].items():
        for server, summary in servers.items():
            assert summary["fault"] is None, (row, server, summary["fault"])
            assert summary["median"] is not None, (row, server)
            if row != "memory":  # so few clients may fit into what the process holds already
                assert summary["median"] > 0, (row, server)
    assert found["rows"]["flood"]["portico"]["runs"][0]["flood"]["sent"] > 0
    assert found["rows"]["publish"]["portico"]["runs"][0]["delivered"] > 0
    assert len(found["demands"]) == sum(demand.server == "portico" for demand in DEMANDS)
    for row in ROWS:
        assert f"**{row.title}**" in done.stdout
    assert "| must reach |" in done.stdout
