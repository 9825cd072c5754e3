"""`make compat`: every client program against every way of being deployed, and the matrix of what came of it.

Starts each deployment by itself, plays everything that can be played there, and writes the matrix into
`docs/reference/compatibility.md`. A certificate of each is left in the folder that `COMPAT_OUT` names (compat-out).
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from compat.clients import KINDS
from tests.backplane.redis_server import RedisServer
from tests.gateways import ROOT, clean_environment, gateway
from tests.split.deployment import deployment

from .coverage import PAGE

BEGIN, END = "<!-- matrix -->", "<!-- end of matrix -->"
MODULES: Final = ROOT / "tests" / "compat" / "node"


@contextmanager
def one(folder: Path, server: str, mode: str) -> Iterator[tuple[str, str]]:
    with gateway(folder, server=server, mode=mode) as live:
        yield live.base_url, mode


@contextmanager
def several(folder: Path) -> Iterator[tuple[str, str]]:
    """`portico serve --workers 2`, on one port, with a Redis."""
    redis = RedisServer(folder / "redis")
    redis.start()
    try:
        settings = {"REDIS_URL": redis.url, "PORTICO_WORKERS": 2}
        with gateway(folder, mode="integrated", settings=settings) as live:
            yield live.base_url, "integrated"
    finally:
        redis.kill()


@contextmanager
def split(folder: Path) -> Iterator[tuple[str, str]]:
    with deployment(folder, nodes=2) as made:
        yield made.api.base_url, "split"


Started = Callable[[Path], AbstractContextManager[tuple[str, str]]]
DEPLOYMENTS: Final[dict[str, Started]] = {
    "integrated, hypercorn": lambda folder: one(folder, "hypercorn", "integrated"),
    "integrated, portico serve": lambda folder: one(folder, "portico serve", "integrated"),
    "adjacent, hypercorn": lambda folder: one(folder, "hypercorn", "adjacent"),
    "adjacent, portico serve": lambda folder: one(folder, "portico serve", "adjacent"),
    "integrated, 2 processes": several,
    "split, 2 nodes": split,
}


def certified(base_url: str, mode: str, out: Path, name: str) -> list[dict[str, Any]]:
    """Run the suite; gives its results. The drain is last of all and alone, since nothing can be played after it."""
    out.mkdir(parents=True, exist_ok=True)
    stem = name.replace(", ", "-").replace(" ", "-")
    environment = clean_environment(COMPAT_NODE_MODULES=MODULES / "node_modules")
    results: list[dict[str, Any]] = []
    for part, arguments in (("", ("--skip", "drain")), ("-drain", ("--only", "drain", "--client", "bare"))):
        found = out / f"{stem}{part}.json"
        files = ("--json", str(found), "--html", str(found.with_suffix(".html")))
        subprocess.run(
            [sys.executable, "-m", "compat", "--base-url", base_url, "--mode", mode, "--invasive", "--timeout", "30",
             *files, *arguments],
            stdin=subprocess.DEVNULL, cwd=ROOT, env=environment, check=False,
        )  # fmt: skip
        results += json.loads(found.read_text())["results"]
    return results


def cell(results: list[dict[str, Any]], client: str) -> str:
    outcomes = [row["outcome"] for row in results if row["client"] == client and row["scenario"] != "mode"]
    failed = outcomes.count("failed")
    return f"**{failed} failed**" if failed else f"{outcomes.count('passed')}"


def matrices(found: dict[str, list[dict[str, Any]]]) -> str:
    """Deployment by client, then scenario by deployment, with the clients that played it counted."""
    names = list(found)
    lines = [
        BEGIN,
        "",
        f"By `make compat`, {time.strftime('%Y-%m-%d')}. How many scenarios each client program passed:",
        "",
    ]
    lines += ["| deployment | " + " | ".join(f"`{kind}`" for kind in KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    lines += ["| " + " | ".join([name, *(cell(found[name], kind) for kind in KINDS)]) + " |" for name in names]
    lines += ["", "How many client programs passed each scenario, of those that can play it:", ""]
    lines += ["| scenario | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    scenarios = dict.fromkeys(
        row["scenario"] for results in found.values() for row in results if row["scenario"] != "mode"
    )
    for scenario in scenarios:
        cells = []
        for name in names:
            outcomes = [row["outcome"] for row in found[name] if row["scenario"] == scenario]
            passed, played = outcomes.count("passed"), len(outcomes) - outcomes.count("skipped")
            cells.append("skipped" if not played else str(passed) if passed == played else f"**{passed} of {played}**")
        lines.append(f"| `{scenario}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", END])


def main() -> int:
    out = Path(os.environ.get("COMPAT_OUT", "compat-out")).absolute()
    if not (MODULES / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=MODULES, check=True)
    found: dict[str, list[dict[str, Any]]] = {}
    for name, started in DEPLOYMENTS.items():
        print(f"--- {name}", flush=True)
        with TemporaryDirectory() as folder, started(Path(folder)) as (base_url, mode):
            found[name] = certified(base_url, mode, out, name)
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + matrices(found) + rest.split(END)[1])
    failed = sum(
        row["outcome"] == "failed" for results in found.values() for row in results if row["scenario"] != "mode"
    )
    print(f"{failed} failed; certificates are in {out}")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
