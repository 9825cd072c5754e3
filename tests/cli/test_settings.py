"""Settings that are wrong end a command with a line for each."""

import pytest

from service.cli.outcomes import WRONG
from service.cli.settings import load_settings


def test_wrong_settings_end_with_a_line_for_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_settings({"PORT": "1234"}).port == 1234
    monkeypatch.setenv("PORTICO_AUTH", "sometimes")
    with pytest.raises(SystemExit) as ended:
        load_settings({"PORT": "many"})
    assert ended.value.code == WRONG
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "PORT" in said[0] + said[1]
    assert "PORTICO_AUTH" in said[0] + said[1]
