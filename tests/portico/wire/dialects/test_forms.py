"""What the gateway writes, against the reference's examples, and what it reads of them again."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from portico.wire.codes import ErrorCode
from portico.wire.dialects import c_client, envelope, requester, user
from portico.wire.faults import PeerFault
from portico.wire.frame import Frame
from portico.wire.messages import Event, Identity, identity_of

DATA = Raw(b'{"cart":[1,2],"content":"2 items","type":"x","offset":9,"stream":"s"}')


def read(frame: Frame) -> Any:
    return json.loads(frame.payload)


def test_a_push_is_flat_and_the_gateway_s_keys_win() -> None:
    for push in (c_client.push, user.push):
        assert read(push(Event("cart_updated", DATA))) == {"type": "cart_updated", "cart": [1, 2], "content": "2 items"}
        durable = read(push(Event("cart_updated", DATA, "user:u1", 42)))
        assert (durable["type"], durable["stream"], durable["offset"]) == ("cart_updated", "user:u1", 42)
        assert read(push(Event("nothing"))) == {"type": "nothing"}


def test_a_push_in_the_envelope() -> None:
    found = read(envelope.push(Event("cart_updated", Raw(b'{"a": 1}')), "msg_1", 5.5))
    assert found == {
        "type": "notification",
        "msg_id": "msg_1",
        "timestamp": 5.5,
        "data": {
            "event": "cart_updated",
            "payload": {"a": 1},
            "title": "cart_updated",
            "content": '{"a": 1}',
            "level": "info",
            "stream": None,
            "offset": None,
        },
    }
    own = read(envelope.push(Event("e", Raw(b'{"title":"T","content":"C","level":"warn"}'), "all", 3), "m", 1.0))[
        "data"
    ]
    assert (own["title"], own["content"], own["level"], own["stream"], own["offset"]) == ("T", "C", "warn", "all", 3)
    null = read(envelope.push(Event("e", Raw(b'{"title":null,"content":null,"level":null}')), "m", 1.0))["data"]
    assert (null["title"], null["level"]) == ("e", "info")


@given(
    st.dictionaries(
        st.text(), st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.lists(st.text())
    )
)
def test_pushes_keep_what_they_carry(data: dict[str, Any]) -> None:
    event = Event("e", Raw(msgspec.json.encode(data)))
    flat = read(c_client.push(event))
    assert flat == {**{k: v for k, v in data.items() if k not in ("stream", "offset")}, "type": "e"}
    assert read(envelope.push(event, "m", 1.0))["data"]["payload"] == data


def test_registration_answers() -> None:
    assert read(c_client.registration_success(Identity("c", "u"), "id", "n", 25, {"recovered": True})) == {
        "type": "registration_success",
        "client_id": "c",
        "user_id": "u",
        "connection_id": "id",
        "node": "n",
        "heartbeat_interval": 25,
        "resume": {"recovered": True},
    }
    assert rejected(
        b'{"type":"c_client_register","client_id":"c","user_id":7,"username":"\\u202e","node_id":null}'
    ) == {
        "type": "registration_rejected",
        "reason": "bad_field",
        "message": "no",
        "client_id": "c",
        "user_id": 7,
        "username": "\u202e",
        "node_id": None,
    }
    long = rejected(b'{"type":"c_client_register","client_id":"' + b"x" * 5000 + b'","user_id":"u"}')
    assert (long["client_id"], long["user_id"]) == (None, "u")
    # What can be read and may not be shown is named too.
    assert rejected(b'{"type":"c_client_register","client_id":"c","username":"\\u202e"}')["username"] == "\u202e"


def rejected(came: bytes) -> Any:
    """The answer to a registration that can't be accepted."""
    with pytest.raises(c_client.BadRegister) as caught:
        c_client.decode_message(came)
    return read(c_client.registration_rejected("bad_field", "no", caught.value.claimed))


def register_of(message: object) -> c_client.Register:
    """The registration that a message is. Raises PeerFault."""
    register = c_client.decode_message(json.dumps(message).encode())
    assert isinstance(register, c_client.Register)
    return register


names = st.none() | st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=128)


@given(st.builds(Identity, names, names, names, names, names, names, names))
def test_an_identity_comes_through(identity: Identity) -> None:
    message = {"type": "c_client_register", **msgspec.to_builtins(identity)}
    assert identity_of(register_of(message)) == identity
    data = {"type": "connect", "data": msgspec.to_builtins(identity)}
    assert identity_of(envelope.connect_of(envelope.decode_envelope(json.dumps(data).encode()))) == identity


