"""The bench's own environment: the load generator's and the peers' packages, installed when they are first needed.

Nothing of it is Portico's: `.venv-bench` is made from `requirements-bench.lock`, Node's package from its own lock
file. What cannot be installed is said, and the bench goes on without it.
"""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
LOCK: Final = ROOT / "requirements-bench.lock"
VENV: Final = ROOT / ".venv-bench"
PYTHON: Final = VENV / "bin" / "python"
NODE: Final = Path(__file__).parent / "node"
_STAMP: Final = VENV / ".installed"


class Unavailable(Exception):
    """A part that the bench can do without isn't there; the text says why."""


def _run(command: list[str], what: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise Unavailable(f"{what}: {last[0]}")


def ready() -> bool:
    """Whether the Python environment is installed as its lock file says."""
    return PYTHON.exists() and _STAMP.exists() and _STAMP.read_bytes() == LOCK.read_bytes()


def install() -> None:
    """Make the Python environment, if it isn't there. Raises Unavailable. Whoever else makes it is waited for."""
    if ready():
        return
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready():
            _make()


def _make() -> None:
    print(f"Installing the peers into {VENV.name} …", file=sys.stderr)
    # Also over one that somebody left half made.
    _run([sys.executable, "-m", "venv", "--without-pip", str(VENV)], "no environment for the peers")
    # By the pip of this environment: to put one into the other takes longer than anything that it would install.
    pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "--disable-pip-version-check", "install", "--quiet"]
    _run([*pip, "--no-deps", "--require-hashes", "-r", str(LOCK)], "the peers can't be installed")
    _STAMP.write_bytes(LOCK.read_bytes())


def node() -> str:
    """Node, with its package installed. Raises Unavailable."""
    program = shutil.which("node")
    if program is None:
        raise Unavailable("there is no node")
    if not (NODE / "node_modules" / "ws").exists():
        npm = shutil.which("npm")
        if npm is None:
            raise Unavailable("there is no npm to install ws with")
        _run([npm, "ci", "--no-audit", "--no-fund"], "ws can't be installed", NODE)
    return program
