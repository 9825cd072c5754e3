"""The bench of handling alone: it runs, and says something."""

import pytest

from tests.bench import handling


def test_it_says_what_a_request_costs(capsys: pytest.CaptureFixture[str]) -> None:
    handling.main(["--rounds", "3"])
    said = capsys.readouterr().out
    assert said.endswith(" µs a request\n")
    assert 0 < float(said.split()[0]) < 1e6
