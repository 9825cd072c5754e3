"""HTTP/1.1 on one connection, without a socket: what is read, answered and left, request by request."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from service.core.counters import Counters
from service.core.ports import BODY_DISCARDED, BODY_SECONDS, HttpAnswer
from service.transports import http1
from service.transports.http1 import KEEP_ALIVE, SEND_SECONDS, TURN, UNREAD, Http1
from service.transports.proxies import ProxyRules

ANSWER = HttpAnswer(200, (("a", "b"),), b"hello")


class Call:
    """An HttpCall: `answer` is what it answers, or a function of the body. `bodies` are those that it got."""

    def __init__(self, answer: Any = ANSWER, limit: int = 10) -> None:
        self.outdated = False
        self.body_limit = limit
        self.bodies: list[bytes] = []
        self.observed = 0
        self._answer = answer

    def answer(self, body: bytes) -> HttpAnswer | Awaitable[HttpAnswer]:
        self.bodies.append(body)
        answer: HttpAnswer = self._answer(body) if callable(self._answer) else self._answer
        return answer

    def refuse_large(self) -> HttpAnswer:
        return HttpAnswer(413, (), b"")

    def refuse_slow(self) -> HttpAnswer:
        return HttpAnswer(400, (), b"")

    def observe(self, answer: HttpAnswer, received: int, seconds: float) -> None:
        self.observed += 1


class Accepted:
    """AcceptedConnections that writes down what it is told. `refusal`: the answer to one too many."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.refusal: HttpAnswer | None = None

    def accepted(self, address: str | None) -> None:
        self.told.append(f"accepted {address}")

    def attributed(self, before: str | None, address: str) -> None:
        self.told.append(f"attributed {address}")

    def is_full(self, address: str | None) -> bool:
        return self.refusal is not None

    def full(self, address: str | None) -> HttpAnswer | None:
        return self.refusal

    def ended(self, address: str | None) -> None:
        self.told.append(f"ended {address}")


class Scene:
    """One connection, which is its own Link, Host and Api. `told` is what was asked of the link."""

    address = "192.0.2.1"
    kind = "http"
    scheme = "http"
    certificate = None
    handshake_timeout = 3.0
    outbound_limit = 1000
    h2c = False
    others_websocket: Callable[[str], bool] | None = None
    draining = False

    def __init__(self, call: Call | None = None, **more: Any) -> None:
        self.counts = Counters()
        self.accepted_connections = Accepted()
        self.resolve_source = ProxyRules().resolve
        self.http_api: Any = self
        self.now = 100.0
        self.unsent = 0
        self.sent = b""
        self.told: list[str] = []
        self.given_away: list[bytes] = []
        self.deadline = 0.0
        self.takes = True
        self.answered: Call | None = call or Call()
        self.limits: list[bool] = []
        self.nursery: trio.Nursery
        for name, value in more.items():
            setattr(self, name, value)
        self.http = Http1(self, self, self, self.now)  # type: ignore[arg-type]  # all three in one

    # The Api

    def call(self, head: Any) -> Call | None:
        return self.answered

    def over_rate(self, head: Any, *, counts: bool = True) -> None:
        self.limits.append(counts)

    # The Host

    def address_of(self, peer: str) -> str | None:
        return peer

    # The Link

    def put(self, data: bytes) -> None:
        self.sent += data

    def finish(self) -> None:
        self.told.append("finish")

    def gone(self) -> None:
        self.told.append("gone")

    def on_error(self, error: Exception) -> None:
        raise error

    def upgrade(self, request: Any, rest: bytes) -> None:
        self.told.append(f"upgrade {rest!r}")

    def give_away(self, received: bytes) -> bool:
        self.given_away.append(received)
        return self.takes

    def pause_reading(self, paused: bool) -> None:
        self.told.append("pause" if paused else "read on")

    def let_others(self) -> None:
        self.told.append("let others")

    def set_deadline(self, deadline: float) -> None:
        self.deadline = deadline

    # What a test asks.

    def say(self, data: bytes) -> list[int]:
        """The statuses that this is answered with."""
        before = len(self.sent)
        self.http.receive(data)
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.sent[before:])]


