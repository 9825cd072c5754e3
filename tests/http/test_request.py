"""A request as handlers see it: its query, its body, and what is refused of them."""

import pytest
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder

from portico.wire.faults import PeerFault
from service.http.app import AsgiHead
from service.http.request import HttpRequest, decode, given, read_query, whole_number

HEAD = AsgiHead("GET", "/", "", {}, "127.0.0.1", "127.0.0.1", "http", "h")


class Form(Struct, forbid_unknown_fields=True):
    name: str
    data: Raw | UnsetType = UNSET


DECODER = Decoder(Form)


def test_of_a_name_that_comes_twice_the_first_counts() -> None:
    assert read_query("a=1&b=%C3%BC+x&a=2&c&d=%ff") == {"a": "1", "b": "ü x", "c": "", "d": "\ufffd"}


def test_a_filter_that_is_misspelt_selects_nothing() -> None:
    request = HttpRequest(HEAD, {}, {"limit": "1"})
    request.check_query("limit", "offset")
    with pytest.raises(PeerFault, match=r"known: offset\."):
        request.check_query("offset")
    with pytest.raises(PeerFault, match=r"known: none\."):
        request.check_query()


@pytest.mark.parametrize(("text", "value"), [(None, 7), ("1", 1), ("0100", 100)])
def test_whole_numbers(text: str | None, value: int) -> None:
    request = HttpRequest(HEAD, {}, {} if text is None else {"limit": text})
    assert whole_number(request, "limit", 7, 1, 100) == value


@pytest.mark.parametrize("text", ["", "-1", "0", "101", "1.0", " 1", "٣", "²", "9" * 5000, "1e1"])
def test_what_is_no_whole_number_within_the_bounds(text: str) -> None:
    with pytest.raises(PeerFault, match="from 1 to 100") as refused:
        whole_number(HttpRequest(HEAD, {}, {"limit": text}), "limit", 7, 1, 100)
    assert refused.value.field == "limit"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "bad_json"),
        (b"[]", "not_an_object"),
        (b"{}", "missing_field"),
        (b'{"name": 1}', "bad_field"),
        (b'{"name": "a", "other": 1}', "bad_field"),
        (b'{"name": "a", "name": "b"}', "bad_json"),
        (b'{"name": "a", "data": 1e999}', "bad_json"),
    ],
)
def test_bodies_are_read_strictly(body: bytes, code: str) -> None:
    with pytest.raises(PeerFault) as refused:
        decode(DECODER, body)
    assert refused.value.code == code


def test_what_is_passed_on_is_a_copy_or_null() -> None:
    form = decode(DECODER, b'{"name": "a", "data": {"a": 1}}')
    assert bytes(given(form.data)) == b'{"a": 1}'
    assert bytes(given(UNSET)) == b"null"
