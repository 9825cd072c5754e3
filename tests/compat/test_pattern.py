"""Values that are sent, and patterns that what arrives must fit."""

from typing import Any

import pytest

from compat.pattern import MisfitError, Names, shown


def names(**values: object) -> Names:
    return Names(lambda what: f"made-{what}", values)


def fits(pattern: Any, got: Any, **values: object) -> bool:
    try:
        names(**values).fit("it", pattern, got)
    except MisfitError:
        return False
    return True


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("<filled>", ["a"], ["", 1, None]),
        ("<host>", ["localhost", "[::1]"], ["0.0.0.0", "::", "[::]", "", None]),
        ("<address>", ["10.0.0.5", "::1"], ["0.0.0.0", "::", "box-1", None]),
        ("<port>", [1, 65535], [0, 65536, "80", True, 80.0]),
        ("<whole>", [0, -1], [True, 1.5, "1"]),
        ("<positive>", [1, 0.5], [0, -1, True, "1"]),
        ("<seconds>", [1732000000.5], [1732000000000, "1732000000"]),
        ("<milliseconds>", [1732000000000], [1732000000.5, 1732000000000.5, None]),
        ("<clock>", ["2025-10-20 15:30:45"], ["2025-10-20T15:30:45", 5]),
        ("<within>", ["retry_within_ms=20000"], ["", "retry_within_ms=x"]),
        ("<ws-url>", ["ws://h:1/api/websocket", "wss://h"], ["http://h", "ws://", None]),
        ("<logout|revoked>", ["logout", "revoked"], ["expired", None]),
        ("<null>", [None], [0, ""]),
        (1, [1, 1.0], [True, "1", None]),
        (None, [None], [0, False, ""]),
        ({"==": {"a": [1]}}, [{"a": [1]}], [{"a": [1], "b": 2}, {}, {"a": [True]}]),
        ({"!=": "a"}, ["b", None], ["a"]),
        ({"in": ["<whole>", "x"]}, [5, "x"], ["y", None]),
        ({"all": ["<text>", "x"]}, ["x"], ["y", 5]),
        ({"begins": "ws://"}, ["ws://h"], ["wss://h", None]),
        ({">": 5}, [6], [5, "6", True]),
        ({">=": 5}, [5, 6], [4, None]),
        ({"<=": 5}, [5, 0.1], [6, None]),
        ({"a": 1}, [{"a": 1}, {"a": 1, "b": 2}], [{"a": 2}, {}, [], None]),
        ({"a": "<absent>"}, [{}, {"b": 1}], [{"a": None}, {"a": 1}]),
        ({"a": {"in": [False, "<absent>"]}}, [{}, {"a": False}], [{"a": True}]),
        ([1, "<text>"], [[1, "x"]], [[1], [1, "x", 2], [2, "x"], {}]),
        ("<x*5>", ["xxxxx"], ["xxxx", "xxxxxx"]),
    ],
)
def test_a_pattern_tells_good_from_bad(pattern: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not fits(pattern, value)] == []
    assert [value for value in bad if fits(pattern, value)] == []


def test_a_name_is_made_where_it_is_sent_and_taken_where_it_arrives() -> None:
    known = names()
    assert known.fill({"a": "$user", "b": ["$user", "for ${user}", 1, None]}) == {
        "a": "made-user", "b": ["made-user", "for made-user", 1, None],
    }  # fmt: skip
    known.fit("it", {"id": "$id", "again": "$id"}, {"id": 7, "again": 7})
    assert known.fill("$id") == 7
    with pytest.raises(MisfitError, match=r"^it should be 7, is 8$"):
        known.fit("it", "$id", 8)


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_name_is_not_taken_from_nothing(nothing: object) -> None:
    assert not fits("$id", nothing)


def test_a_key_of_a_pattern_may_hold_a_name() -> None:
    assert fits({"user:$user": 1}, {"user:u1": 1}, user="u1")
    assert not fits({"user:$user": 1}, {"user:u2": 1}, user="u1")


def test_a_failure_names_the_field_and_both_values() -> None:
    with pytest.raises(MisfitError, match=r'^it: `a`.`b` should be 1, is "1"$'):
        names().fit("it", {"a": {"b": 1}}, {"a": {"b": "1"}})
    with pytest.raises(MisfitError, match=r'^it: `a` is missing from {"b": 2}$'):
        names().fit("it", {"a": 1}, {"b": 2})


def test_what_came_over_the_network_is_escaped_and_cut() -> None:
    assert shown("\x1b[31m\n\u202e") == r'"\u001b[31m\n\u202e"'
    assert len(shown("x" * 1000)) == 200
