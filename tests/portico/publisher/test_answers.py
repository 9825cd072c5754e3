"""From an HTTP answer to what a caller gets, or to the exception with the gateway's words."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from portico import Receipt, Refused, RequestFailed, Unavailable
from portico.publisher.answers import (
    Came,
    read_answer,
    read_deleted,
    read_kicked,
    read_list,
    read_object,
    read_receipt,
    read_receipts,
)

ERROR = {"code": "bad_field", "message": "Not so.", "field": "type"}
RECEIPT = {"id": "p1", "stream": "user:u1", "offset": 7, "matched": 3, "queued": 2}


def came(status: int, value: object) -> Came:
    return Came(status, json.dumps(value).encode())


READERS: list[Callable[[Came], Any]] = [
    read_receipt, read_object, read_deleted, read_kicked, lambda answer: read_receipts(answer, 1),
    lambda answer: read_list(answer, "workers"),
]  # fmt: skip


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("status", "kind"), [(400, Refused), (401, Refused), (429, Unavailable), (503, Unavailable)])
def test_a_refusal_is_in_the_gateway_s_words(read: Callable[[Came], Any], status: int, kind: type[Refused]) -> None:
    with pytest.raises(Refused, match=rf"Not so\. \(bad_field, HTTP {status}\)") as refused:
        read(came(status, {"error": ERROR}))
    assert type(refused.value) is kind
    assert (refused.value.status, refused.value.code, refused.value.field) == (status, "bad_field", "type")


@pytest.mark.parametrize("read", [*READERS[:2], *READERS[3:], read_answer])
@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000, b"3", b'{"a": 1'])
def test_an_answer_of_something_else_is_said_to_be_one(read: Callable[[Came], Any], body: bytes) -> None:
    with pytest.raises(Refused, match="is this its HTTP address"):
        read(Came(200, body))


def test_a_port_for_websockets_is_told_from_a_stranger() -> None:
    with pytest.raises(Refused, match="has no HTTP API; give the address of the gateway's HTTP port"):
        read_object(Came(426, b"This port is for WebSockets."))


def test_receipts_one_by_one() -> None:
    assert read_receipt(came(200, RECEIPT)) == Receipt("p1", "user:u1", 7, 3, 2)
    busy = {"error": {"code": "unavailable", "message": "Later."}}
    first, second, third, fourth = read_receipts(came(200, [RECEIPT, {"error": ERROR}, busy, 3]), 4)
    assert first == Receipt("p1", "user:u1", 7, 3, 2)
    assert (type(second), type(third), type(fourth)) == (Refused, Unavailable, Refused)
    assert "cannot be read" in str(fourth)
    with pytest.raises(Refused, match="another number of receipts"):
        read_receipts(came(200, [RECEIPT]), 2)


def test_what_is_not_there() -> None:
    missing = came(404, {"error": {"code": "not_found", "message": "No."}})
    assert read_deleted(missing) is False
    assert read_deleted(Came(204, b"")) is True
    assert read_kicked(missing) == 0
    assert read_kicked(came(200, {"kicked": 2})) == 2
    assert read_list(came(200, {"workers": [{}]}), "workers") == [{}]


def test_what_a_worker_answered() -> None:
    assert read_answer(came(200, {"success": True, "result": [1]})) == [1]
    assert read_answer(came(200, {"success": True, "data": {"a": 1}})) == {"a": 1}
    failed = {"success": False, "request_id": 3, "error": "no", "processed_by": "w1"}
    with pytest.raises(RequestFailed, match="no") as told:
        read_answer(came(502, failed))
    assert (told.value.request_id, told.value.processed_by) == ("3", "w1")