@pytest.fixture(autouse=True)
def _long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn ends by the number of requests, however slow the machine is now."""
    monkeypatch.setattr(http1, "TURN_SECONDS", 60.0)


def get(path: str = "/", **headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: h", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def post(body: bytes, *lines: str) -> bytes:
    return "\r\n".join(["POST / HTTP/1.1", "Host: h", *lines, "", ""]).encode() + body


def test_requests_are_answered_in_their_order_however_they_are_cut() -> None:
    at = Scene()
    assert at.http.untouched
    whole = get() + post(b"body", "Content-Length: 4") + get()
    for place in range(len(whole)):
        at.say(whole[place : place + 1])
    assert at.answered is not None
    assert (at.answered.bodies, at.answered.observed) == ([b"", b"body", b""], 3)
    assert not at.http.untouched
    assert at.accepted_connections.told[:2] == ["accepted 192.0.2.1", "attributed 192.0.2.1"]


def test_one_empty_line_before_a_request_is_passed_over_however_it_is_cut() -> None:
    whole = b"\r\n" + get() + b"\r\n" + post(b"body", "Content-Length: 4") + b"\r\n" + get()
    at = Scene()
    assert at.say(whole) == [200] * 3
    for place in range(len(whole)):
        at.say(whole[place : place + 1])
    assert at.sent.count(b"HTTP/1.1 200") == 6
    assert at.say(b"\r\n") == []
    assert at.http.idle, "and is nothing that is waited for"
    assert at.say(b"\r\n" + get()) == [400], "a second is none"


def test_a_connection_is_kept_or_closed_as_was_agreed() -> None:
    for data, ends in ((get(), []), (get(Connection="close"), ["gone"]), (b"GET / HTTP/1.0\r\n\r\n", ["gone"])):
        at = Scene()
        assert at.say(data) == [200]
        at.http.written()
        assert at.told == ends
        assert (b"connection: close" in at.sent) is bool(ends)
    drained = Scene(draining=True)
    assert drained.say(get() + get()) == [200], "what is pipelined behind the last answer is not looked at"
    drained.http.written()
    assert drained.told == ["finish"]


@pytest.mark.parametrize(
    "data", [b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", b"\x16\x03\r\n\r\n"]
)
def test_broken_framing_is_the_last_answer(data: bytes) -> None:
    at = Scene()
    assert at.say(data + get()) == [400]
    assert at.say(get()) == []
    at.http.written()
    assert (at.told, at.counts.handshakes_refused) == (["finish"], 1)


def test_bodies_up_to_the_limit() -> None:
    at = Scene()
    assert at.say(post(b"x" * 10, "Content-Length: 10")) == [200]
    assert at.say(post(b"x" * 11, "Content-Length: 11")) == [413]
    assert at.say(post(b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked")) == [200]
    assert at.say(post(b"", f"Content-Length: {BODY_DISCARDED + 11}")) == [413], "not even read"
    assert at.answered is not None
    assert at.answered.bodies == [b"x" * 10, b"hello"]
    unwanted = Scene(Call(limit=0))
    assert unwanted.say(post(b"x" * 100, "Content-Length: 100")) == [200]
    assert unwanted.answered is not None
    assert unwanted.answered.bodies == [b""]


def test_a_body_is_asked_for_where_it_is_wanted() -> None:
    at = Scene()
    assert at.say(post(b"", "Content-Length: 4", "Expect: 100-continue")) == [100]
    assert at.say(b"body") == [200]
    assert at.say(post(b"", "Content-Length: 11", "Expect: 100-continue")) == [413]


async def test_one_that_waits_holds_those_behind_it_and_ends_with_its_connection() -> None:
    go, cancelled = trio.Event(), trio.Event()

    async def later() -> HttpAnswer:
        try:
            await go.wait()
        except trio.Cancelled:
            cancelled.set()
            raise
        return ANSWER

    async with trio.open_nursery() as nursery:
        at = Scene(Call(lambda _: later()), nursery=nursery)
        assert at.say(get() + get()) == []
        at.say(b"x" * (UNREAD + 1))
        assert at.told == ["pause"]
        go.set()
        await trio.testing.wait_all_tasks_blocked()
        assert at.sent.count(b"HTTP/1.1 200") == 1
        assert at.told == ["pause", "read on", "let others"]
        hung_up = Scene(Call(lambda _: later()), nursery=nursery)
        go = trio.Event()
        hung_up.say(get())
        await trio.testing.wait_all_tasks_blocked()
        hung_up.http.cancel()
        await cancelled.wait()
    assert hung_up.sent == b""
    assert hung_up.accepted_connections.told[-1] == "ended 192.0.2.1"


def test_nobody_has_more_than_a_turn() -> None:
    at = Scene()
    answered = at.say(get() * (TURN + 1))
    assert at.told == ["let others"]
    assert len(answered) == TURN
    assert at.http.begun
    assert at.say(b"") == [200]


def test_nor_for_longer_than_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "TURN_SECONDS", 0.0)
    at = Scene()
    assert at.say(get() * 3) == [200]
    assert at.told == ["let others"]


def test_who_takes_nothing_is_waited_for_and_cut() -> None:
    at = Scene(unsent=1001)
    assert at.say(get() + get()) == [200]
    assert at.deadline == at.now + SEND_SECONDS
    assert not at.http.due(at.now + SEND_SECONDS)
    at.unsent = 500
    assert not at.http.due(at.now + 2 * SEND_SECONDS), "some of it was taken"
    assert at.http.due(at.now + 3 * SEND_SECONDS)
    at.unsent = 0
    at.http.written()
    assert at.told == ["read on", "let others"]
    assert at.say(b"") == [200]


def test_times() -> None:
    silent = Scene()
    assert not silent.http.due(silent.now + 2.9)
    assert silent.http.due(silent.now + 3.0)
    idle = Scene()
    idle.say(get())
    assert not idle.http.due(idle.now + KEEP_ALIVE - 0.1)
    assert idle.http.due(idle.now + KEEP_ALIVE)
    slow = Scene()
    slow.say(post(b"", "Content-Length: 4"))
    assert not slow.http.due(slow.now + BODY_SECONDS - 1)
    assert not slow.http.due(slow.now + BODY_SECONDS)
    assert b"HTTP/1.1 400" in slow.sent


def test_what_is_another_servers_is_given_away_with_all_that_was_read() -> None:
    at = Scene()
    at.answered = None
    assert at.say(get("/other") + b"more") == []
    assert at.given_away == [get("/other") + b"more"]
    waiting = Scene(unsent=1)
    waiting.answered = None
    waiting.say(get("/other"))
    assert (waiting.given_away, waiting.told) == ([], ["pause"])
    waiting.unsent = 0
    waiting.http.written()
    assert waiting.given_away == [get("/other")]
    alone = Scene(takes=False)
    alone.answered = None
    assert alone.say(get("/other")) == [505]
    assert Scene().say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == [505]
    both = Scene(h2c=True)
    assert both.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == []
    assert len(both.given_away) == 1


def test_an_upgrade_is_the_links_and_counts_no_more() -> None:
    shown = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    ask = get("/ws", **shown, **{"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="})
    at = Scene()
    assert at.say(ask + b"frame") == []
    assert at.told == ["upgrade b'frame'"]
    assert at.accepted_connections.told[-1] == "ended 192.0.2.1"
    assert Scene().say(get("/ws", **shown)) == [400]
    assert Scene(kind="redirect").say(ask) == [200]
    another = Scene(others_websocket=lambda path: path == "/ws")
    assert another.say(ask) == []
    assert another.given_away == [ask], "a WebSocket of another server's"


def test_one_too_many_is_refused_but_for_probes() -> None:
    at = Scene()
    at.accepted_connections.refusal = HttpAnswer(503, (("content-type", "text/plain"), ("retry-after", "5")), b"full\n")
    assert at.say(get()) == [503]
    assert b"retry-after: 5" in at.sent
    assert at.accepted_connections.told[-1] == "ended 192.0.2.1"
    probe = Scene()
    probe.accepted_connections.refusal = HttpAnswer(503, (), b"")
    assert probe.say(get("/livez")) == [200]
    assert b"connection: close" in probe.sent


def test_the_same_head_is_read_once_until_it_is_outdated() -> None:
    calls: list[Call] = []
    at = Scene()

    def call(head: Any) -> Call:
        calls.append(Call())
        return calls[-1]

    at.call = call  # type: ignore[method-assign]
    at.say(get() + get())
    assert len(calls) == 1
    assert calls[0].observed == 2
    assert at.limits == [True, True], "each counts"
    calls[0].outdated = True
    at.say(get())
    assert len(calls) == 2
