"""`make autobahn`: all the cases that apply, against every transport; a table, and exit code 1 if any is not fine."""

import sys

from .environment import HOME, Missing, prepare
from .suite import CASES_WITHOUT_COMPRESSION, COMPRESSION, run


def main() -> int:
    """Run the suite; returns the exit code."""
    try:
        wstest = prepare(accelerated=True)
    except Missing as missing:
        sys.stderr.write(f"{missing}\n")
        return 2
    sys.stdout.write("Running Autobahn|Testsuite's fuzzing client; this takes some minutes …\n")
    sys.stdout.flush()
    verdicts = run(wstest, HOME / "run", ["*"], exclude=COMPRESSION)
    passed = True
    for verdict in verdicts:
        sys.stdout.write(f"{verdict}\n")
        sys.stdout.writelines(f"  {fault}\n" for fault in verdict.faults)
        if verdict.cases != CASES_WITHOUT_COMPRESSION:
            sys.stdout.write(f"  {CASES_WITHOUT_COMPRESSION} cases should have run.\n")
            passed = False
        passed = passed and not verdict.faults
    sys.stdout.write("Not run: 12.* and 13.*, permessage-deflate, which no transport offers.\n")
    sys.stdout.write(f"The report: {HOME / 'run' / 'report' / 'index.html'}\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
