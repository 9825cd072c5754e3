"""The load generator, one row of the bench at a time: `python -m load ROW JSON` prints one line of JSON.

Started by the bench, in the bench's own environment and on the load's own core. What it does to the server is
the row's work; it reads the server's CPU time itself, so that both are read at the same moment.
"""

import json
import sys

import uvloop

from . import comeback, http_rows, redis_rows, rows


def main() -> int:
    """Run the row that is asked for."""
    row, order = sys.argv[1], json.loads(sys.argv[2])
    result = uvloop.run((rows.ROWS | http_rows.ROWS | redis_rows.ROWS | comeback.ROWS)[row](order))
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
