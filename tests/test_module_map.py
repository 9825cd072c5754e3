"""The design page's map of the modules is what their docstrings say, and its check can fail."""

from pathlib import Path

import pytest

from tests.module_map import BEGIN, END, PACKAGES, PAGE, NoFirstLineError, module_map, with_map


def test_the_map_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_map(page, module_map()), (
        "the map of the modules in docs/discussion/design.md is not what the modules' docstrings say: run `make docs` "
        "and commit the page. (Where a rebase finds a conflict in the map, take either side, then run `make docs`.)"
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "service" / "__init__.py").touch()
    (tmp_path / "service" / "room").mkdir()
    (tmp_path / "service" / "room" / "__init__.py").write_text('"""A room."""\n')
    (tmp_path / "service" / "room" / "thing.py").write_text('"""A thing,\nsaid at length. More.\n\nStill more."""\n')
    return tmp_path


def test_a_module_is_a_line(tree: Path) -> None:
    drawn = module_map(tree)
    assert drawn == "**`service/`**\n\n**`service/room/`** A room.\n\n- `thing.py` A thing, said at length.\n"
    page = with_map(f"before\n{BEGIN}old\n{END}after\n", drawn)
    assert page == f"before\n{BEGIN}\n{drawn}\n{END}after\n"
    assert with_map(page, drawn) == page


def test_a_module_that_comes_or_changes_its_first_line_changes_the_map(tree: Path) -> None:
    before = module_map(tree)
    (tree / "service" / "new.py").write_text('"""New."""\n')
    (tree / "service" / "room" / "thing.py").write_text('"""Another thing."""\n')
    after = module_map(tree)
    assert set(after.splitlines()) - set(before.splitlines()) == {"- `new.py` New.", "- `thing.py` Another thing."}


@pytest.mark.parametrize("source", ["", "x = 1\n", "# Only a comment.\n"])
def test_a_module_without_a_docstring_is_refused(tree: Path, source: str) -> None:
    (tree / "service" / "room" / "mute.py").write_text(source)
    with pytest.raises(NoFirstLineError, match=r"mute\.py has no docstring"):
        module_map(tree)


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_page_without_its_marks_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="lacks its marks"):
        with_map(page, "")
