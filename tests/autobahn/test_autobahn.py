"""The short run of the fuzzing client: framing, control frames, fragments, UTF-8 and closings, on every transport."""

from pathlib import Path

import pytest

from .echo_server import TRANSPORTS
from .environment import Missing, prepare
from .suite import run

GROUPS = ("1.1.*", "2.*", "3.*", "4.*", "5.*", "6.2.*", "6.4.*", "7.*")
CASES = 8 + 11 + 7 + 10 + 20 + 4 + 4 + 37


@pytest.mark.live
def test_the_short_run(tmp_path: Path) -> None:
    try:
        wstest = prepare(accelerated=False)
    except Missing as missing:
        pytest.skip(str(missing))
    verdicts = run(wstest, tmp_path / "run", GROUPS)
    assert [verdict.transport for verdict in verdicts] == list(TRANSPORTS)
    assert [fault for verdict in verdicts for fault in verdict.faults] == []
    # Nobody fails a case that was never run.
    assert [verdict.cases for verdict in verdicts] == [CASES] * len(TRANSPORTS)
