"""A push as a back end writes it: what is accepted and passed on byte for byte, and what is refused, in which words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import ADDRESS_FIELDS, EVERYBODY, Event, Target
from service.core.cluster.backplane import Publication
from service.core.push.publications import LONGEST_TTL, publication_of

VALUES = st.none() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
OBJECTS = st.dictionaries(st.text(max_size=8), VALUES | st.lists(VALUES, max_size=3), max_size=5)


def refused(payload: bytes | dict[str, Any]) -> tuple[ErrorCode, str | None]:
    with pytest.raises(PeerFault) as caught:
        publication_of(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    # What was sent is in no answer: it may be anybody's, and a log takes it up.
    assert "s3cret" not in caught.value.message
    return caught.value.code, caught.value.field


@pytest.mark.parametrize("field", ADDRESS_FIELDS)
def test_one_address_of_any_kind(field: str) -> None:
    asked = {"target": {field: "x"}, "type": "t", "data": {"n": 1}, "id": "i", "durable": True, "ttl": 2.5}
    expected = Publication(Target(field, "x"), Event("t", Raw(b'{"n": 1}')), "i", True, 2.5)
    assert publication_of(json.dumps(asked).encode()) == expected


def test_everybody() -> None:
    assert publication_of(b'{"target":{"all":true},"type":"t"}').target == EVERYBODY


@pytest.mark.parametrize("rest", ["", ',"data":null', ',"data":{}', ',"id":null,"durable":null,"ttl":null'])
def test_what_is_absent_or_null_is_the_default(rest: str) -> None:
    publication = publication_of(b'{"target":{"user_id":"u"},"type":"t"%b}' % rest.encode())
    assert publication == Publication(Target("user_id", "u"), Event("t", Raw(b"{}")))


@given(OBJECTS)
def test_data_is_passed_on_as_the_bytes_that_came(data: dict[str, Any]) -> None:
    text = json.dumps(data, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    try:
        text.decode()
    except UnicodeDecodeError:
        assert refused(b'{"target":{"user_id":"u"},"type":"t","data":%b}' % text)[0] == ErrorCode.BAD_JSON
        return
    publication = publication_of(b'{"target": {"user_id": "u"}, "type": "t", "data": %b}' % text)
    assert bytes(publication.event.data) == text


def test_the_keys_of_data_are_nobody_s_business() -> None:
    data = b'{"type":1,"target":{"target":2},"all":true,"user_id":"x","n":1}'
    assert bytes(publication_of(b'{"target":{"user_id":"u"},"type":"t","data":%b}' % data).event.data) == data


@pytest.mark.parametrize(
    ("payload", "code", "field"),
    [
        (b"", ErrorCode.BAD_JSON, None),
        (b'{"target"', ErrorCode.BAD_JSON, None),
        (b"[]", ErrorCode.NOT_AN_OBJECT, None),
        (b'{"type":"t"}', ErrorCode.MISSING_FIELD, "target"),
        (b'{"target":{"user_id":"u"}}', ErrorCode.MISSING_FIELD, "type"),
        (b'{"target":{},"type":"t"}', ErrorCode.BAD_FIELD, "target"),
        (b'{"target":{"all":false},"type":"t"}', ErrorCode.BAD_FIELD, "target"),
        (b'{"target":{"all":true,"user_id":"u"},"type":"t"}', ErrorCode.BAD_FIELD, "target"),
        (b'{"target":{"all":false,"user_id":"u"},"type":"t"}', ErrorCode.BAD_FIELD, "target"),
        (b'{"target":{"user_id":"u","node_id":"n"},"type":"t"}', ErrorCode.BAD_FIELD, "target"),
        (b'{"target":{"user_id":""},"type":"t"}', ErrorCode.BAD_FIELD, "target.user_id"),
        (b'{"target":{"nobody":"u"},"type":"t"}', ErrorCode.BAD_FIELD, "target"),
        (b'{"target":{"user_id":"u"},"type":""}', ErrorCode.BAD_FIELD, "type"),
        (b'{"target":{"user_id":"u"},"type":"a\\u202eb"}', ErrorCode.BAD_FIELD, "type"),
        (b'{"target":{"user_id":"u"},"type":"t","data":["s3cret"]}', ErrorCode.BAD_FIELD, "data"),
        (b'{"target":{"user_id":"u"},"type":"t","data":"s3cret"}', ErrorCode.BAD_FIELD, "data"),
        (b'{"target":{"user_id":"u"},"type":"t","ttl":0}', ErrorCode.BAD_FIELD, "ttl"),
        (b'{"target":{"user_id":"u"},"type":"t","ttl":%d}' % (LONGEST_TTL + 1), ErrorCode.BAD_FIELD, "ttl"),
        (b'{"target":{"user_id":"u"},"type":"t","id":""}', ErrorCode.BAD_FIELD, "id"),
        (b'{"target":{"user_id":"u"},"type":"t","data":{"n":1e999}}', ErrorCode.BAD_JSON, None),
        (b'{"target":{"user_id":"u"},"type":"t","type":"t"}', ErrorCode.BAD_JSON, None),
        (b'{"target":{"user_id":"u","user_id":"u"},"type":"t"}', ErrorCode.BAD_JSON, None),
        (b'{"target":{"user_id":"u"},"type":"t","data":{"a":1},"data":{"a":1}}', ErrorCode.BAD_JSON, None),
    ],
)
def test_what_is_refused(payload: bytes, code: ErrorCode, field: str | None) -> None:
    found = refused(payload)
    assert found[0] == code
    assert field is None or found[1] is None or found[1].startswith(field.partition(".")[0])
