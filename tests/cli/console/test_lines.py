"""What a line that was typed says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cli.console.lines import BadLine, Typed, split, typed


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("  list   role=worker ", ["list", "role=worker"]),
        ('push user:u1 t {"a": [1, "}"]} --durable', ["push", "user:u1", "t", '{"a": [1, "}"]}', "--durable"]),
        ("push user:u1 t '{\"a\": 1}'", ["push", "user:u1", "t", '{"a": 1}']),
        ("send c1 act [1, 2] --timeout 3", ["send", "c1", "act", "[1, 2]", "--timeout", "3"]),
        ('push all t {"a": nonsense} x', ["push", "all", "t", '{"a": nonsense} x']),
        ('push all t {"a": 1}x y', ["push", "all", "t", '{"a": 1}x y']),
        ('broadcast hello "big world"', ["broadcast", "hello", "big world"]),
        ("kick '' # no comment", ["kick", "", "#", "no", "comment"]),
        ("", []),
    ],
)
def test_words_and_json(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize("line", ["push 'user", 'push "user', "push \\"])
def test_what_cannot_be_taken_apart_says_what_would_be_right(line: str) -> None:
    with pytest.raises(BadLine, match="close the quote"):
        split(line)


@given(st.text())
def test_any_line_is_words_or_bad(line: str) -> None:
    try:
        words = split(line)
    except BadLine:
        return
    assert all(isinstance(word, str) for word in words)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Typed([], "")),
        ("pu", Typed([], "pu")),
        ("push ", Typed(["push"], "")),
        ("push user:u", Typed(["push"], "user:u")),
        ("push 'user", Typed([], "push 'user")),
    ],
)
def test_what_is_being_typed(text: str, found: Typed) -> None:
    assert typed(text) == found
