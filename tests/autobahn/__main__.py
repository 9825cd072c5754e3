"""`make autobahn`: all the cases that apply, against every transport, without compression and with it; a table for
each, and exit code 1 if any case is not fine, or missing."""

import sys
from pathlib import Path

from .environment import HOME, Missing, prepare
from .suite import CASES, CASES_WITHOUT_COMPRESSION, COMPRESSION, Verdict, run


def main() -> int:
    """Run the suite; returns the exit code."""
    try:
        wstest = prepare(accelerated=True)
    except Missing as missing:
        sys.stderr.write(f"{missing}\n")
        return 2
    without = run(wstest, _announced("compression off"), ["*"], exclude=COMPRESSION)
    passed = _told(without, CASES_WITHOUT_COMPRESSION)
    sys.stdout.write("Not run: 12.* and 13.*, which are about compression.\n")
    compressed = run(wstest, _announced("compression on"), ["*"], compression=True)
    return 0 if _told(compressed, CASES) and passed else 1


def _announced(name: str) -> Path:
    folder = HOME / name.replace(" ", "-")
    sys.stdout.write(f"\nAutobahn|Testsuite's fuzzing client, {name}; this takes some minutes …\n")
    sys.stdout.write(f"The report: {folder / 'report' / 'index.html'}\n")
    sys.stdout.flush()
    return folder


def _told(verdicts: list[Verdict], cases: int) -> bool:
    """Write what was found; whether every case was run and is fine."""
    passed = True
    for verdict in verdicts:
        sys.stdout.write(f"{verdict}\n")
        sys.stdout.writelines(f"  {fault}\n" for fault in verdict.faults)
        if verdict.cases != cases:
            sys.stdout.write(f"  {cases} cases should have run.\n")
            passed = False
        passed = passed and not verdict.faults
    return passed


if __name__ == "__main__":
    sys.exit(main())
