"""How often a large message is decoded, from a connection's first byte to the answer: once, whatever is wrong with it.

No clock: a decoding of a megabyte of lists takes as long as everything else that is done with it together, so that what
JSON may cost, compared with plain text, comes from how often it is decoded (`make json-costs` measures it).
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from msgspec import Raw

from portico.wire.faults import PeerFault
from service.backplane.redis.payloads import read_ordinary
from service.core.connections.session import Session
from service.core.push.publications import publication_of
from tests.decodings import counted_decodes
from tests.fakes import Stage, stage

SIZE = 1 << 18
LISTS = b"[" + b",".join([b"[]"] * (SIZE // 3)) + b"]"
ESCAPED = b'["\\u0041",{"type":0,"client_id":0,"request_id":0,"data":{},"x":%b}]' % LISTS
"""Where an escape could hide a key, and keys stand twice, they are looked at."""
COLONS = b"[" + b",".join([b'{"type":0}'] * (SIZE // 11)) + b"]"
VALUES = [LISTS, ESCAPED, COLONS, LISTS[:-1], LISTS[:-1] + b",NaN]"]
_NAMES = ["lists", "escapes", "colons", "no-end", "nan"]


@pytest.fixture(params=VALUES, ids=_NAMES)
def value(request: pytest.FixtureRequest) -> bytes:
    """A large value."""
    made: bytes = request.param
    return made


def counted(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> int:
    """How often something large is decoded in a call."""
    with counted_decodes(monkeypatch) as sizes:
        call()
    return sum(size > SIZE // 4 for size in sizes)


def most_of(message: bytes) -> int:
    """What is no object is refused at its first byte, and then read to see whether it is JSON."""
    return 1 if message.startswith(b"{") else 2


FIRST = [
    b'{"type":"c_client_register","client_id":"c","x":%b}',
    b'{"x":%b,"type":"c_client_register","client_id":"c"}',
    b'{"x":%b,"type":"c_client_register","client_id":5}',
    b'{"x":%b,"type":"c_client_register","resume":{"epoch":"e","offsets":{"a":"b"}}}',
    b'{"x":%b,"client_id":5,"type":"c_client_register","client_id":"c"}',
    b'{"x":%b,"type":"nonsense"}',
    b'{"x":%b,"type":5}',
    b'{"x":%b}',
    b'{"command":"echo","request_id":1,"data":%b}',
    b'{"x":%b,"command":5}',
    b'{"x":%b,"command":"echo","timeout":"long"}',
    b'{"x":%b,"command":"echo","command":"echo"}',
    b'{"request_id":"r","data":%b}',
    b'{"x":%b,"request_id":"r","cancel":true}',
    b'{"request_id":%b,"command":"echo"}',
    b"[%b]",
    b"%b,",
]


@pytest.mark.parametrize("message", FIRST, ids=bytes.decode)
def test_a_first_message_is_read_once(message: bytes, value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with a mistake at its end was read four times, and five times where keys had to be looked at."""
    house = stage()
    session, _ = house.connect("/ws")
    assert counted(monkeypatch, lambda: house.say(session, message % value)) <= most_of(message)
    assert not house.journal.broken


