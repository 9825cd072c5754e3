"""Header fields: how they are joined, and which must not come twice."""

import pytest

from service.core.header_fields import SINGLE, fields_of, malformed, path_of


def test_names_are_lower_case_and_lists_are_joined() -> None:
    fields, doubled = fields_of(
        [(b"X-A", b"1"), (b"x-a", b"2"), (b"Cookie", b"a=1"), (b"cookie", b"b=2"), (b"B", b"\xff")]
    )
    assert fields == {"x-a": "1, 2", "cookie": "a=1; b=2", "b": "\xff"}
    assert doubled is None


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_what_has_one_value_must_not_come_twice(name: str) -> None:
    raw = name.title().encode()
    assert fields_of([(raw, b"a"), (b"x", b"y")])[1] is None
    for second in (b"a", b"b"):
        assert fields_of([(raw, b"a"), (b"x", b"y"), (name.encode(), second)])[1] == name


@pytest.mark.parametrize(
    ("target", "path"),
    [("/a/b", "/a/b"), ("http://h/a", "/a"), ("http://h", "/"), ("/a?u=http://h/b", "/a?u=http://h/b"), ("*", "*")],
)
def test_the_path_of_a_target(target: str, path: str) -> None:
    assert path_of(target) == path


@pytest.mark.parametrize("target", [b"/", b"/a%20b", b"*", b"http://h/a", b"/a#b", b"/%ff"])
def test_what_a_target_may_be(target: bytes) -> None:
    path, _, query = target.partition(b"?")
    assert malformed({"raw_path": path, "query_string": query, "headers": [(b"x", b"a\tb ~")]}) is None


@pytest.mark.parametrize(
    ("target", "value"),
    [(b"/a b", b""), (b"/\t", b""), (b"a", b""), (b"*a", b""), (b"/?a b", b""), (b"/\xff", b""), (b"/", b"\xff")],
)
def test_what_no_head_has(target: bytes, value: bytes) -> None:
    path, _, query = target.partition(b"?")
    assert malformed({"raw_path": path, "query_string": query, "headers": [(b"a", b"b"), (b"x", value)]})