FIELDS = ["client_id", "user_id", "username", "node_id", "domain_id", "cluster_id", "channel_id"]
BAD_NAMES = ["a\nb", "\x00", "\x7f", "\x85", "a\u202eb", "\u2066", "\u200f", "\u061c", "\u2028", "\ufeff", "\x1b[31m"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [*BAD_NAMES, 5, True, [], {}, "x" * 257])
def test_names_that_are_refused(field: str, value: object) -> None:
    for decode in (
        lambda: register_of({"type": "c_client_register", field: value}),
        lambda: envelope.connect_of(
            envelope.decode_envelope(json.dumps({"type": "connect", "data": {field: value}}).encode())
        ),
    ):
        with pytest.raises(PeerFault) as caught:
            decode()
        assert (caught.value.code, caught.value.field) == (ErrorCode.BAD_FIELD, field)


def test_the_lengths_of_names() -> None:
    fine = {"client_id": "c" * 128, "user_id": "u" * 256, "node_id": "日本", "username": "ann\u200dlee"}
    assert register_of({"type": "c_client_register", **fine}).client_id == "c" * 128
    for bad in ("", "c" * 129):
        with pytest.raises(PeerFault) as caught:
            register_of({"type": "c_client_register", "client_id": bad})
        assert caught.value.field == "client_id"


def test_requester_answers_have_all_five_fields() -> None:
    five = ["request_id", "success", "data", "error", "processed_by"]
    assert list(read(requester.response('"r"', True, Raw(b'"Echo: x"'), None, "w"))) == five
    assert list(read(requester.error(PeerFault(ErrorCode.BAD_JSON, "x")))) == five
    assert list(read(requester.partial_response("7", Raw(b"1"), "w"))) == [*five, "partial"]


@pytest.mark.parametrize(
    ("payload", "sentence", "request_id"),
    [
        (b"nonsense", "Invalid JSON format", None),
        (b"\xff", "Invalid JSON format", None),
        (b'{"command":"x","request_id":"r","data":1e999}', "Invalid JSON format", "r"),
        (b"[]", "Request must be a JSON object", None),
        (b'{"request_id":"r"}', "Missing command", "r"),
        (b'{"request_id":"r","command":""}', "Missing command", "r"),
        (b'{"request_id":"r","command":null}', "Missing command", "r"),
    ],
)
def test_requester_sentences(payload: bytes, sentence: str, request_id: str | None) -> None:
    with pytest.raises(PeerFault) as caught:
        requester.decode_message(payload)
    answer = read(requester.error(caught.value))
    assert (answer["success"], answer["error"], answer["request_id"]) == (False, sentence, request_id)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("command", 5),
        ("command", "x" * 129),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", "5"),
        ("timeout", 86_401),
        ("stream", 1),
        ("idempotent", 0),
        ("affinity", "x" * 257),
        ("affinity", 7),
        ("request_id", [7]),
    ],
)
def test_requester_fields_that_cannot_be(field: str, value: object) -> None:
    with pytest.raises(PeerFault) as caught:
        requester.decode_message(json.dumps({"command": "x", field: value}).encode())
    assert (caught.value.code, caught.value.field) == (ErrorCode.BAD_FIELD, field)


