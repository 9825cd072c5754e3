"""`python -m tests.split`: the demonstration, with what happens as it happens, and the accounts at the end.

Exit code 1 if anything was lost, doubled, out of order or unanswered.
"""

import sys
import tempfile
import time
from pathlib import Path

from .demo import demonstrate


def main() -> int:
    """Run it. Returns the exit code."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        outcome = demonstrate(Path(folder), say=say)
    print(f"\n{outcome}\n")
    print("Nothing was lost, nothing doubled." if outcome.clean else "This is not as it should be: see above.")
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
