"""What JSON is refused, and in which words."""

import json
import math
from contextlib import suppress
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Raw, Struct

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.strict_json import check_keys, check_numbers, check_text, convert, decode, is_json, peek


class Inner(Struct):
    size: Annotated[int, Meta(ge=0)] = 0


class Form(Struct):
    type: str
    name: Annotated[str, Meta(max_length=8)] | None = None
    count: Annotated[int, Meta(ge=0)] | None = None
    ratio: float | None = None
    tags: list[str] | None = None
    offsets: dict[str, int] | None = None
    inner: Inner | None = None
    data: Raw = Raw(b"null")


FORM = msgspec.json.Decoder(Form)
DIGITS = b"1" * 400
DEEP = b"[" * 10_000 + b"]" * 10_000


@pytest.mark.parametrize(
    ("payload", "code", "field"),
    [
        (b"", ErrorCode.BAD_JSON, None),
        (b"nonsense", ErrorCode.BAD_JSON, None),
        (b'{"type":"a"', ErrorCode.BAD_JSON, None),
        (b'{"type":"a"}x', ErrorCode.BAD_JSON, None),
        (b"{'type':'a'}", ErrorCode.BAD_JSON, None),
        (b'\xef\xbb\xbf{"type":"a"}', ErrorCode.BAD_JSON, None),
        (b'{"type":"\xff"}', ErrorCode.BAD_JSON, None),
        (b'{"type":"\xc0\xaf"}', ErrorCode.BAD_JSON, None),
        (b'{"type":"\xed\xa0\x80"}', ErrorCode.BAD_JSON, None),
        (b'{"type":"\\ud800"}', ErrorCode.BAD_JSON, None),
        (b'{"type":"a","other":"\\udc00"}', ErrorCode.BAD_JSON, None),
        (b'{"type":"a","data":{"x":"\\ud800"}}', ErrorCode.BAD_JSON, None),
        (b'{"type":"\x01"}', ErrorCode.BAD_JSON, None),
        (b'{"type":"a","data":NaN}', ErrorCode.BAD_JSON, None),
        (b'{"type":"a","data":[Infinity]}', ErrorCode.BAD_JSON, None),
        (b'{"type":"a","data":-Infinity}', ErrorCode.BAD_JSON, None),
        (b'{"type":"a","ratio":1e999}', ErrorCode.BAD_JSON, None),
        (b'{"type":"a","data":01}', ErrorCode.BAD_JSON, None),
        (b'{"type":"a","data":' + DEEP + b"}", ErrorCode.BAD_JSON, None),
        (DEEP, ErrorCode.NOT_AN_OBJECT, None),
        (b"[]", ErrorCode.NOT_AN_OBJECT, None),
        (b"[{}]", ErrorCode.NOT_AN_OBJECT, None),
        (b"null", ErrorCode.NOT_AN_OBJECT, None),
        (b"5", ErrorCode.NOT_AN_OBJECT, None),
        (b'"text"', ErrorCode.NOT_AN_OBJECT, None),
        (b"true", ErrorCode.NOT_AN_OBJECT, None),
        (b"{}", ErrorCode.MISSING_FIELD, "type"),
        (b'{"type":null}', ErrorCode.BAD_FIELD, "type"),
        (b'{"type":5}', ErrorCode.BAD_FIELD, "type"),
        (b'{"type":"a","name":"123456789"}', ErrorCode.BAD_FIELD, "name"),
        (b'{"type":"a","name":{}}', ErrorCode.BAD_FIELD, "name"),
        (b'{"type":"a","count":-1}', ErrorCode.BAD_FIELD, "count"),
        (b'{"type":"a","count":1.5}', ErrorCode.BAD_FIELD, "count"),
        (b'{"type":"a","count":true}', ErrorCode.BAD_FIELD, "count"),
        (b'{"type":"a","tags":["x",1]}', ErrorCode.BAD_FIELD, "tags"),
        (b'{"type":"a","offsets":{"x":"y"}}', ErrorCode.BAD_FIELD, "offsets"),
        (b'{"type":"a","inner":{"size":-1}}', ErrorCode.BAD_FIELD, "inner.size"),
        (b'{"type":"a","inner":5}', ErrorCode.BAD_FIELD, "inner"),
        # A wrong field does not hide that the rest is no JSON.
        (b'{"type":5,"name":', ErrorCode.BAD_JSON, None),
        (b"[1", ErrorCode.BAD_JSON, None),
    ],
)
def test_what_is_refused(payload: bytes, code: ErrorCode, field: str | None) -> None:
    with pytest.raises(PeerFault) as caught:
        decode(FORM, payload)
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize(
    ("payload", "code", "field"),
    [
        (b'{"type":null}', ErrorCode.MISSING_FIELD, "type"),
        (b'{"type":"a","inner":{"size":null}}', ErrorCode.MISSING_FIELD, "inner.size"),
        (b'{"type":"a","tags":[null]}', ErrorCode.BAD_FIELD, "tags"),
        (b'{"type":"a","offsets":{"x":null}}', ErrorCode.BAD_FIELD, "offsets"),
        (b"null", ErrorCode.NOT_AN_OBJECT, None),
    ],
)
def test_where_null_counts_as_absent_a_field_that_is_needed_is_missing(
    payload: bytes, code: ErrorCode, field: str | None
) -> None:
    with pytest.raises(PeerFault) as caught:
        decode(FORM, payload, null_is_absent=True)
    assert (caught.value.code, caught.value.field) == (code, field)


