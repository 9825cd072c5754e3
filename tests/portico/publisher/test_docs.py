"""The samples of "Push from a back end", each run against a server that answers with receipts."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .scripted import receipt, scripted

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "push-from-a-back-end.md").read_text()
KEY = "k" * 32
COMMANDS = {
    "cart.py": """python -c 'import cart; cart.add_to_cart("u1", 3)'""",
    "price.py": "python price.py",
}
"""By the names under which the page saves its programs, how it starts them."""


def samples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run(command: list[str], base_url: str, folder: Path) -> str:
    environment = {**os.environ, "GATEWAY_URL": base_url, "GATEWAY_API_KEY": KEY}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "command", "said", "target"),
    [
        ("cart.py", COMMANDS["cart.py"], "connections that got it: 1\n", {"user_id": "u1"}),
        ("price.py", COMMANDS["price.py"], "", {"channel_id": "prices"}),
        ("price.py", "python -c 'import price, trio; trio.run(price.main)'", "", {"channel_id": "prices"}),
    ],
)
def test_python(tmp_path: Path, name: str, command: str, said: str, target: dict[str, str]) -> None:
    """Saved and started as the page says, with nothing added: a sample that nothing calls does nothing."""
    (tmp_path / name).write_text(dict(zip(COMMANDS, samples("python"), strict=True))[name])
    assert command in PAGE or "trio" in command
    with scripted(receipt) as server:
        assert run([sys.executable, *shlex.split(command)[1:]], server.base_url, tmp_path) == said
    (asked,) = server.asked
    assert asked.body["target"] == target
    assert asked.headers["authorization"] == f"Bearer {KEY}"


def test_node(tmp_path: Path) -> None:
    where = run([sys.executable, "-c", samples("sh")[2].partition("'")[2].rpartition("'")[0]], "", tmp_path).strip()
    (tmp_path / "publisher.mjs").write_bytes(Path(where).read_bytes())
    (tmp_path / "program.mjs").write_text(samples("js")[0] + "process.exit(0);\n")
    with scripted(receipt) as server:
        assert run(["node", "program.mjs"], server.base_url, tmp_path) == "connections that got it: 1\n"
    assert server.asked[0].body["target"] == {"user_id": "u1"}


def test_every_sample_is_run() -> None:
    assert [len(samples(language)) for language in ("python", "js", "sh")] == [2, 1, 3]
    assert PAGE.count("```") == 12
    assert samples("sh")[1].strip() == COMMANDS["cart.py"]
    assert "export GATEWAY_URL=" in samples("sh")[0]