@pytest.mark.parametrize(
    "message",
    [
        b'{"data":{"x":%b},"type":"connect"}',
        b'{"data":{"x":%b,"capacity":"many"},"type":"connect"}',
        b'{"data":%b,"type":"request","msg_id":5}',
    ],
    ids=bytes.decode,
)
def test_a_first_envelope_is_read_twice(message: bytes, value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """To see that it is one, and then with what its `data` holds."""
    house = stage()
    session, _ = house.connect("/ws")
    assert counted(monkeypatch, lambda: house.say(session, message % value)) <= 2
    assert not house.journal.broken


MANY = b",".join(b'"k%d":0' % number for number in range(1000))
"""More keys than are looked at one by one."""


@pytest.mark.parametrize("many", [MANY, b'"x":%b,%b' % (LISTS, MANY)], ids=["early", "behind lists"])
@pytest.mark.parametrize(
    "message",
    [
        b'{%b,"type":"c_client_registers","client_id":"c"}',
        b'{%b,"type":"heartbeat","note":"c_client_register"}',
        b'{%b,"command":"c_client_register"}',
        b'{%b,"type":"connect","msg_id":"m","data":{"client_id":"e"}}',
        b'{"type":"request","msg_id":"m",%b}',
        b"{%b}",
    ],
    ids=bytes.decode,
)
def test_a_first_message_of_very_many_fields_is_refused_unless_it_is_a_registration(
    message: bytes, many: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was read twice, and its known fields taken from it."""
    house = stage()
    session, peer = house.connect("/ws")
    most = 2 if b'"c_client_register"' in message else 1
    assert counted(monkeypatch, lambda: house.say(session, message % many)) <= most
    assert "The message has too many keys." in str(peer.take())
    assert [code for code, _ in peer.closes] == [1003]


@pytest.mark.parametrize("many", [MANY, b'"x":%b,%b' % (LISTS, MANY)], ids=["early", "behind lists"])
def test_a_registration_may_have_very_many_fields(many: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that aren't known are ignored, as clients were promised."""
    for message in (
        b'{"type":"c_client_register",%b,"client_id":"c"}',
        b'{%b,"client_id":"c","type":"c_client_register"}',
    ):
        house = stage()
        session, peer = house.connect("/ws")
        assert counted(monkeypatch, partial(house.say, session, message % many)) <= 2
        (answer,) = peer.take()
        assert (answer["type"], answer["client_id"]) == ("registration_success", "c")


def test_a_first_request_of_very_many_fields_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    session, peer = house.connect("/ws")
    message = b'{"x":%b,%b,"command":"echo"}' % (LISTS, MANY)
    assert counted(monkeypatch, lambda: house.say(session, message)) <= 1
    assert [(answer["success"], answer["error"]) for answer in peer.take()] == [
        (False, "The message has too many keys.")
    ]


@pytest.mark.parametrize(
    "data", [b'{"x":%b,%b,"capacity":"many"}' % (LISTS, MANY), b'{"client_id":"e",%b,"x":%b}' % (MANY, LISTS)]
)
@pytest.mark.parametrize("kind", ["connect", "handshake", "request", "response"])
def test_data_of_very_many_fields_is_refused(kind: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first `connect` was read four times."""
    house = stage()
    message = b'{"data":%b,"type":"%b","msg_id":"m"}' % (data, kind.encode())
    for session in (envelope(house), house.connect("/ws")[0]):
        assert counted(monkeypatch, partial(house.say, session, message)) <= 2
        answer = house.peers[session].take()[-1]
        assert answer["type"] == "error"
        assert answer["data"] == {"error": "The message has too many keys.", "code": "bad_json", "msg_id": "m"}
        assert session.identity.client_id in (None, "e")


def test_data_that_has_no_form_of_its_own_may_have_very_many_fields() -> None:
    house = stage()
    session, peer = house.worker()
    for data in (b'{"event":"wave",%b}' % MANY, b'{%b,"event":"wave"}' % MANY):
        (answer,) = house.ask(session, b'{"data":%b,"type":"custom"}' % data)
        assert (answer["data"]["code"], answer["data"]["field"]) == ("unknown_type", "event")  # it was read
        assert house.ask(session, b'{"data":%b,"type":"heartbeat"}' % data)[0]["type"] == "heartbeat"
    doubled = b'{"data":{%b,"event":"wave","event":"wave"},"type":"custom","msg_id":"m"}' % MANY
    (answer,) = house.ask(session, doubled)
    assert (answer["data"]["code"], answer["data"]["error"]) == ("bad_json", "The message has too many keys.")
    no_json = b'{"data":{%b},"type":"custom","x":nothing}' % MANY
    (answer,) = house.ask(session, no_json)
    assert answer["data"]["code"] == "bad_json"
    assert peer.closes == []


def test_a_client_s_flat_answer_may_have_very_many_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is the result where it has none by name."""
    house = stage()
    session = asked(house)
    message = b'{"x":%b,%b,"type":"nonsense","request_id":"nobody"}' % (LISTS, MANY)
    assert counted(monkeypatch, lambda: house.say(session, message)) <= 2
    assert not house.journal.broken


def registered(house: Stage) -> Session:
    """A C-Client."""
    session, _ = house.client(client_id="c")
    return session


def asked(house: Stage) -> Session:
    """A C-Client that was asked something, and has yet to answer."""
    session, _ = house.client(client_id="c")
    caller, _ = house.client(client_id="caller")
    link = house.gateway.client_requests.find_client("c")
    assert link is not None
    house.gateway.dispatcher.ask_client(link, caller, "t", "act", Raw(b"null"), None, "c")
    return session


def envelope(house: Stage) -> Session:
    """A client that speaks envelopes."""
    session, _ = house.connect("/ws")
    house.say(session, {"type": "connect", "data": {"client_id": "e"}})
    return session


def worker(house: Stage) -> Session:
    """A worker."""
    session, _ = house.worker()
    return session


def requester(house: Stage) -> Session:
    """A requester."""
    session, _ = house.connect("/ws")
    house.say(session, {"command": "none", "request_id": 0})
    return session


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (registered, b'{"x":%b,"type":"heartbeat"}'),
        (registered, b'{"x":%b,"type":"session_feedback","success":5}'),
        (registered, b'{"x":%b,"type":"token_refresh"}'),
        (registered, b'{"x":%b,"type":"c_client_register","client_id":5}'),
        (registered, b'{"x":%b,"type":"nonsense"}'),
        (registered, b'{"x":%b,"type":5}'),
        (registered, b'{"x":%b}'),
        (registered, b'{"user_id":%b,"type":"c_client_register"}'),
        (asked, b'{"request_id":"nobody","data":%b}'),
        (asked, b'{"data":%b,"type":"nonsense","request_id":5}'),
        (envelope, b'{"type":"request","data":{"action":"get_time","params":%b}}'),
        (envelope, b'{"type":"request","data":{"params":%b,"action":5}}'),
        (envelope, b'{"type":"connect","data":{"x":%b,"role":"king"}}'),
        (envelope, b'{"type":"custom","data":{"x":%b,"event":"nonsense"}}'),
        (envelope, b'{"data":%b,"type":"nonsense"}'),
        (envelope, b'{"data":%b,"type":5}'),
        (envelope, b'{"data":%b}'),
        (envelope, b'{"x":%b,"data":5,"type":"request"}'),
        (worker, b'{"type":"response","msg_id":"r-9","data":{"x":%b,"success":"no"}}'),
        (worker, b'{"type":"response","msg_id":"r-9","data":{"result":%b,"partial":5}}'),
        (worker, b'{"x":%b,"msg_id":5,"type":"response"}'),
        (requester, b'{"command":"none","data":%b}'),
        (requester, b'{"data":%b,"command":5}'),
        (requester, b'{"x":%b,"command":"none","stream":5}'),
        (requester, b'{"x":%b,"request_id":1}'),
        (requester, b'{"x":%b,"cancel":true}'),
    ],
    ids=lambda part: part.decode() if isinstance(part, bytes) else part.__name__,
)
def test_a_message_is_read_once(
    who: Callable[[Stage], Session], message: bytes, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was refused was read twice or three times."""
    house = stage()
    session = who(house)
    most = 2 if who is worker and b"NaN" in value else 1  # it is read again, mended
    assert counted(monkeypatch, lambda: house.say(session, message % value)) <= most
    assert not house.journal.broken


def test_a_worker_that_has_sent_nan_is_read_once_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    house = stage()
    session, peer = house.worker(capacity=5)
    caller, _ = house.connect("/ws")
    reads = []
    for _ in range(3):
        house.say(caller, {"command": "echo", "request_id": 1})
        name = peer.take()[-1]["msg_id"].encode()
        answer = b'{"type":"response","msg_id":"%b","data":{"success":true,"result":[%b,NaN]}}' % (name, LISTS)
        reads.append(counted(monkeypatch, partial(house.say, session, answer)))
    assert house.gateway.counters.answers_mended == 3
    assert reads == [2, 1, 1]


@pytest.mark.parametrize("read", [publication_of, read_ordinary])
@pytest.mark.parametrize(
    "message",
    [
        b'{"target":{"user_id":"u"},"type":"t","data":{"x":%b}}',
        b'{"data":{"x":%b},"target":{"user_id":"u"},"type":5}',
        b'{"data":{"x":%b},"target":{"user_id":"u"},"type":"t","typo":5}',
        b'{"data":{"x":%b},"target":{"user_id":"u","type":"t"}}',
        b'{"data":%b,"target":{},"type":"t"}',
        b'{"data":{"x":%b}}',
        b"[%b]",
    ],
    ids=bytes.decode,
)
def test_what_back_ends_send_is_read_once(
    read: Callable[[bytes], object], message: bytes, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By HTTP, by the ingress stream, and over a user's channel. One with a mistake at its end was read twice."""

    def call() -> None:
        with suppress(PeerFault):
            read(message % value)

    assert counted(monkeypatch, call) <= most_of(message)
