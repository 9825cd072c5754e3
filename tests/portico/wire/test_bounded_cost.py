"""What a hostile message may cost, without a clock: how often it is passed over, and what is kept of it meanwhile.

Each of these messages is a megabyte, or nearly. Time can't be asserted on a machine that others use as well; passes and
memory can, and they are what time comes from.
"""

import difflib
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import msgspec
import pytest
from msgspec import Raw, Struct

from portico.wire import strict_json
from portico.wire.dialects import c_client, envelope, negotiate, requester
from portico.wire.faults import PeerFault
from tests.lines import lines_of

SIZE = 1 << 20
KEYS = tuple(f'"{key}"'.encode() for key in ("type", *c_client.Register.__struct_fields__, "success", "session_id"))


class Passes(bytes):
    """A payload that counts by how many bytes of itself it was searched, replaced or split. (A copy of it doesn't.)"""

    seen = 0

    def _count(self, start: int = 0, end: int | None = None) -> None:
        self.seen += (len(self) if end is None else min(end, len(self))) - start

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        self._count(start, end)
        return super().find(sub, start, end)

    def rfind(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        self._count(start, end)
        return super().rfind(sub, start, end)

    def split(self, sep: Any = None, maxsplit: Any = -1) -> list[bytes]:
        self._count()
        return super().split(sep, maxsplit)

    @property
    def passes(self) -> float:
        """How many times all of it was passed over."""
        return self.seen / len(self)


MANY = b",".join(b'"k%d":0' % number for number in range(SIZE // 32))
LETTERS = b"e" * (SIZE // 2)
WITH_COLONS = b",".join([b'{"' + b"e" * 60 + b'":0}'] * (SIZE // 66))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"x","text":"' + b"hello world " * (SIZE // 12) + b'"}',
        b'{"type":"x","text":"' + LETTERS * 2 + b'"}',
        b'{"type":"x","objects":[' + WITH_COLONS + b"]}",
        b'{"type":"x",' + MANY + b',"text":"' + LETTERS + b'"}',
        b'{"type":"x","client_id":1,"user_id":2,' + MANY + b',"objects":[' + WITH_COLONS + b"]}",
        b'{"objects":[' + WITH_COLONS + b"]," + b",".join(key + b":0" for key in KEYS) + b"}",
    ],
    ids=["text", "letters-of-keys", "many-objects", "many-keys", "many-of-both", "all-known-keys"],
)
def test_a_large_message_is_not_searched_for_each_key(payload: bytes) -> None:
    """Eleven keys were eleven passes over each of these, and slow ones where the text is of letters that keys have."""
    counted = Passes(payload)
    strict_json.check_keys(counted, KEYS, inside=False)
    assert counted.passes < 7


def test_a_message_of_many_colons_is_read_for_the_keys_that_it_has() -> None:
    few = b'{"type":"x","client_id":1,"objects":[' + WITH_COLONS + b"]"
    strict_json.check_keys(few + b"}", KEYS, inside=False)
    with pytest.raises(PeerFault, match="'client_id' occurs twice"):
        strict_json.check_keys(few + b',"client_id":2}', KEYS, inside=False)
    all_of_them = b'{"objects":[' + WITH_COLONS + b"]," + b",".join(key + b":0" for key in KEYS)
    strict_json.check_keys(all_of_them + b"}", KEYS, inside=False)
    with pytest.raises(PeerFault, match="'session_id' occurs twice"):
        strict_json.check_keys(all_of_them + b',"session_id":2}', KEYS, inside=False)
    with pytest.raises(PeerFault, match="not valid JSON"):
        strict_json.check_keys(few, KEYS, inside=False)
    strict_json.check_keys(b"[" + WITH_COLONS + b"]", KEYS, inside=False)


@contextmanager
def counted_decodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of all that the decoders of the dialects are given while this is open."""
    sizes: list[int] = []

    class Counting:
        """A decoder that says what it was given."""

        def __init__(self, decoder: msgspec.json.Decoder[Any]) -> None:
            self._decoder = decoder
            self.type = decoder.type

        def decode(self, payload: Any) -> Any:
            sizes.append(len(bytes(payload)))
            return self._decoder.decode(payload)

    modules: list[ModuleType] = [c_client, envelope, negotiate, requester, strict_json]
    with monkeypatch.context() as patch:
        for module in modules:
            for name, value in vars(module).copy().items():
                if isinstance(value, msgspec.json.Decoder):
                    patch.setattr(module, name, Counting(value))
                elif isinstance(decoder := getattr(value, "__self__", None), msgspec.json.Decoder):
                    patch.setattr(module, name, Counting(decoder).decode)
        yield sizes


def first_message(payload: bytes) -> None:
    """As the first of a connection, on any path."""
    if c_client.first_register(payload) is not None:
        return
    match negotiate.dialect_of(payload):
        case negotiate.Dialect.C_CLIENT:
            try:
                c_client.decode_message(payload)
            except c_client.BadRegister as fault:
                c_client.registration_rejected(fault.code, fault.message, fault.claimed)
        case negotiate.Dialect.REQUESTER:
            if requester.quick_request(payload) is None:
                requester.decode_message(payload)
        case _:
            if envelope.quick_response(payload) is None:
                message = envelope.decode_envelope(payload)
                {
                    "connect": envelope.connect_of,
                    "handshake": envelope.handshake_of,
                    "request": envelope.call_of,
                    "response": envelope.answer_of,
                    "custom": envelope.custom_of,
                }[message.type](message)


FILLING = b'"x":[' + b"[" * 100 + b"]" * 100 + b",0" * (SIZE // 8) + b"]"


@pytest.mark.parametrize(
    ("message", "most"),
    [
        (b'{"type":"c_client_register",%b}', 1),
        (b'{%b,"type":"c_client_register","client_id":5}', 4),
        (b'{%b,"type":"c_client_register","resume":{"epoch":"e","offsets":{"a":"b"}}}', 4),
        (b'{%b,"type":"nonsense"}', 1),
        (b'{%b,"command":5}', 4),
        (b'{%b,"request_id":"r"}', 4),
        (b'{%b,"request_id":"r","command":null}', 4),
        (b'{%b,"request_id":"r","cancel":true}', 4),
        (b'{%b,"command":"echo","timeout":"long"}', 4),
        (b'{"type":"connect","data":{%b,"capacity":"many"}}', 3),
        (b'{"type":"request","data":{%b,"action":5}}', 3),
        (b'{"type":"response","data":{%b,"partial":5}}', 4),
        (b'{"type":"response","data":{%b,"success":"no"}}', 5),
        (b'{%b,"msg_id":5,"type":"custom"}', 3),
    ],
    ids=lambda part: part[:70].decode() if isinstance(part, bytes) else None,
)
def test_how_often_a_message_is_read_is_bounded(message: bytes, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first byte of a connection to the answer. A registration with a mistake at its end was read seven times,
    a `cancel` with much besides six times."""
    payload = message % FILLING
    with counted_decodes(monkeypatch) as sizes, suppress(PeerFault):
        first_message(payload)
    assert sum(size > SIZE // 8 for size in sizes) <= most


@pytest.mark.parametrize(
    "decode",
    [c_client.decode_message, envelope.decode_envelope, requester.decode_message],
    ids=["c_client", "envelope", "requester"],
)
@pytest.mark.parametrize(
    ("message", "most"), [(b"{%b}", 2), (b'{%b,"type":5,"command":5}', 3), (b'{"type":5,"command":5,%b}', 3)]
)
def test_a_message_without_its_type_or_with_a_wrong_one_is_read_twice(
    decode: Callable[[bytes], object], message: bytes, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the decoder that finds the mistake, and by one that takes any object, which shows that it is JSON. A third may
    read as far as the mistake."""
    with counted_decodes(monkeypatch) as sizes, pytest.raises(PeerFault):
        decode(message % FILLING)
    assert len(sizes) <= most


class Form(Struct, forbid_unknown_fields=True):
    name: str = ""


def test_the_name_that_was_meant_is_looked_for_among_short_names_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field with a name of a megabyte took 130 ms to compare; the same mistake in each item of a batch cost a second
    a megabyte."""
    compared: list[str] = []

    def close_matches(word: str, possibilities: Any, count: int) -> list[str]:
        compared.append(word)
        return difflib.get_close_matches(word, possibilities, count)

    monkeypatch.setattr(strict_json, "get_close_matches", close_matches)
    decoder = msgspec.json.Decoder(Form)
    for _ in range(3):
        with pytest.raises(PeerFault, match="probably 'name' is meant"):
            strict_json.decode(decoder, b'{"namee":1}')
    assert len(compared) <= 1
    with pytest.raises(PeerFault, match="known are name"):
        strict_json.decode(decoder, b'{"%b":1}' % (b"name" * (SIZE // 4)))
    assert all(len(word) <= 64 for word in compared)


def peak_of(call: Callable[[], object]) -> int:
    """Bytes that a call holds at most."""
    tracemalloc.start()
    try:
        with suppress(PeerFault):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


NESTED = b"[" + b",".join([b"[" * 50 + b"]" * 50] * (SIZE // 400)) + b"]"


@pytest.mark.parametrize("field", ["success", "error", "request_id", "type"])
def test_nothing_is_made_of_what_a_clients_answer_holds(field: str) -> None:
    """Each was decoded, which took twenty times the memory of the message, and the time to make it."""
    payload = b'{"request_id":"r-1","%b":%b}' % (field.encode(), NESTED)
    payload = payload if field != "request_id" else b'{"request_id":%b}' % NESTED
    assert peak_of(lambda: c_client.answer_of(payload)) < 6 * len(payload)


def test_nothing_is_made_of_what_a_workers_success_holds() -> None:
    message = envelope.decode_envelope(b'{"type":"response","msg_id":"r-1","data":{"success":%b}}' % NESTED)
    assert peak_of(lambda: envelope.answer_of(message)) < 6 * len(NESTED)
    assert envelope.answer_of(message).success is True


@pytest.mark.parametrize(
    "text",
    [
        *("null", "false", "true", "0", "-0", "0.0", "-0.00e7", "0E5", "1", "-1.5", "0.01", "1e-3"),
        *('""', '" "', '"0"', '"\\u0000"', "[]", "[ ]", "[0]", "[ [ ] ]", "{}", "{ \n}", '{"a":0}', ' "" ', "\t0 "),
    ],
)
def test_truth_is_as_that_of_what_it_stands_for(text: str) -> None:
    assert strict_json.is_true(Raw(text.encode())) is bool(msgspec.json.decode(text.encode()))


def test_many_nans_cost_no_more_lines_than_few() -> None:
    """Each was a turn of a loop, 80 ms a megabyte."""

    def lines(message: bytes) -> int:
        assert envelope.without_nan(message) == message.replace(b"NaN", b"null")
        return len(lines_of(lambda: envelope.without_nan(message)))

    assert lines(b'{"result":[' + b"NaN," * 50_000 + b"1]}") == lines(b'{"result":[NaN,1]}')


@pytest.mark.parametrize("texts", [0, 500], ids=["few-texts", "many-texts"])  # they are mended in two ways
def test_what_is_a_nan_and_what_is_text_is_told_apart(texts: int) -> None:
    before = b'{"a":[NaN,-Infinity,"NaN","\\\\",Infinity,"\\"NaN",' + b'"",' * texts
    after = b'{"a":[null,null,"NaN","\\\\",null,"\\"NaN",' + b'"",' * texts
    assert envelope.without_nan(before + b"NaN]}") == after + b"null]}"
