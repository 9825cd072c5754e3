"""`python -m tests.split.migrating`: a gateway is moved from one process to several and back, and the count of it."""

import sys
import tempfile
import time
from pathlib import Path

from .migration import migrate


def main() -> int:
    """Run it. Returns the exit code: 1 if anything durable was lost in silence, doubled or out of order."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  " + line.replace("\n", "\n          "), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        outcome = migrate(Path(folder), leg=4.0, rate=100, say=say)
    print(f"\n{outcome}\n")
    print(
        "Nothing was lost in silence, nothing doubled." if outcome.clean else "This is not as it should be: see above."
    )
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
