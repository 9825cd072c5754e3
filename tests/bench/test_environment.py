"""The bench's environment is made once, whoever else wants it at the same time."""

from pathlib import Path
from threading import Barrier, Thread

import pytest

from tests.bench import environment


def test_two_that_want_it_at_once_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv = tmp_path / "venv"
    (tmp_path / "some.lock").write_text("peers==1")
    monkeypatch.setattr(environment, "LOCK", tmp_path / "some.lock")
    monkeypatch.setattr(environment, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(environment, "_STAMP", venv / ".installed")
    made: list[str] = []
    both = Barrier(2)

    def run(command: list[str], what: str) -> None:
        made.append(what)
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin" / "python").touch()

    def want() -> None:
        both.wait(60)
        environment.install()

    monkeypatch.setattr(environment, "_run", run)
    wanting = [Thread(target=want) for _ in range(2)]
    for thread in wanting:
        thread.start()
    for thread in wanting:
        thread.join(60)
    assert made == ["no environment for the peers", "the peers can't be installed"]
    assert environment.ready()