def decode_strictly(payload: bytes) -> None:
    decode(FORM, payload)
    check_numbers(payload)


@pytest.mark.parametrize("number", [DIGITS, b"-" + DIGITS])
def test_400_digits_never_reach_a_field(number: bytes) -> None:
    for field in (b"count", b"ratio", b"name"):
        payload = b'{"type":"a","%b":%b}' % (field, number)
        with pytest.raises(PeerFault) as caught:
            decode_strictly(payload)
        assert caught.value.code in (ErrorCode.BAD_JSON, ErrorCode.BAD_FIELD)


def test_a_fault_quotes_nothing_that_came() -> None:
    for payload in (b'{"type":"a","name":"secret-secret"}', b'{"type":"a","secret":"secret","count":"secret"}'):
        with pytest.raises(PeerFault) as caught:
            decode(FORM, payload)
        assert "secret" not in caught.value.message


def test_convert_names_the_field() -> None:
    with pytest.raises(PeerFault) as caught:
        convert("x", int, "page")
    assert (caught.value.code, caught.value.field) == (ErrorCode.BAD_FIELD, "page")
    assert convert(5, int, "page") == 5


BIG = [b"1e309", b"1E309", b"1e+309", b"-1e999", b"1.5e400", b"1e0999", b"0.1e310", b"12345e305"]
BIG += [b"9" * 309, DIGITS, b"1" + b"0" * 250 + b"e99", b"1" * 250 + b".5E+99", b"2" + b"0" * 308]
FINE = [b"1e308", b"1e-999", b"1.7976931348623157e308", b"9" * 308, b"0.%b" % DIGITS, b"0e999", b"1e05", b"12"]
FINE += [b'"1e999"', b'"1e999,"', b'"%b"' % DIGITS, b'"a1e999}"', b"1" * 200 + b"e99", b'{"1e999":1}']
PLACES = [b'{"type":"a","data":%b}', b'{"type":"a","data":[1, %b ]}', b'{"type":"a","x":{"y":%b}}', b'{"x":%b\n}']


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", BIG)
def test_numbers_that_no_double_holds(place: bytes, number: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        check_numbers(place % number)
    assert caught.value.code is ErrorCode.BAD_JSON


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", FINE)
def test_numbers_that_a_double_holds(place: bytes, number: bytes) -> None:
    check_numbers(place % number)


@given(
    whole=st.integers(0, 10**6) | st.integers(10**200, 10**315),
    fraction=st.none() | st.integers(0, 10**6),
    exponent=st.none() | st.integers(-400, 400),
    sign=st.sampled_from(["", "-"]),
    plus=st.sampled_from(["e", "E", "e+"]),
)
def test_the_quick_look_and_the_exact_one_agree(
    whole: int, fraction: int | None, exponent: int | None, sign: str, plus: str
) -> None:
    number = f"{sign}{whole}" + ("" if fraction is None else f".{fraction}")
    if exponent is not None:
        number += f"{plus.removesuffix('+')}{exponent}" if exponent < 0 else f"{plus}{exponent}"
    payload = b'{"data":[%b]}' % number.encode()
    if math.isinf(float(number)):
        with pytest.raises(PeerFault):
            check_numbers(payload)
    else:
        check_numbers(payload)


KEYS = (b'"type"', b'"data"', b'"client_id"')


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"a","type":"b"}',
        b'{"type":"a", "type" : "b"}',
        b'{"type":"a","t\\u0079pe":"b"}',
        b'{"\\u0074\\u0079\\u0070\\u0065":"a","type":"b"}',
        b'{"client_id":"a","client\\u005fid":"b"}',
        b'{"client_id":"a","client\\u005Fid":"b"}',
        b'{"t\\u0079pe":"a","t\\u0079pe":"b"}',
        b'{"x":{"type":"a","type":"b"}}',
    ],
)
@pytest.mark.parametrize("size", [0, 4096], ids=["small", "large"])  # they are searched in two ways
def test_a_key_twice_is_refused(payload: bytes, size: int) -> None:
    with pytest.raises(PeerFault) as caught:
        check_keys(payload + b" " * size, KEYS)
    assert caught.value.code is ErrorCode.BAD_JSON
    assert caught.value.field in ("type", "client_id")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"a","data":{"type":"b"}}',
        b'{"type":"type","data":"type"}',
        b'{"type":"\\u0074ype"}',
        b'{"other":1,"other":2}',
        b'{"data":{"deep":{"type":1,"type":2}}}',
        b'{"data":[{"type":1,"type":2}]}',
        b'["type","type"]',
    ],
)
@pytest.mark.parametrize("size", [0, 4096], ids=["small", "large"])
def test_a_key_in_two_objects_is_fine(payload: bytes, size: int) -> None:
    check_keys(payload + b" " * size, KEYS)


