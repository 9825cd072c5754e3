"""Every promise of docs/discussion/promises.md is shown by the tests that it names, word by word; its metrics exist."""

import re
from pathlib import Path

import pytest

from service.app import Node
from service.http.metrics import metrics_answer
from service.settings import Settings
from tests import promises
from tests.gateways import ROOT

PAGE = (ROOT / "docs/discussion/promises.md").read_text()


def test_every_promise_is_shown_by_the_tests_that_it_names() -> None:
    assert promises.problems(PAGE, ROOT / "tests") == []
    assert len(promises.claims(PAGE)) >= 14


def test_every_row_about_what_happens_names_a_test() -> None:
    for heading in re.findall(r"^\|.*\| shown by \|$", PAGE, re.MULTILINE):
        rows = PAGE[PAGE.index(heading) :].split("\n\n")[0].splitlines()[2:]
        assert len(promises.claims("\n".join(rows))) == len(rows)


def test_the_metrics_that_it_names_exist() -> None:
    node = Node(Settings.load({"REDIS_URL": "redis://127.0.0.1:1"}))
    text = metrics_answer(node.parts.counters, node.parts.connections(), node.parts.live()).body.decode()
    rows = PAGE.partition("## The bounds")[2].splitlines()
    named = [name for row in rows for name in re.findall(r"`([a-z_]+)`", row.rpartition("|")[0].rpartition("|")[2])]
    assert len(named) >= 10
    for name in named:
        if name != "portico_…":
            assert f"\nportico_{name} " in text, name


# The check itself, on a page and tests of its own.

ROW = "| Redis freezes | stay | 503 after 2 s | `test_some.py`: `test_one`, `test_two` |"
PARAGRAPH = "**Meanwhile:** all goes\non. (`test_some.py`: `test_one`)"
TESTS = """
@pytest.mark.shows("stay", "all goes on")
def test_one(): ...

@pytest.mark.live
@pytest.mark.shows(
    "503 after "
    "2 s",
)
async def test_two(): ...
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("", "", None),
        ("| stay |", "| stay connected |", "no test says that it shows this of 'Redis freezes': 'connected | |'"),
        ("503 after 2 s", "503 after 3 s", "test_some.py::test_two says that it shows '503 after 2 s'"),
        ("all goes\non", "all goes\non, and on", "no test says that it shows this of 'Meanwhile:': ', and on. ()'"),
        ("`test_two`", "`test_three`", "'Redis freezes' names test_some.py::test_three, which is no test"),
        ("`test_some.py`: `test_one`)", ")", "test_some.py::test_one says that it shows 'all goes on'"),
        ('@pytest.mark.shows("stay", "all goes on")\n', "", "test_some.py::test_one does not say what it shows"),
        ('"stay", ', "", "no test says that it shows this of 'Redis freezes': 'stay |"),
        ('"stay"', '"stay", "nothing"', "test_some.py::test_one says that it shows 'nothing'"),
        ("async def test_two", "async def test_too", "'Redis freezes' names test_some.py::test_two, which is no test"),
    ],
)
def test_the_check_can_fail(tmp_path: Path, old: str, new: str, problem: str | None) -> None:
    (tmp_path / "test_some.py").write_text(TESTS.replace(old, new))
    found = promises.problems(f"{ROW}\n\n{PARAGRAPH}\n".replace(old, new), tmp_path)
    assert bool(found) == (problem is not None), found
    assert problem is None or any(problem in one for one in found), found