@pytest.mark.parametrize("request_id", [None, "r-1", "ü:1", "", 7, 0, "x" * 250])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"data": {"a": [1, {"b": ":"}]}},
        {"data": "a:b", "timeout": 2.5, "stream": True, "affinity": "k", "idempotent": False},
        {"data": [1e21, "1e+999", "ü"], "timeout": 1},
    ],
)
def test_a_request_is_the_same_in_one_look_and_in_two(request_id: object, more: dict[str, object]) -> None:
    given = {"command": "echo", **more} if request_id is None else {"request_id": request_id, "command": "echo", **more}
    for ascii_only in (True, False):
        payload = json.dumps(given, ensure_ascii=ascii_only).encode()
        quick = requester.quick_request(payload)
        if quick is None:
            assert b"\\" in payload, "only an escape in the name is worth a second look"
        else:
            assert msgspec.json.encode(quick) == msgspec.json.encode(requester.decode_message(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'{"request_id":"r"}',
        b'{"command":""}',
        b'{"command":null,"request_id":"r"}',
        b'{"command":"a","command":"a"}',
        b'{"command":"a","request_id":"r","data":1,"data":2}',
        b'{"command":"a","request_id":"r","d\\u0061ta":1,"data":2}',
        b'{"command":"a","request_id":"r","other":1,"data":2}',
        b'{"command":"a","request_id":1e999,"data":1}',
        b'{"command":"a","request_id":"r","data":"\xff"}',
        b'{"command":"a","request_id":"\\ud800"}',
        b'{"command":"a","request_id":"' + b"x" * 257 + b'"}',
        b'{"command":"a","request_id":[1]}',
        b'{"command":"a","request_id":{"b":1}}',
        b'{"command":"a","timeout":0}',
        b'{"command":"a","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_plain_request_is_looked_at_closely(payload: bytes) -> None:
    assert requester.quick_request(payload) is None


@pytest.mark.parametrize("number", [b"1e999", b"9" * 400, b"[" + b"1e300," * 300 + b"1]"])
def test_numbers_are_looked_at_once_whichever_way_is_taken(number: bytes) -> None:
    """What is refused for its numbers isn't looked at a second time by the closer look, only to be refused again."""
    request = b'{"command":"a","request_id":"r","data":' + number + b"}"
    with pytest.raises(PeerFault) as refused:
        requester.quick_request(request)
    assert (refused.value.code, refused.value.msg_id) == (ErrorCode.BAD_JSON, '"r"')
    response = b'{"type":"response","msg_id":"m","data":{"result":' + number + b"}}"
    with pytest.raises(PeerFault) as refused:
        envelope.quick_response(response)
    assert (refused.value.code, refused.value.msg_id) == (ErrorCode.BAD_JSON, "m")


@pytest.mark.parametrize("data", [b"1", b'"a:b"', b'{"request_id":"%b"}', '"ü"'.encode()])
@pytest.mark.parametrize("processed_by", [None, "w-1", 'w"\\ü'])
def test_an_answer_that_is_a_success_is_written_as_all_others_are(data: bytes, processed_by: str | None) -> None:
    name = '"r:\\u0041ü"'
    whole = msgspec.json.encode(requester.Response(Raw(name.encode()), True, Raw(data), None, processed_by))
    assert requester.response(name, True, Raw(data), None, processed_by).payload == whole


@pytest.mark.parametrize("field", ["request_id", "data", "timeout", "stream", "affinity", "idempotent"])
def test_null_is_as_absent_in_a_request(field: str) -> None:
    given = requester.decode_message(json.dumps({"command": "x", field: None}).encode())
    absent = requester.decode_message(b'{"command":"x"}')
    assert isinstance(given, requester.Request)
    assert isinstance(absent, requester.Request)
    assert bytes(given.data) == bytes(absent.data)
    assert {name: getattr(given, name) for name in ("request_id", "timeout", "stream", "affinity", "idempotent")} == {
        name: getattr(absent, name) for name in ("request_id", "timeout", "stream", "affinity", "idempotent")
    }


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"success": True, "result": 30}, None),
        ({"result": 30}, None),
        ({"success": False, "error": "no"}, "no"),
        ({"success": False, "error": None, "result": "why"}, "why"),
        ({"success": False, "result": "why"}, "why"),
        ({"success": False, "result": {"a": 1}}, '{"a": 1}'),
        ({"success": False}, "The worker gave no reason"),
        ({"success": False, "result": None, "error": None}, "The worker gave no reason"),
        ({"error": "no"}, "no"),
        ({"success": None, "error": "no"}, "no"),
    ],
)
def test_what_the_error_of_an_answer_is(data: dict[str, Any], error: str | None) -> None:
    message = {"type": "response", "msg_id": "m", "data": data}
    answer = envelope.answer_of(envelope.decode_envelope(json.dumps(message).encode()))
    assert envelope.error_text(answer) == error
    assert answer.success is (error is None)


@pytest.mark.parametrize(
    ("message", "code", "field", "msg_id"),
    [
        ({"msg_id": "m"}, ErrorCode.MISSING_FIELD, "type", "m"),
        ({"type": 5, "msg_id": "m"}, ErrorCode.BAD_FIELD, "type", "m"),
        ({"type": "request", "msg_id": 5}, ErrorCode.BAD_FIELD, "msg_id", None),
        ({"type": "request", "msg_id": "m" * 257}, ErrorCode.BAD_FIELD, "msg_id", None),
    ],
)
def test_envelope_faults_carry_the_msg_id(
    message: dict[str, Any], code: ErrorCode, field: str, msg_id: str | None
) -> None:
    with pytest.raises(PeerFault) as caught:
        envelope.decode_envelope(json.dumps(message).encode())
    assert (caught.value.code, caught.value.field, caught.value.msg_id) == (code, field, msg_id)


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        ([], ErrorCode.BAD_FIELD, "data"),
        ("x", ErrorCode.BAD_FIELD, "data"),
        ({}, ErrorCode.MISSING_FIELD, "action"),
        (None, ErrorCode.MISSING_FIELD, "action"),
        ({"action": ""}, ErrorCode.BAD_FIELD, "action"),
        ({"action": None}, ErrorCode.BAD_FIELD, "action"),
        ({"action": "x" * 129}, ErrorCode.BAD_FIELD, "action"),
        ({"action": "x", "timeout": 0}, ErrorCode.BAD_FIELD, "timeout"),
    ],
)
def test_envelope_data(data: object, code: ErrorCode, field: str) -> None:
    with pytest.raises(PeerFault) as caught:
        envelope.call_of(envelope.decode_envelope(json.dumps({"type": "request", "data": data}).encode()))
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "king"),
        ("capacity", -1),
        ("capacity", 1.5),
        ("weight", 0),
        ("weight", -1),
        ("commands", "x"),
        ("commands", [""]),
        ("commands", [5]),
        ("token", 5),
        ("capacity", 10**200),
    ],
)
def test_connect_fields(field: str, value: object) -> None:
    found = envelope.decode_envelope(json.dumps({"type": "connect", "data": {field: value}}).encode())
    with pytest.raises(PeerFault) as caught:
        envelope.connect_of(found)
    assert (caught.value.code, caught.value.field) == (ErrorCode.BAD_FIELD, field)