def test_what_is_inside_can_be_left_to_the_peers() -> None:
    check_keys(b'{"data":{"type":"a","type":"b"}}', KEYS, inside=False)
    with pytest.raises(PeerFault):
        check_keys(b'{"type":"a","type":"b"}', KEYS, inside=False)


@pytest.mark.parametrize("payload", [b"\xff", b"\xed\xa0\x80", b"a\xc3"])
def test_text_is_utf_8(payload: bytes) -> None:
    with pytest.raises(PeerFault):
        check_text(payload)
    assert not is_json(payload)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_every_json_value_is_json(value: object) -> None:
    assert is_json(json.dumps(value).encode())
    assert is_json(json.dumps(value, indent=1, ensure_ascii=False).encode())


@pytest.mark.parametrize("payload", [b"", b" ", b"1,2", b"[1],[2]", b"]", b"NaN", b"{", b"hello", b"\x00"])
def test_what_is_no_json(payload: bytes) -> None:
    assert not is_json(payload)


@given(st.binary())
def test_nothing_but_a_fault_leaves(payload: bytes) -> None:
    with suppress(PeerFault):
        decode(FORM, payload)
    is_json(payload)
    peek(FORM, payload)


def test_peek_gives_what_can_be_read() -> None:
    found = peek(FORM, b'{"type":"a"}')
    assert found is not None
    assert found.type == "a"
    assert peek(FORM, b'{"type":5}') is None
    assert peek(FORM, b'{"type":"\xff"}') is None
    assert peek(FORM, b'{"type":"a","data":' + DEEP + b"}") is None


# What is looked at more closely: the same verdicts as a parser's, at a bounded cost.

_fragments = st.sampled_from(
    [
        "0e000,",
        "1e400",
        "1e+999 ",
        "9" * 210,
        '\\"',
        "\\\\",
        "\\u0041",
        "\\u0022",
        ",",
        "]",
        "}",
        ":",
        "1e5",
        "a",
        '\\\\\\"',
    ]
)
_texts = st.lists(_fragments, max_size=6).map("".join).map(lambda text: f'"{text}"')
_numbers = st.sampled_from(
    [
        "0",
        "-1",
        "1e100",
        "1e308",
        "1e309",
        "-1E+400",
        "1e-400",
        "1.5e0308",
        "1e0000",
        "0.0e999999",
        "9" * 308,
        "9" * 309,
        "1" + "0" * 308,
        "2" + "0" * 308,
        "-" + "9" * 310,
        "0." + "0" * 300 + "1e500",
        "1." + "0" * 250 + "e308",
    ]
)
_values = st.recursive(
    st.one_of(_texts, _numbers, st.just("null")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda some: "[" + " , ".join(some) + "]"),
        st.lists(st.tuples(_texts, inner), max_size=4).map(
            lambda some: "{" + ",\n".join(f"{key}:\t{value}" for key, value in some) + "}"
        ),
    ),
    max_leaves=12,
)


