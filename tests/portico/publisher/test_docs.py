"""The samples of "Push from a back end", each run against a server that answers with receipts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .scripted import receipt, scripted

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "push-from-a-back-end.md").read_text()
KEY = "k" * 32


def samples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run(command: list[str], base_url: str, folder: Path) -> str:
    environment = {**os.environ, "GATEWAY_URL": base_url, "GATEWAY_API_KEY": KEY}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("number", "call", "target"),
    [
        (0, "add_to_cart('u1', 3)", {"user_id": "u1"}),
        (1, "import trio; trio.run(main)", {"channel_id": "prices"}),
        (1, "import asyncio; asyncio.run(main())", {"channel_id": "prices"}),
    ],
)
def test_python(tmp_path: Path, number: int, call: str, target: dict[str, str]) -> None:
    (tmp_path / "program.py").write_text(f"{samples('python')[number]}\n\n{call}\n")
    with scripted(receipt) as server:
        run([sys.executable, "program.py"], server.base_url, tmp_path)
    (asked,) = server.asked
    assert asked.body["target"] == target
    assert asked.headers["authorization"] == f"Bearer {KEY}"


def test_node(tmp_path: Path) -> None:
    where = run([sys.executable, "-c", samples("sh")[0].partition("'")[2].rpartition("'")[0]], "", tmp_path).strip()
    (tmp_path / "publisher.mjs").write_bytes(Path(where).read_bytes())
    (tmp_path / "program.mjs").write_text(samples("js")[0] + "process.exit(0);\n")
    with scripted(receipt) as server:
        assert run(["node", "program.mjs"], server.base_url, tmp_path) == "connections that got it: 1\n"
    assert server.asked[0].body["target"] == {"user_id": "u1"}


def test_every_sample_is_run() -> None:
    assert [len(samples(language)) for language in ("python", "js", "sh")] == [2, 1, 1]
    assert PAGE.count("```") == 8
