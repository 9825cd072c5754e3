"""Handshakes: which path, subprotocol, origin and address get in, and as what; how many connections."""

import pytest

from service.core.connections.admission import ConnectionLimits, OriginPolicy
from service.core.hosts import host_of
from service.core.ports import Admission, HttpAnswer

from ...fakes import ManualClock, MemoryPeer, Refused, handshake, refusal, stage


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/", "undecided"),
        ("/ws", "undecided"),
        ("/api/websocket", "undecided"),
        ("/ws/u1", "user"),
        ("/ws/a b", "user"),
        ("/ws/50%25", "user"),
        ("/ws/" + "x" * 256, "user"),
        ("/worker", "envelope"),
        ("/requester", "requester"),
    ],
)
def test_paths(path: str, dialect: str) -> None:
    session, _ = stage().connect(path)
    assert session.handler.name == dialect
    if dialect == "user":
        assert session.identity.user_id == path.removeprefix("/ws/"), "the transport has decoded it already"


@pytest.mark.parametrize("path", ["", "/x", "/ws/", "/ws/a/b", "/worker/", "//", "/WS", "/api/websocket/", "*"])
def test_any_other_path_is_404(path: str) -> None:
    status, body = refusal(stage().gateway.admit(handshake(path)))
    assert (status, body["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("user", ["x" * 257, "a\nb", "a\u202eb", "\ufffd"])
def test_user_ids_that_are_no_names(user: str) -> None:
    status, body = refusal(stage().gateway.admit(handshake(f"/ws/{user}")))
    assert (status, body["error"]["code"]) == (400, "bad_field")


@pytest.mark.parametrize(
    ("path", "offered", "chosen", "dialect"),
    [
        ("/", "portico.c-client.v1", "portico.c-client.v1", "c_client"),
        ("/ws", "chat, portico.envelope.v1", "portico.envelope.v1", "envelope"),
        ("/api/websocket", "portico.requester.v1,portico.envelope.v1", "portico.requester.v1", "requester"),
        ("/", "chat", None, "undecided"),
        ("/", "", None, "undecided"),
        ("/worker", "portico.envelope.v1", "portico.envelope.v1", "envelope"),
        ("/worker", "portico.requester.v1", None, "envelope"),
        ("/requester", "portico.c-client.v1, portico.requester.v1", "portico.requester.v1", "requester"),
        ("/ws/u1", "portico.c-client.v1", None, "user"),
    ],
)
def test_subprotocols(path: str, offered: str, chosen: str | None, dialect: str) -> None:
    house = stage()
    admission = house.gateway.admit(handshake(path, headers={"sec-websocket-protocol": offered}))
    assert isinstance(admission, Admission)
    assert (admission.subprotocol, admission.dialect) == (chosen, dialect)


def test_a_worker_port_takes_any_path_and_no_larger_messages_until_it_is_a_worker() -> None:
    house = stage(max_message_size=10, max_worker_message_size=50)
    for path, kind, worker in (("/x/y", "worker", True), ("/worker", "websocket", True), ("/", "websocket", False)):
        admission = house.gateway.admit(handshake(path, kind=kind))
        assert isinstance(admission, Admission)
        assert (admission.max_message_size, admission.worker) == (10, worker)


def test_an_origin_that_is_not_allowed_is_403() -> None:
    house = stage(allowed_origins=["https://app.example.com"])
    status, body = refusal(house.gateway.admit(handshake(headers={"origin": "https://evil.example"})))
    assert (status, body["error"]["code"]) == (403, "forbidden")
    for origin in ("https://app.example.com", "http://127.0.0.1:8000"):
        assert isinstance(house.gateway.admit(handshake(headers={"origin": origin})), Admission)


def test_while_draining_nobody_comes_in() -> None:
    house = stage()
    house.gateway.announce_drain(1000)
    answer = house.gateway.admit(handshake())
    assert isinstance(answer, HttpAnswer)
    assert answer.status == 503
    assert dict(answer.headers)["retry-after"]


def test_limits_refuse_with_503_and_when_to_come_back() -> None:
    house = stage(max_connections=2)
    first, _ = house.connect()
    house.connect()
    with pytest.raises(Refused) as caught:
        house.connect()
    assert caught.value.answer.status == 503
    assert int(dict(caught.value.answer.headers)["retry-after"]) > 0
    house.close(first)
    house.connect()


@pytest.mark.parametrize("rules", [{"max_connections": 1}, {"max_connections_per_address": 1}])
def test_those_admitted_at_once_get_1013_where_they_are_too_many(rules: dict[str, int]) -> None:
    house = stage(**rules)
    tickets = [house.gateway.admit(handshake()) for _ in range(2)]
    peers = [MemoryPeer(), MemoryPeer()]
    sessions = []
    for peer, ticket in zip(peers, tickets, strict=True):
        assert isinstance(ticket, Admission)
        sessions.append(house.gateway.opened(peer, ticket))
    assert [peer.close_code for peer in peers] == [None, 1013]
    for session in sessions:
        session.closed(1000, "")
    assert house.gateway.admission_control.limits._open == 0
    house.connect()


@pytest.mark.parametrize("header", ["Bearer api", "bearer api", "Bearer  api "])
def test_an_api_key_is_trust(header: str) -> None:
    house = stage(production=True, api_keys=["api"])
    admission = house.gateway.admit(handshake("/worker", headers={"authorization": header}))
    assert isinstance(admission, Admission)
    assert admission.key is not None


@pytest.mark.parametrize(
    "header", ["", "api", "Bearer", "Bearer ", "Bearer x", "Basic api", "Bearer \udcff", "Bearer ä"]
)
def test_anything_else_is_none(header: str) -> None:
    for keys in (["api"], [], [""]):
        house = stage(production=True, api_keys=keys)
        admission = house.gateway.admit(handshake("/worker", headers={"authorization": header}))
        assert isinstance(admission, Admission)
        assert admission.key is None


HOST = "gw.example.com:8766"


@pytest.mark.parametrize(
    ("allowed", "origin", "host", "expected"),
    [
        ([], None, HOST, True),
        ([], "http://gw.example.com", HOST, True),
        ([], "http://gw.example.com:8000", HOST, True),
        ([], "https://GW.example.com", HOST, True),
        ([], "http://localhost:8000", "localhost:8766", True),
        ([], "http://[::1]:8000", "[::1]:8766", True),
        ([], "http://127.0.0.1:8000", "localhost:8766", False),
        ([], "http://gw.example.com.evil.net", HOST, False),
        ([], "http://gw.example.com@evil.net", HOST, False),
        ([], "file://gw.example.com", HOST, False),
        ([], "null", HOST, False),
        ([], "null", "", False),
        ([], "", "", False),
        ([], "http://", "", False),
        ([], "http://[", HOST, False),
        ([], "nonsense", HOST, False),
        # No browser sends these: an origin is a scheme, a host and maybe a port (RFC 6454 section 6.2).
        ([], "http://evil.net:80@gw.example.com", HOST, False),
        ([], "http://gw.example.com:8766.evil.net", HOST, False),
        ([], "http://gw.example.com/evil", HOST, False),
        ([], "http://gw.example.com?evil", HOST, False),
        ([], "http://gw.example.com ", HOST, False),
        ([], "http://gw.example.com:", HOST, False),
        ([], "http://gw.example.com:8000, http://evil.net", HOST, False),
        (["https://*.example.org"], "https://evil.net:1@a.example.org", HOST, False),
        (["https://*.example.org"], "https://evil.net\\.example.org", HOST, False),
        (["https://*.example.org"], "https://evil.net .example.org", HOST, False),
        (["https://app.example.org"], "https://app.example.org", HOST, True),
        (["https://App.Example.org/"], "https://app.example.org", HOST, True),
        (["https://app.example.org"], "http://app.example.org", HOST, False),
        (["https://app.example.org"], "https://app.example.org:8443", HOST, False),
        (["https://*.example.org"], "https://a.example.org", HOST, True),
        (["https://*.example.org"], "https://a.b.example.org", HOST, True),
        (["https://*.example.org"], "https://example.org", HOST, False),
        (["https://*.example.org"], "http://a.example.org", HOST, False),
        (["https://*.example.org"], "https://evilexample.org", HOST, False),
        (["https://*.example.org:8443"], "https://a.example.org:8443", HOST, True),
        (["*"], "https://anything", HOST, True),
        (["*"], "null", HOST, True),
    ],
)
def test_who_may(allowed: list[str], origin: str | None, host: str, expected: bool) -> None:
    assert OriginPolicy(allowed, open_by_default=True).allows(origin, host) is expected


def test_unset_is_open_in_development_only() -> None:
    assert OriginPolicy(None, open_by_default=True).allows("https://anything", HOST)
    assert not OriginPolicy(None, open_by_default=False).allows("https://anything", HOST)
    assert OriginPolicy(None, open_by_default=False).allows("https://gw.example.com", HOST)


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("A.b:80", "a.b"),
        ("a.b", "a.b"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("", ""),
        (":80", ":80"),
        ("a:x", "a:x"),
    ],
)
def test_host_of(authority: str, host: str) -> None:
    assert host_of(authority) == host


def limits(clock: ManualClock, total: int = 0, per_address: int = 0, rate: float = 0.0) -> ConnectionLimits:
    return ConnectionLimits(now=clock.now, total=total, per_address=per_address, handshakes_per_second=rate)


def test_zero_is_no_limit() -> None:
    free = limits(ManualClock())
    for _ in range(10_000):
        assert free.check("a") is None
        assert free.opened("a") is None


def test_per_address() -> None:
    some = limits(ManualClock(), per_address=1)
    assert some.opened("a") is None
    assert some.check("a") is not None
    assert some.check("b") is None
    some.closed("a")
    assert some.check("a") is None
    assert not some._by_address, "an address that has gone leaves nothing"


@pytest.mark.parametrize(("rate", "burst"), [(5.0, 10), (0.5, 1), (0.1, 1)])
def test_handshakes_per_second_with_bursts_of_two(rate: float, burst: int) -> None:
    clock = ManualClock()
    some = limits(clock, rate=rate)
    assert [some.check("a") is None for _ in range(burst + 1)] == [True] * burst + [False]
    clock.move(1.01 / rate)
    assert [some.check("a") is None for _ in range(2)] == [True, False]
    clock.move(1000)
    assert sum(some.check("a") is None for _ in range(100)) == burst


def test_the_refusal_says_when_and_why() -> None:
    some = limits(ManualClock(), total=1)
    some.opened("a")
    answer = some.check("b")
    assert answer is not None
    assert (answer.status, dict(answer.headers)["retry-after"]) == (503, "5")
    assert b"limit of connections" in answer.body
    assert some.opened("b") is not None


def test_of_ipv6_a_whole_household_counts_as_one_address() -> None:
    limits = ConnectionLimits(now=ManualClock().now, total=0, per_address=2, handshakes_per_second=0)
    for address in ("2001:db8::1", "2001:db8::2:1"):
        assert limits.check(address) is None
        assert limits.opened(address) is None
    assert limits.check("2001:db8::ffff:ffff") is not None
    assert limits.opened("2001:db8::7") is not None
    assert limits.check("2001:db8:0:1::1") is None
    assert limits.check("::ffff:192.0.2.1") is None
    for address in ("2001:db8::7", "2001:db8::2:1"):
        limits.closed(address)
    assert limits.check("2001:db8::9") is None


def test_the_defaults_spare_this_machine() -> None:
    limits = ConnectionLimits(
        now=ManualClock().now, total=0, per_address=1, handshakes_per_second=1, spare_loopback=True
    )
    for _ in range(5):
        assert limits.check("127.0.0.1") is None
        assert limits.opened("127.0.0.1") is None
    assert limits.opened("192.0.2.1") is None
    assert limits.check("192.0.2.1") is not None
