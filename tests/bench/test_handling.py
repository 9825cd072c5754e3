"""The bench of handling alone: it runs, and says something."""

import pytest

from tests.bench import handling


def test_it_says_what_a_request_costs(capsys: pytest.CaptureFixture[str]) -> None:
    handling.main(["--rounds", "3"])
    request, refusal = capsys.readouterr().out.splitlines()
    assert request.endswith(" µs a request")
    assert refusal.endswith(" µs a refused message")
    assert all(0 < float(line.split()[0]) < 1e6 for line in (request, refusal))
