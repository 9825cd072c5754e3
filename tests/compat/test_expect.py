import pytest

from compat.expect import (
    FILLED_TEXT,
    HOST,
    MILLISECONDS,
    PORT,
    POSITIVE,
    SECONDS,
    WHOLE,
    Rule,
    UnmetError,
    expect,
    one_of,
    or_null,
    same,
    shown,
)


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (FILLED_TEXT, ["a"], ["", 1, None]),
        (HOST, ["localhost", "[::1]"], ["0.0.0.0", "::", "[::]", "", None]),
        (PORT, [1, 65535], [0, 65536, "80", True, 80.0]),
        (WHOLE, [0, -1], [True, 1.0, "1"]),
        (POSITIVE, [1, 0.5], [0, -1, True, "1"]),
        (SECONDS, [1732000000.5], [1732000000000, "1732000000"]),
        (MILLISECONDS, [1732000000000], [1732000000.5, None]),
        (same(1), [1], [True, 1.0, "1", None]),
        (same({"a": [1]}), [{"a": [1]}], [{"a": [2]}, {}]),
        (one_of("a", "b"), ["a", "b"], ["c", None]),
        (or_null(FILLED_TEXT), ["a", None], ["", 1]),
    ],
)
def test_a_rule_tells_good_from_bad(rule: Rule, good: list[object], bad: list[object]) -> None:
    assert [value for value in good if not rule.holds(value)] == []
    assert [value for value in bad if rule.holds(value)] == []


def test_fields_beyond_the_expected_are_welcome() -> None:
    assert expect("it", {"a": 1, "b": 2}, {"a": same(1)}) == {"a": 1, "b": 2}


def test_a_failure_names_the_field_and_both_values() -> None:
    with pytest.raises(UnmetError, match=r'^it: `a` should be 1, is "1"$'):
        expect("it", {"a": "1"}, {"a": same(1)})
    with pytest.raises(UnmetError, match=r'^it: `a` is missing from {"b": 2}$'):
        expect("it", {"b": 2}, {"a": same(1)})
    with pytest.raises(UnmetError, match=r"^it: should be an object, is \[1\]$"):
        expect("it", [1], {})


def test_what_came_over_the_network_is_escaped_and_cut() -> None:
    assert shown("\x1b[31m\n\u202e") == r'"\u001b[31m\n\u202e"'
    assert len(shown("x" * 1000)) == 200