def _has_too_large(payload: bytes) -> bool:
    def whole(text: str) -> int:
        number = int(text)
        if abs(number) > 1.7976931348623157e308:
            raise OverflowError
        return number

    def fraction(text: str) -> float:
        if math.isinf(number := float(text)):
            raise OverflowError
        return number

    try:
        json.loads(payload, parse_int=whole, parse_float=fraction)
    except OverflowError:
        return True
    return False


@given(_values)
def test_numbers_are_judged_as_a_parser_would(text: str) -> None:
    payload = text.encode()
    if _has_too_large(payload):
        with pytest.raises(PeerFault, match="too large"):
            check_numbers(payload)
    else:
        check_numbers(payload)


_keys = st.sampled_from(
    ['"type"', '"\\u0074ype"', '"t\\u0079pe"', '"id"', '"i\\u0064"', '"other"', '"\\\\u0074ype"', '"a:\\"type"']
)
_objects = st.recursive(
    st.sampled_from(["1", '"type"', "null", '"\\u0041"']),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda some: "[" + ",".join(some) + "]"),
        st.lists(st.tuples(_keys, inner), max_size=4).map(
            lambda some: "{ " + " , ".join(f"{key} : {value}" for key, value in some) + "}"
        ),
    ),
    max_leaves=8,
)


@given(_objects, st.booleans())
def test_keys_are_judged_as_a_parser_would(text: str, inside: bool) -> None:
    top = json.loads(text, object_pairs_hook=lambda pairs: ("object", pairs))
    judged = []
    if isinstance(top, tuple):
        judged = [top[1], *(value[1] for _, value in top[1] if inside and isinstance(value, tuple))]
    doubled = any([key for key, _ in pairs if key == name].__len__() > 1 for pairs in judged for name in ("type", "id"))
    if doubled:
        with pytest.raises(PeerFault, match="occurs twice"):
            check_keys(text.encode(), (b'"type"', b'"id"'), inside=inside)
    else:
        check_keys(text.encode(), (b'"type"', b'"id"'), inside=inside)


@pytest.mark.parametrize("value", [b"1e100,", b'"0e000,",', b"9" * 220 + b",", b'"' + b"9" * 220 + b'",'])
def test_how_much_is_looked_at_is_bounded(value: bytes) -> None:
    """Each of these is sound, and a megabyte of them would cost many times what a megabyte of text does."""
    some = b"[" + (value * 64).rstrip(b",") + b"]"
    check_numbers(some)
    many = b"[" + (value * ((1 << 20) // len(value))).rstrip(b",") + b"]"
    with pytest.raises(PeerFault, match="too many numbers"):
        check_numbers(many)


def test_how_many_keys_are_looked_at_is_bounded() -> None:
    def message(keys: int) -> bytes:
        return b'{"\\u0041":0,' + b",".join(b'"%d":0' % n for n in range(keys)) + b"}"

    check_keys(message(400), (b'"type"',))
    with pytest.raises(PeerFault, match="too many keys"):
        check_keys(message(20_000), (b'"type"',))


def test_what_means_no_harm_is_not_looked_at_in_vain() -> None:
    """Many objects with the same keys, texts in other scripts, digits without end: none of it comes near a bound."""
    check_keys(b'{"type":"t","items":[' + b",".join([b'{"type":1,"id":2}'] * 50_000) + b"]}", (b'"type"', b'"id"'))
    check_keys(b'{"type":"t","text":"' + b"\\u0041\\u00e9" * 50_000 + b'"}', (b'"type"',))
    check_numbers(b'{"pi":"3.' + b"1415926535" * 100_000 + b'"}')
    check_numbers(b"[" + b",".join([b"1.7976931348623157e+308"] * 60) + b"]")
