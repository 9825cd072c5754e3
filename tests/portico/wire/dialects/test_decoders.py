"""No input makes a decoder raise anything but a PeerFault, and what is accepted names no key twice."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portico.wire.dialects import c_client, envelope, requester
from portico.wire.dialects.negotiate import dialect_of
from portico.wire.faults import PeerFault

from ..mutations import mutated

T = TypeVar("T")

REGISTER: dict[str, Any] = {
    "type": "c_client_register",
    "client_id": "c-client-1732",
    "user_id": "u1",
    "username": "ann",
    "node_id": "n1",
    "domain_id": "d1",
    "cluster_id": "c1",
    "channel_id": "ch1",
    "token": "t",
    "resume": {"epoch": "e", "offsets": {"user:u1": 41}},
}
FEEDBACK = {"type": "session_feedback", "session_id": "s", "success": True, "message": "in"}
REQUEST = {
    "request_id": "uuid",
    "command": "echo",
    "data": {"message": "Hello World"},
    "timeout": 5,
    "stream": True,
    "affinity": "k",
    "idempotent": False,
}
DATA: Mapping[str, dict[str, Any]] = {
    "connect": {"client_id": "w", "role": "worker", "commands": ["a"], "capacity": 8, "weight": 1.0, "token": "t"},
    "disconnect": {},
    "heartbeat": {},
    "error": {"error": "no"},
    "handshake": {"handshake_key": "k"},
    "request": {"action": "calculate", "params": {"a": 10, "b": 20, "op": "+"}, "timeout": 3},
    "response": {"request_id": "r-1", "success": True, "result": 30, "error": None, "partial": True},
    "notification": {"event": "e"},
    "custom": {"event": "capacity", "capacity": 3, "request_id": "r-1"},
}
ENVELOPES = [
    {"type": kind, "msg_id": "msg_1", "timestamp": 1732000000.123, "data": data} for kind, data in DATA.items()
]


def decode_c_client(payload: bytes) -> object:
    return c_client.decode_message(payload)


def attempt(quickly: Callable[[bytes], T], payload: bytes) -> tuple[T | None, PeerFault | None]:
    try:
        return quickly(payload), None
    except PeerFault as fault:
        return None, fault


def told(fault: PeerFault) -> tuple[object, ...]:
    return fault.code, fault.message, fault.field, fault.msg_id


def decode_request(payload: bytes) -> object:
    """Both ways: what the quick one accepts, the other one reads as the same; what it refuses, that refuses alike."""
    quick, refused = attempt(requester.quick_request, payload)
    try:
        found = requester.decode_message(payload)
    except PeerFault as fault:
        if quick is not None or (refused is not None and told(refused) != told(fault)):
            raise AssertionError("the quick way says something else") from fault
        raise
    assert refused is None
    assert quick is None or msgspec.json.encode(quick) == msgspec.json.encode(found)
    return found


def decode_envelope(payload: bytes) -> object:
    """Both ways, for a response: what the quick one accepts, the other one reads as the same, and refuses alike."""
    quick, refused = attempt(envelope.quick_response, payload)
    try:
        found = decode_closely(payload)
    except PeerFault as fault:
        if quick is not None or (refused is not None and told(refused) != told(fault)):
            raise AssertionError("the quick way says something else") from fault
        raise
    assert refused is None
    assert quick is None or msgspec.json.encode(quick[1]) == msgspec.json.encode(found)
    return found


def decode_closely(payload: bytes) -> object:
    found = envelope.decode_envelope(payload)
    decoders: dict[str, Callable[[envelope.Envelope], object]] = {
        "connect": envelope.connect_of,
        "handshake": envelope.handshake_of,
        "request": envelope.call_of,
        "response": envelope.answer_of,
        "custom": envelope.custom_of,
    }
    decode = decoders.get(found.type)
    inner = decode(found) if decode is not None else None
    if isinstance(inner, envelope.Answer):
        envelope.error_text(inner)
    return inner


DECODERS: dict[str, Callable[[bytes], object]] = {
    "c_client": decode_c_client,
    "envelope": decode_envelope,
    "requester": decode_request,
    "negotiate": dialect_of,
}
VALID: dict[str, list[dict[str, Any]]] = {
    "c_client": [REGISTER, FEEDBACK, {"type": "heartbeat"}],
    "envelope": ENVELOPES,
    "requester": [REQUEST],
}


@pytest.mark.parametrize("name", list(DECODERS))
@given(payload=st.binary())
@example(b"[" * 10_000 + b"]" * 10_000)
@example(b'{"type":' + b"[" * 10_000 + b"]" * 10_000 + b"}")
@example(b'{"command":"\\ud800"}')
@example(b'{"type":"\\ud800"}')
@example(b'{"command":5,"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}")
def test_any_bytes(name: str, payload: bytes) -> None:
    with suppress(PeerFault):
        DECODERS[name](payload)


class _Twice(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


@pytest.mark.parametrize("name", list(VALID))
@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_mutations_of_valid_messages(name: str, data: st.DataObject) -> None:
    payload = data.draw(mutated(VALID[name]))
    try:
        DECODERS[name](payload)
    except PeerFault as fault:
        if not fault.message.isprintable():
            pytest.fail("the message is not for showing")
        return
    # Accepted: then any strict program reads it too. (The mutations double none but keys that are read.)
    try:
        read = json.loads(payload, object_pairs_hook=_once, parse_int=float)
    except _Twice:
        pytest.fail("a key occurs twice")
    assert isinstance(read, dict)


def _spellings(key: str) -> list[str]:
    return [json.dumps(key), f'"\\u{ord(key[0]):04x}{key[1:]}"']


def _doubled(place: dict[str, Any], separators: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Each key of an object, and the object as text with that key twice."""
    whole = json.dumps(place, separators=separators)
    for key, value in place.items():
        for spelling in _spellings(key):
            yield key, f"{whole[:-1]}{separators[0]}{spelling}{separators[1]}{json.dumps(value)}}}"


