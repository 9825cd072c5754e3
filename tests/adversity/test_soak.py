"""The soak, small: some seconds, some thousands of clients."""

from pathlib import Path

import pytest

from .soak import soak


@pytest.mark.live
def test_a_small_soak(tmp_path: Path) -> None:
    report = soak(tmp_path, clients=2000, seconds=4)
    assert report.passed, report
    assert report.clients == 2000
    assert report.came_and_went >= 4 * 2000 * 0.01 / 2
