"""Where several processes share the tests, the files that take longest come first."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.conftest import LONGEST, pytest_collection_modifyitems

HERE = Path(__file__).parent


def ordered(config: object, *names: str) -> list[str]:
    """The names of files in the order in which their tests are given out."""
    items: list[Any] = [SimpleNamespace(path=HERE / name) for name in names]
    given: Any = config
    pytest_collection_modifyitems(given, items)
    return [str(item.path.relative_to(HERE)) for item in items]


def test_the_longest_files_are_there_and_named_once() -> None:
    assert [name for name in LONGEST if not (HERE / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)


def test_the_longest_come_first_and_the_others_stay_in_their_order() -> None:
    several = SimpleNamespace(workerinput={})
    given = ("a.py", LONGEST[2], "c.py", LONGEST[0], "b.py")
    assert ordered(several, *given) == [LONGEST[0], LONGEST[2], "a.py", "c.py", "b.py"]


def test_one_process_goes_through_the_files_as_they_come() -> None:
    assert ordered(SimpleNamespace(), "a.py", LONGEST[0]) == ["a.py", LONGEST[0]]
