"""What comes from outside never reaches a terminal raw."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli.screen import Screen, cell, json_text, moment, table

HOSTILE = "a\x1b[31mb\x9b2Jc\u202ed\x7f\u2028e\U000e0001[red]f[/red]:smile:"


VALUES = st.recursive(
    st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(VALUES)
def test_json_is_printable_and_reads_the_same(value: object) -> None:
    text = json_text(value)
    assert text.isprintable()
    assert json.loads(text) == value


def test_a_table_shows_every_character_escaped_and_takes_none_for_markup() -> None:
    shown = table(("ID", "DATA"), [[cell(HOSTILE), cell({"k": HOSTILE})]], width=400)
    for line in shown.splitlines()[1:]:
        assert line.isprintable(), ascii(line)
    assert r"a\x1b[31mb\x9b2Jc\u202ed\x7f\u2028e\U000e0001[red]f[/red]:smile:" in shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, ""), (True, "yes"), (3, "3"), (0.25, "0.25"), (["a"], '["a"]'), ("\n", r"\n")]
)
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_a_moment_that_is_none_is_shown_as_it_is() -> None:
    assert moment("\x1b") == r"\x1b"
    assert moment(1e300) == "1e+300"


def test_rows_are_lines_of_json_for_programs() -> None:
    said: list[str] = []
    Screen(as_json=True, write=said.append).rows([{"id": HOSTILE}, {"id": "b"}], {"ID": "id"}, "nobody")
    assert [json.loads(line) for line in said] == [{"id": HOSTILE}, {"id": "b"}]
    assert all(line.rstrip("\n").isprintable() for line in said)
    said.clear()
    Screen(write=said.append).rows([], {"ID": "id"}, "nobody")
    assert said == ["nobody\n"]
