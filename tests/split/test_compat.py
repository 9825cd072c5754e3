"""The compatibility suite against a split deployment: existing client programs cannot tell it from one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from compat.script import read
from tests.gateways import clean_environment

from .deployment import deployment

CHOSEN = ("--client", "bare", "--client", "node", "--mode", "split", "--invasive", "--timeout", "40")

pytestmark = pytest.mark.live


def test_every_client_program_is_served(tmp_path: Path) -> None:
    found = tmp_path / "results.json"
    with deployment(tmp_path, nodes=2) as made:
        done = subprocess.run(
            [sys.executable, "-m", "compat", "--base-url", made.api.base_url, "--json", str(found), *CHOSEN],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=clean_environment(),
            timeout=600,
        )
    printed = done.stdout.decode() + done.stderr.decode()
    results = json.loads(found.read_text())["results"]
    outcomes = {
        outcome: {row["scenario"] for row in results if row["outcome"] == outcome} for outcome in ("failed", "skipped")
    }
    # The base URL has a port: with a second one it would be no URL.
    # It is in development, of several nodes, and without tokens; no proxy is before it, and it keeps its history.
    elsewhere = {"production", "one-node", "auth-required", "tokens", "token", "short-history", "idle", "history-lost"}
    not_here = {row.name for row in read() if row.needs & elsewhere}
    assert outcomes == {"failed": set(), "skipped": {"address-base-url", "address-base-url-info", *not_here}}, printed
    assert len(results) > 150
    assert done.returncode == 0
