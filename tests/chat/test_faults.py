"""Sentences about what went wrong, which never hold the key."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.chat.faults import Ending, error_of, refusal, retry_after, without_key

KEY = "sk-proj-Aa0123456789"
NOW = datetime(2026, 11, 26, 8, 0, 0, tzinfo=UTC)


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from([str, str.upper, str.lower, str.title]))
def test_the_key_is_never_left(before: str, after: str, form: object) -> None:
    assert callable(form)
    shown = without_key(before + form(KEY) + after, KEY)
    assert KEY.casefold() not in shown.casefold()
    assert KEY[4:16].casefold() not in shown.casefold()
    assert "***" in shown


@pytest.mark.parametrize(
    ("text", "key", "shown"),
    [
        ("no key here", KEY, "no key here"),
        (f"a {KEY} b", KEY, "a *** b"),
        (f"a {KEY[:12]} b", KEY, "a *** b"),
        (f"a {KEY[:4]} b", KEY, f"a {KEY[:4]} b"),
        ("ollama says no", "ollama", "*** says no"),
        ("text", "", "text"),
        ("ﬀ İ " + KEY, KEY, "ﬀ İ ***"),
    ],
)
def test_pieces_of_it(text: str, key: str, shown: str) -> None:
    assert without_key(text, key) == shown


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("20", 20),
        (" 20 ", 20),
        ("0", 1),
        ("1.2", 2),
        ("-5", None),
        ("soon", None),
        ("٣", None),
        ("1e9", None),
        ("9" * 400, 86400),
        ("Thu, 26 Nov 2026 08:01:30 GMT", 90),
        ("Thu, 26 Nov 2026 07:00:00 GMT", 1),
        ("Thu, 26 Nov 2026 08:01:30 -0000", 90),
        ("Fri, 26 Nov 2027 08:01:30 GMT", 86400),
        ("Thu, 99 Nov 2026 08:01:30 GMT", None),
    ],
)
def test_retry_after(value: str | None, seconds: int | None) -> None:
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"error": {"message": "m", "type": "t", "code": "c"}}', ("m", "c")),
        (b'{"error": {"message": "m", "type": "t", "code": null}}', ("m", "t")),
        (b'{"error": {"message": 7, "code": 429}}', ("", "429")),
        (b'{"error": "m"}', ("m", "")),
        (b'{"message": "m", "object": "error"}', ("m", "")),
        (b'{"detail": "m"}', ("m", "")),
        (b'{"detail": [{"msg": "m"}]}', ("", "")),
        (b"[]", ("", "")),
        (b"<html>", ("", "")),
        (b"\xff", ("", "")),
        (b"[" * 100_000, ("", "")),
    ],
)
def test_the_words_of_an_error(body: bytes, found: tuple[str, str]) -> None:
    assert error_of(body) == found


def test_a_long_text_is_cut_after_the_key_was_taken_out() -> None:
    text = "x" * 295 + KEY + "y" * 10_000
    said = str(refusal(400, text, "", key=KEY, model="m"))
    assert "***" in said
    assert len(said) < 500
    assert KEY[:6] not in said


def test_every_error_status_has_a_sentence() -> None:
    for status in range(300, 600):
        fault = refusal(status, "", "", key=KEY, model="m\n\x1b")
        assert fault.ending in Ending
        assert str(fault).isprintable()
        assert str(fault).endswith(".")
