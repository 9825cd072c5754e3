"""Untrusted text, made printable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.wire.safe_text import LONGEST, safe_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Zoë", "Zoë"),
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202eabc\x85", "\\u202eabc\\x85"),
        ("\x00", "\\x00"),
        ("\ud800", "\\ud800"),
        ("x" * 1000, "x" * LONGEST + "…"),
    ],
)
def test_what_is_escaped(text: str, shown: str) -> None:
    assert safe_text(text) == shown


@given(st.text(), st.integers(0, 50))
def test_any_text_is_printable_and_bounded(text: str, limit: int) -> None:
    shown = safe_text(text, limit)
    assert shown.isprintable()
    assert len(shown) <= 10 * limit + 1
