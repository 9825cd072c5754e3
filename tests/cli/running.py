"""`portico` as a process of its own, with nothing of this machine's environment that could decide a test."""

import os
import sys
from pathlib import Path
from typing import Final

import trio

ROOT: Final = Path(__file__).parent.parent.parent
PORTICO: Final = [sys.executable, "-m", "service.cli"]
BARE: Final = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


async def portico(*arguments: str, cwd: Path | None = None, **env: str) -> tuple[int, str, str]:
    with trio.fail_after(60):
        done = await trio.run_process(
            [*PORTICO, *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=cwd,
            env=BARE | env,
        )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode, done.stdout.decode(), done.stderr.decode()
