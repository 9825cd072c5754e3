"""`make compat`: every client program against every way of being deployed, and the matrix of what came of it.

Starts each deployment by itself, plays everything that can be played there, and writes the matrix into
`docs/reference/compatibility.md`. A certificate of each is left in the folder that `COMPAT_OUT` names (compat-out).
With `--only-deployments` the columns of the others are those of the certificates that an earlier run left there.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from compat.clients import KINDS
from compat.script import read
from tests.gateways import ROOT, clean_environment

from .coverage import PAGE
from .deployments import (
    IDLE,
    KEY,
    OFTEN,
    PRODUCTION,
    Live,
    about,
    admin_token,
    behind_nginx,
    one,
    several,
    split,
    tokens_are,
    without_a_port,
)

BEGIN, END = "<!-- matrix -->", "<!-- end of matrix -->"
MODULES: Final = ROOT / "tests" / "compat" / "node"
PLACE: Final = {row.name: number for number, row in enumerate(read())}


def with_token(auth: str, *arguments: str) -> Callable[[Path], AbstractContextManager[Live]]:
    """Tokens are looked at, and the suite has one."""
    return lambda folder: one(folder, "--token", admin_token(), *arguments, settings=tokens_are(auth))


@dataclass(frozen=True)
class Column:
    """How a deployment is started; `drained`: the drain is played there too."""

    start: Callable[[Path], AbstractContextManager[Live]]
    drained: bool = True


IN_TURN: Final = {"PORTICO_LB_STRATEGY": "round_robin", "PORTICO_QUEUE_LIMIT": 0}
DEPLOYMENTS: Final = {
    "integrated, hypercorn": Column(partial(one, server="hypercorn")),
    "integrated, portico serve": Column(one),
    "adjacent, hypercorn": Column(partial(one, server="hypercorn", mode="adjacent")),
    "adjacent, portico serve": Column(partial(one, mode="adjacent")),
    "integrated, 2 processes": Column(several),
    "split, 2 nodes": Column(split),
    "in production": Column(
        lambda folder: one(folder, "--handshake-key", KEY, "--api-key", KEY, settings=PRODUCTION)
    ),
    "behind nginx, TLS": Column(behind_nginx),
    "tokens optional": Column(with_token("optional", *about("tokens", "token")), drained=False),
    "tokens required": Column(with_token("required"), drained=False),
    "on port 80": Column(without_a_port, drained=False),
    "round_robin, no queue": Column(
        lambda folder: one(
            folder, "--strategy", "round_robin", "--no-queue", *about("round-robin", "no-queue"), settings=IN_TURN
        ),
        drained=False,
    ),
    "weighted_random": Column(
        lambda folder: one(
            folder, "--strategy", "weighted_random", *about("weighted-random"),
            settings={"PORTICO_LB_STRATEGY": "weighted_random"},
        ),
        drained=False,
    ),
    "random, short history, a proxy that cuts": Column(
        lambda folder: one(
            folder, "--strategy", "random", "--short-history", "--idle-timeout", str(IDLE),
            *about("random", "short-history", "idle"),
            settings={"PORTICO_LB_STRATEGY": "random", "PORTICO_HISTORY_LENGTH": 5, **OFTEN},
        ),
        drained=False,
    ),
}  # fmt: skip


def stem(name: str) -> str:
    """What the files of a column are called."""
    return name.replace(", ", "-").replace(" ", "-")


def play(live: Live, out: Path, name: str) -> None:
    """Run the suite, and leave its certificates. The drain is last of all and alone: nothing can be played after it."""
    base_url, arguments = live
    environment = clean_environment(COMPAT_NODE_MODULES=MODULES / "node_modules")
    parts = {"": ("--skip", "drain"), "-drain": ("--only", "drain", "--client", "bare")}
    for part in parts if DEPLOYMENTS[name].drained else [""]:
        found = out / f"{stem(name)}{part}.json"
        files = ("--json", str(found), "--html", str(found.with_suffix(".html")))
        subprocess.run(
            [sys.executable, "-m", "compat", "--base-url", base_url, "--invasive", "--timeout", "30",
             *files, *parts[part], *arguments],
            stdin=subprocess.DEVNULL, cwd=ROOT, env=environment, check=False,
        )  # fmt: skip


def certified(out: Path, name: str) -> list[dict[str, Any]]:
    """The results in a column's certificates; raises FileNotFoundError where it has none."""
    parts = ("", "-drain") if DEPLOYMENTS[name].drained else ("",)
    found: list[dict[str, Any]] = []
    for part in parts:
        found += json.loads((out / f"{stem(name)}{part}.json").read_text())["results"]
    return found


def cell(results: list[dict[str, Any]], client: str) -> str:
    """What a client program's rows came to; empty where it had none, or nothing could be played."""
    outcomes = [row["outcome"] for row in results if row["client"] == client and row["scenario"] != "mode"]
    failed = outcomes.count("failed")
    return f"**{failed} failed**" if failed else str(outcomes.count("passed") or "")


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
    scenarios = {row["scenario"] for results in found.values() for row in results if row["scenario"] != "mode"}
    for scenario in sorted(scenarios, key=lambda name: PLACE.get(name, len(PLACE))):
        cells = []
        for name in names:
            outcomes = [row["outcome"] for row in found[name] if row["scenario"] == scenario]
            passed, played = outcomes.count("passed"), len(outcomes) - outcomes.count("skipped")
            cells.append(
                ""
                if not outcomes
                else "skipped"
                if not played
                else str(passed)
                if passed == played
                else f"**{passed} of {played}**"
            )
        lines.append(f"| `{scenario}` | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", END])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.compat.matrix", description="Write the matrix anew.")
    parser.add_argument(
        "--only-deployments", action="append", choices=DEPLOYMENTS, metavar="NAME",
        help=f"play this column (again for another): {'; '.join(DEPLOYMENTS)}",
    )  # fmt: skip
    chosen = parser.parse_args().only_deployments or list(DEPLOYMENTS)
    out = Path(os.environ.get("COMPAT_OUT", "compat-out")).absolute()
    out.mkdir(parents=True, exist_ok=True)
    packages = json.loads((MODULES / "package.json").read_text())["dependencies"]
    if not all((MODULES / "node_modules" / name).is_dir() for name in packages):
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=MODULES, check=True)
    for name in chosen:
        began = time.monotonic()
        print(f"--- {name}", flush=True)
        for old in out.glob(f"{stem(name)}*"):
            old.unlink()
        with TemporaryDirectory() as folder, DEPLOYMENTS[name].start(Path(folder)) as live:
            play(live, out, name)
        print(f"--- {name}: {time.monotonic() - began:.0f} s", flush=True)
    try:
        found = {name: certified(out, name) for name in DEPLOYMENTS}
    except FileNotFoundError as error:
        print(f"The page stays as it is: there is no {error.filename}. Play that deployment too.", file=sys.stderr)
        return 2
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + matrices(found) + rest.split(END)[1])
    failed = sum(row["outcome"] == "failed" for results in found.values() for row in results)
    print(f"{failed} failed; certificates are in {out}")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
