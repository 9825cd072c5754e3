"""`portico worker module:name`: what may be there, what it is served as, and what is said where it can't be."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.user_worker import load

SOURCES = {
    "shop.py": """
from portico import Worker

worker = Worker("http://127.0.0.1:9", capacity=3, name="shop-1", token="sesame")

@worker.command
def add(data):
    return data["a"] + data["b"]

@worker.command(name="price.of")
async def price(data):
    return 7

commands = {"add": add}
nothing = 5
empty = Worker("http://127.0.0.1:9")
class Thing:
    pass
""",
    "bare.py": "def commands(data):\n    return 1\n",
    "broken.py": "import json\n\nraise RuntimeError('at\\x1b[31m work')\n",
    "needy.py": "import there_is_none_such\n",
    "none.py": "x = 1\n",
    "at_once.py": """
from portico import Worker, run

worker = Worker("http://127.0.0.1:9", commands={"add": lambda data: data})


async def main():
    raise RuntimeError("it ran")


run(main)
""",
    "own.py": "from service.prices import RATE\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in SOURCES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    # And nothing that they import: a library of which a part is imported twice isn't one.
    for name in SOURCES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_a_worker_a_table_and_a_function() -> None:
    whole = load("shop:worker")
    assert list(whole.commands) == ["add", "price.of"]
    assert whole.like is not None
    assert (whole.like.capacity, whole.like.name, whole.like.token) == (3, "shop-1", "sesame")
    assert list(load("shop:commands").commands) == ["add"]
    function = load("shop:add")
    assert function.commands["add"]({"a": 1, "b": 2}) == 3
    assert function.like is None


def test_a_program_that_runs_its_worker_is_imported_and_not_run() -> None:
    assert list(load("at_once:worker").commands) == ["add"]


def test_a_package_of_the_gateway_s_name_is_told_as_what_hides_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "service").mkdir()
    with pytest.raises(SystemExit):
        load("own:worker")
    assert "is the gateway's own package and hides yours" in capsys.readouterr().err


def test_without_a_name_the_usual_ones_are_looked_for(folder: Path) -> None:
    assert list(load("shop").commands) == ["add", "price.of"]
    assert list(load("bare").commands) == ["commands"]
    assert list(load(f"{folder}/shop.py:commands").commands) == ["add"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nosuch:worker", "There is no module 'nosuch'"),
        ("nosuch/file.py", "There is no file 'nosuch/file.py'"),
        ("no.such.module", "There is no module 'no.such.module'"),
        ("", "can't be imported"),
        ("shop:nosuch", "The module 'shop' has no 'nosuch'."),
        ("none", "has neither worker nor commands"),
        ("shop:nothing", "it is of the type int"),
        ("shop:Thing", "it is of the type type"),
        ("shop:empty", "at least one command"),
        ("broken:worker", "raises this when it is imported"),
        ("needy:worker", "No module named 'there_is_none_such'"),
    ],
)
def test_what_cannot_be_served_is_a_sentence(place: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(place)
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in told, told


def test_a_bug_in_the_module_is_shown_from_its_own_code_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load("broken")
    first, second, error, last = capsys.readouterr().err.splitlines()
    assert 'broken.py", line 3' in first
    assert "raise RuntimeError" in second
    assert error.startswith("RuntimeError: at")
    assert last.startswith("portico: The module 'broken'")