def test_params_and_results_are_any_json_and_stay_as_they_came() -> None:
    for params in ("[1, 2]", '"x"', "null", "1.50", '{"a" : {"b":[]}}'):
        call = envelope.call_of(
            envelope.decode_envelope(b'{"type":"request","data":{"action":"a","params":%b}}' % params.encode())
        )
        assert bytes(call.params).decode() == params
        frame = envelope.request("r-1", 1.0, "a", call.params, attempt=1, deadline_ms=5, stream=False)
        assert params in frame.payload.decode()


def test_a_request_to_a_worker() -> None:
    frame = envelope.request("r-1", 5.5, "echo", Raw(b'{"a":1}'), attempt=2, deadline_ms=300, stream=True)
    assert read(frame) == {
        "type": "request",
        "msg_id": "r-1",
        "timestamp": 5.5,
        "data": {
            "action": "echo",
            "params": {"a": 1},
            "request": {"id": "r-1", "attempt": 2, "deadline_ms": 300, "stream": True},
        },
    }
    assert read(envelope.cancel("r-1", "m", 1.0))["data"] == {"event": "cancel", "request_id": "r-1"}


def test_the_echo_is_the_text() -> None:
    assert user.echo("hällo".encode()).payload.decode() == "Echo: hällo"


@pytest.mark.parametrize(
    "data",
    [
        {"request_id": "r-1", "success": True, "result": {"a": [1, {"b": ":"}]}},
        {"success": False, "error": "no: never", "result": None},
        {"request_id": "r-1", "partial": True, "result": "a:b"},
        {},
    ],
)
@pytest.mark.parametrize("outer", [{}, {"msg_id": "m"}, {"msg_id": "m", "timestamp": 1.5}])
def test_a_response_is_the_same_in_one_pass_and_in_two(outer: dict[str, object], data: dict[str, object]) -> None:
    payload = json.dumps({"type": "response", **outer, "data": data}).encode()
    quick = envelope.quick_response(payload)
    whole = envelope.decode_envelope(payload)
    assert quick is not None
    assert quick[0] == whole.msg_id
    assert msgspec.json.encode(quick[1]) == msgspec.json.encode(envelope.answer_of(whole))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"request","data":{"action":"response"}}',
        b'{"type":"heartbeat","data":{"x":"response"}}',
        b'{"type":"response"}',
        b'{"type":"response","data":null}',
        b'{"type":"response","type":"response","data":{}}',
        b'{"type":"response","data":{"success":true,"success":false}}',
        b'{"type":"response","data":{"success":true,"succ\\u0065ss":false}}',
        b'{"type":"response","data":{"result":"\xff"}}',
        b'{"type":"response","data":{"success":1}}',
        b'{"type":"response","data":{"partial":null}}',
        b'{"type":"response","data":{}',
        b'{"type":"response","data":{"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    ],
)
def test_what_is_no_plain_response_is_looked_at_closely(payload: bytes) -> None:
    assert envelope.quick_response(payload) is None


@pytest.mark.parametrize(
    ("payload", "mended"),
    [
        (b"[1, 2]", None),
        (b'["NaN", "-Infinity"]', None),
        (b'["a\\"", NaN, "NaN"]', b'["a\\"", null, "NaN"]'),
        (b'["a\\\\", -Infinity, Infinity]', b'["a\\\\", null, null]'),
        (b'{"NaN": NaN}', b'{"NaN": null}'),
        (b'["\x00", NaN]', None),
    ],
)
def test_what_is_no_number_becomes_null_outside_of_texts(payload: bytes, mended: bytes | None) -> None:
    assert envelope.without_nan(payload) == mended


def test_names_of_requests_are_found_near_both_ends_of_what_cannot_be_read() -> None:
    long = b"x" * 20_000
    assert envelope.names_in(b'{"type": "response", "msg_id": "r-12", "data": "' + long) == ["r-12"]
    assert envelope.names_in(b'{"type": "response", "data": "' + long + b'", "request_id": "r-7"}') == ["r-7"]
    assert envelope.names_in(b'{"type": "request", "msg_id": "r-12"}') == []
