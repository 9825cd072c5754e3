"""The page that says what the compatibility suite shows."""

from .coverage import NOT_COVERED, PAGE, rows, sections, written


def test_every_section_that_a_scenario_names_is_there() -> None:
    assert rows().keys() - sections().keys() == set()


def test_every_section_has_rows_or_is_named_as_not_covered() -> None:
    assert sections().keys() - rows().keys() == NOT_COVERED.keys()


def test_the_page_is_up_to_date() -> None:
    assert written() in PAGE.read_text(), "make docs"
