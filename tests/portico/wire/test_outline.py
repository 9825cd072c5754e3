"""Outlines: what a large message says is found in them as in the message itself, doubled fields and mistakes too."""

import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw, Struct, UnsetType

from portico.wire import outline
from portico.wire.dialects import c_client, envelope, negotiate, requester
from portico.wire.faults import PeerFault
from portico.wire.outline import (
    Outlined,
    TooManyKeys,
    Use,
    decode_form,
    nested_outline_of,
    outline_of,
    outlined,
    uses_of,
)

LISTS = b"[" + b",".join([b"[]"] * 3000) + b"]"


class Form(Struct):
    name: str = ""
    count: int | None = None
    data: Raw | UnsetType = UNSET
    names: list[str] = []


USES = uses_of(Form)
NAMES = tuple(USES)


def test_uses_are_found_in_the_form() -> None:
    assert USES == {"name": Use.SCALAR, "count": Use.SCALAR, "data": Use.PASSED_ON, "names": Use.WHOLE}
    assert uses_of(c_client.TokenRefresh) == {"type": Use.SCALAR, "token": Use.SCALAR}


def test_the_text_is_short_and_what_is_passed_on_comes_back() -> None:
    found = outline_of(b'{"x":%b,"name":"n" , "data": %b,"count":%b}' % (LISTS, LISTS, LISTS), NAMES)
    text = found.text(USES)
    assert len(text) < 3000
    assert text.startswith(b'{"name":"n","data":[ ')
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int \| null`, got `array` - at `\$.count`"):
        msgspec.json.decode(text, type=Form)
    form = Form("n")
    found.restore(form, USES)
    assert form == Form("n", data=Raw(LISTS))


def test_others_are_there_as_zeros_if_they_are_wanted() -> None:
    found = outline_of(b'{"x":%b,"na\\u006de":"n","\\"":1}' % LISTS, NAMES)
    assert found.text(USES, others=True) == b'{"x":0,"name":"n","\\"":0}'
    assert found.text(USES) == b'{"name":"n"}'


def test_doubled_fields_are_kept_in_their_order() -> None:
    found = outline_of(b'{"name":5,"x":%b,"data":%b,"na\\u006de":"n","data":1}' % (LISTS, LISTS), NAMES)
    assert [name for name, _ in found.fields] == ["name", "x", "data", "name", "data"]
    with pytest.raises(PeerFault, match="'name' occurs twice"):
        found.check_keys((b'"name"', b'"count"'))
    found.check_keys((b'"count"',))
    form = Form(data=Raw(b"1"))
    found.restore(form, USES)
    assert form.data == Raw(b"1")  # of a doubled field the last counts


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (b'{"x":%b' % LISTS, msgspec.DecodeError),
        (b'{"x":%b,"y":NaN}' % LISTS, msgspec.DecodeError),
        (b'{"x":%b}' % (b"[" * 5000 + b"]" * 5000), RecursionError),
        (LISTS, PeerFault),
        (LISTS[:-1], msgspec.DecodeError),
        (b'"%b"' % (b"x" * 5000), PeerFault),
        (b'{"x":%b,"y":"\xff"}' % LISTS, PeerFault),
    ],
)
def test_what_has_no_outline(payload: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as first:
        outline_of(payload, NAMES)
    # It isn't read again to say so again.
    message = outlined(payload, NAMES)
    with pytest.raises(error) as second:
        outline_of(message, NAMES)
    assert str(first.value) == str(second.value)
    assert bytes(message) == payload


@pytest.mark.parametrize("payload", [LISTS, LISTS[:-1], b'{"x":%b' % LISTS, b'{"x":%b}' % LISTS])
def test_a_message_is_gone_with_its_last_use(payload: bytes) -> None:
    """Not only when garbage is looked for: what was refused, and why, kept one another alive through a traceback."""
    gc.collect()
    gc.disable()
    try:
        message = outlined(payload, NAMES)
        for _ in range(2):
            with suppress(PeerFault, msgspec.DecodeError):
                outline_of(message, NAMES)
        del message
        assert not any(type(one) is Outlined for one in gc.get_objects())
    finally:
        gc.enable()


def test_a_small_message_stays_what_it_is() -> None:
    payload = b'{"name":"n"}'
    assert outlined(payload, NAMES) is payload
    large = b'{"name":"n","x":%b}' % LISTS
    message = outlined(large, NAMES)
    assert message == large
    assert isinstance(message, Outlined)
    assert outlined(message, NAMES) is message


def many(count: int) -> bytes:
    return b",".join(b'"k%d":0' % number for number in range(count))


def test_with_too_many_keys_the_known_fields_are_read() -> None:
    most = 500 + len(many(600)) // 1024
    found = outline_of(b'{%b,"name":5,"count":1}' % many(600), NAMES)
    assert most < 600
    assert found.text(USES) == b'{"name":5,"count":1}'
    found.check_keys((b'"name"', b'"count"'))
    doubled = outline_of(b'{%b,"name":5,"name":1}' % many(600), NAMES)
    with pytest.raises(PeerFault, match="too many keys"):
        doubled.check_keys((b'"name"',))
    early = outline_of(b'{"name":5,"name":1,%b}' % many(600), NAMES)
    with pytest.raises(PeerFault, match="'name' occurs twice"):
        early.check_keys((b'"name"',))


def test_with_too_many_keys_and_no_names_it_is_refused() -> None:
    payload = b'{"name":5,%b}' % many(600)
    with pytest.raises(PeerFault, match="bad_json: The message has too many keys"):
        outline_of(payload)
    message = outlined(payload)
    with pytest.raises(PeerFault, match="too many keys"):
        outline_of(message)
    assert len(outline_of(b'{"name":5,%b}' % many(499)).fields) == 500


def test_numbers_are_looked_at_in_all_of_the_message() -> None:
    found = outline_of(b'{"name":"n","x":[%b,1e999]}' % LISTS, NAMES)
    with pytest.raises(PeerFault, match="A number is too large"):
        found.check_numbers()


def test_two_levels_are_read_at_once() -> None:
    text, inside = nested_outline_of(
        b'{"type":"t","x":1,"data":{"a":%b,"b":1},"list":%b,"object":{"a":1}}' % (LISTS, LISTS),
        ("type", "data", "list", "object"),
        "data",
    ) or (b"", None)
    assert text == b'{"type":"t","data":{},"list":[],"object":{}}'
    assert inside is not None
    assert inside.fields == [("a", Raw(LISTS)), ("b", Raw(b"1"))]
    with pytest.raises(TooManyKeys):
        nested_outline_of(b'{"data":{%b}}' % many(600), ("data",), "data")
    assert nested_outline_of(LISTS, ("data",), "data") is None


def test_a_form_is_decoded_as_if_it_were_small(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = msgspec.json.Decoder(Form)
    payload = b'{"name":"n","data":%b,"names":["a"]}' % LISTS
    assert decode_form(decoder, payload) == Form("n", data=Raw(LISTS), names=["a"])
    with pytest.raises(PeerFault, match="The field 'count' is not as it should be"):
        decode_form(decoder, b'{"data":%b,"count":"c"}' % LISTS)
    with pytest.raises(PeerFault, match="not valid JSON"):
        decode_form(decoder, b'{"data":%b,"count":"c"' % LISTS)
    assert decode_form(decoder, b'{"name":"n",%b}' % many(600)) == Form("n")


# Everything counts as large here, and has to be answered as if it were small.

LONG_LIST = b"[%b]" % b",".join([b'"a"'] * 300)
LONG_RESUME = b'{"offsets":{%b},"epoch":"e","x":%b}' % (b",".join(b'"%d":1' % number for number in range(200)), LISTS)
VALUES = st.sampled_from(
    [
        *(b"5", b"null", b"true", b"1.5", b"1e400", b'""', b'"r-1"', b'"heartbeat"', b'"c_client_register"'),
        *(b'"response"', b'"connect"', b'"request"', b"[]", b"{}", b'{"a":1,"a":2}', b'"\\u0041"', b"1" * 1100),
        *(b'{"epoch":"e","offsets":{"a":"b"}}', b'"%b"' % (b"x" * 1100), b'"%b"' % (b"\\ud83d\\ude00" * 200)),
        *(LISTS, b'{"a":%b}' % LISTS, LISTS[:-1], b"[NaN]", b"[%b]" % (b" " * 1100), b"{%b}" % (b" " * 1100)),
        *(LONG_LIST, LONG_LIST[:-1] + b",5]", LONG_RESUME, LONG_RESUME[:-1] + b',"offsets":{"a":"b"}}'),
    ]
)
KEYS = st.sampled_from(
    [
        *(b"type", b"client_id", b"user_id", b"token", b"resume", b"success", b"request_id", b"data", b"result"),
        *(
            b"error",
            b"msg_id",
            b"timestamp",
            b"command",
            b"timeout",
            b"stream",
            b"cancel",
            b"x",
            b"t\\u0079pe",
            b"message",
        ),
    ]
)
FIELDS = st.lists(st.tuples(KEYS, VALUES), max_size=5)
INSIDE_KEYS = st.sampled_from(
    [
        *(b"request_id", b"success", b"result", b"error", b"partial", b"action", b"params", b"timeout", b"role"),
        *(b"x", b"commands", b"capacity", b"token", b"resume", b"event", b"client_id", b"handshake_key"),
    ]
)
KINDS = st.sampled_from([b"connect", b"handshake", b"request", b"response", b"custom", b"nonsense"])


def an_object(fields: list[tuple[bytes, bytes]]) -> bytes:
    return b"{%b}" % b",".join(b'"%b":%b' % field for field in fields)


ENVELOPES = st.builds(
    lambda kind, inside, others: an_object([*others[:1], (b"type", b'"%b"' % kind), (b"data", inside), *others[1:]]),
    KINDS,
    st.lists(st.tuples(INSIDE_KEYS, VALUES), max_size=5).map(an_object) | VALUES,
    FIELDS.map(lambda fields: fields[:2]),
)


def shown(value: Any) -> Any:
    if isinstance(value, Struct):
        name = type(value).__name__.replace("_LargeEnvelope", "Envelope")
        return name, {field: shown(getattr(value, field)) for field in value.__struct_fields__ if field != "inside"}
    if isinstance(value, tuple):
        return [shown(one) for one in value]
    return bytes(value) if isinstance(value, Raw) else value


def said(call: Callable[[bytes], object], payload: bytes) -> Any:
    """What comes of a message: all of the fault, or what was decoded."""
    try:
        return shown(call(payload))
    except c_client.BadRegister as fault:
        rejected = c_client.registration_rejected(fault.code, fault.message, fault.claimed)
        return fault.code, fault.message, fault.field, rejected.payload
    except PeerFault as fault:
        return fault.code, fault.message, fault.field, fault.msg_id


def of_envelope(payload: bytes) -> object:
    quick = envelope.quick_response(payload)
    if quick is not None:
        return quick
    message = envelope.decode_envelope(payload)
    data = envelope.data_of(message)
    match message.type:
        case "connect":
            return envelope.connect_of(message)
        case "handshake":
            return envelope.handshake_of(message)
        case "request":
            return envelope.call_of(message)
        case "response":
            return message.msg_id, envelope.answer_of(message)
        case "custom":
            return data, envelope.custom_of(message)
    return message.type, message.msg_id, data


def of_requester(payload: bytes) -> object:
    return requester.quick_request(payload) or requester.decode_message(payload)


@given(FIELDS.map(an_object) | ENVELOPES | VALUES)
@pytest.mark.parametrize(
    ("call", "read"),
    [
        (c_client.decode_message, c_client.read),
        (c_client.answer_of, c_client.read),
        (c_client.decode_message, negotiate.read_first),
        (negotiate.dialect_of, negotiate.read_first),
        (of_requester, bytes),
        (of_requester, negotiate.read_first),
        (of_envelope, bytes),
        (of_envelope, negotiate.read_first),
    ],
    ids=[
        "c-client",
        "answer",
        "first-c-client",
        "dialect",
        "requester",
        "first-requester",
        "envelope",
        "first-envelope",
    ],
)
def test_a_large_message_is_answered_as_a_small_one(
    call: Callable[[bytes], object], read: Callable[[bytes], bytes], payload: bytes
) -> None:
    modules = (outline, c_client, envelope, negotiate, requester)
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "LARGE", len(payload))
        small = said(call, payload)
        for module in modules:
            patch.setattr(module, "LARGE", -1)
        for module in (envelope, requester):
            patch.setattr(module, "QUICK", -1)
        assert said(call, read(payload)) == small
