"""What the front door's rooms share: an error as one safe line."""

from service.transports.door import describe


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_an_error_is_its_type_its_text_and_where_it_was_raised() -> None:
    line = describe(raised(ValueError("no")))
    assert line.startswith("ValueError: no (")
    assert "test_door.py:" in line
    assert line.endswith(" in raised)")
    assert describe(ValueError("never raised")) == "ValueError: never raised (nowhere)"


def test_a_group_is_its_first_member() -> None:
    group = ExceptionGroup("g", [ExceptionGroup("h", [ValueError("v")]), OSError("w")])
    assert describe(group) == "ValueError: v (nowhere)"


def test_the_text_is_printable_and_bounded() -> None:
    line = describe(ValueError("\x1b[31m\r\n" * 10_000))
    assert line.isprintable()
    assert len(line) < 5000