SPACINGS = [(",", ":"), (", ", ": "), (" ,\n", "\t: ")]


@pytest.mark.parametrize("name", list(VALID))
@pytest.mark.parametrize("separators", SPACINGS)
def test_every_field_given_twice_is_refused(name: str, separators: tuple[str, str]) -> None:
    for valid in VALID[name]:
        for key, text in _doubled(valid, separators):
            with pytest.raises(PeerFault) as caught:
                DECODERS[name](text.encode())
            assert (caught.value.code, caught.value.field) == ("bad_json", key), text


@pytest.mark.parametrize("kind", ["connect", "handshake", "request", "response", "custom"])
@pytest.mark.parametrize("separators", SPACINGS)
def test_every_field_of_an_envelope_s_data_given_twice_is_refused(kind: str, separators: tuple[str, str]) -> None:
    for key, text in _doubled(DATA[kind], separators):
        with pytest.raises(PeerFault) as caught:
            decode_envelope(f'{{"type":"{kind}","data":{text}}}'.encode())
        assert (caught.value.code, caught.value.field) == ("bad_json", key), text


@pytest.mark.parametrize("name", list(VALID))
def test_a_number_beyond_a_double_is_refused_wherever_it_is(name: str) -> None:
    for valid in VALID[name]:
        for number in ("1e999", "1" * 400, "1" * 250 + "e99"):
            payload = json.dumps({**valid, "more": {"deep": [0]}}).replace("[0]", f"[{number}]").encode()
            with pytest.raises(PeerFault) as caught:
                DECODERS[name](payload)
            assert caught.value.code == "bad_json"


@pytest.mark.parametrize("name", list(VALID))
def test_unknown_fields_and_other_spacing_are_fine(name: str) -> None:
    for valid in VALID[name]:
        message = {"zzz": {"a": [1, {"type": 2}], "b": "x:y"}, **valid}
        for text in (json.dumps(message), json.dumps(message, indent=2), json.dumps(message, separators=(",", ":"))):
            DECODERS[name](text.encode())
