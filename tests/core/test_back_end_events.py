"""What back ends are told: who comes and goes, what fails, what clients say; and nothing where nobody listens."""

import json
from typing import Any

import pytest
from msgspec import Raw

from portico.wire.codes import CloseCode
from service.core.back_end_events import BackEndEvent
from service.core.reply import Reply
from tests.fakes import Stage, stage


class Kept:
    """An EventLog that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[BackEndEvent] = []

    def append(self, event: BackEndEvent) -> None:
        """Keep it."""
        self.all.append(event)

    def take(self) -> list[Any]:
        """What came since the last time."""
        taken = [json.loads(event.body) for event in self.all]
        self.all.clear()
        return taken


def at(relayed: tuple[str, ...] = ("*", "-"), **rules: Any) -> tuple[Stage, Kept]:
    log = Kept()
    return stage(event_log=log, relayed=relayed, **rules), log


def test_who_comes_and_goes() -> None:
    gw, log = at()
    session, _ = gw.client(client_id="c1", user_id="ann", channel_id="news")
    (came,) = log.take()
    assert (came["event"], came["client_id"], came["user_id"], came["channel_id"], came["connection_id"]) == (
        "registered",
        "c1",
        "ann",
        "news",
        session.id,
    )
    assert (came["dialect"], came["node"]) == ("c_client", gw.gateway.backplane.node)
    gw.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "ann", "channel_id": "news"})
    assert not log.take(), "nothing has changed"
    gw.say(session, {"type": "c_client_register", "client_id": "c1", "user_id": "bob"})
    assert [(one["event"], one["user_id"]) for one in log.take()] == [("left", "ann"), ("registered", "bob")]
    gw.close(session, 1001, "away")
    (went,) = log.take()
    assert (went["event"], went["user_id"], went["code"], went["reason"]) == ("left", "bob", 1001, "away")


def test_workers_and_users_come_and_go_too_and_strangers_do_not() -> None:
    gw, log = at()
    worker, _ = gw.worker("w1")
    user, _ = gw.connect("/ws/ann")
    stranger, _ = gw.connect("/ws")
    assert [(one["event"], one["dialect"], one["user_id"]) for one in log.take()] == [
        ("registered", "envelope", None),
        ("left", "envelope", None),  # as whom it was before it said its name
        ("registered", "envelope", None),
        ("registered", "user", "ann"),
    ]
    for session in (worker, user, stranger):
        gw.close(session)
    assert [one["event"] for one in log.take()] == ["left", "left"]


MESSAGES: list[dict[str, Any]] = [
    {"type": "cookie_response", "cookies": [{"name": "a", "value": 1.0}]},
    {"type": "user_activities_batch", "activities": []},
    {"request_id": "r9", "data": 1},
    {"anything": None},
]


@pytest.mark.parametrize("message", MESSAGES)
def test_what_the_gateway_does_not_know_is_passed_on_as_it_came(message: dict[str, Any]) -> None:
    gw, log = at()
    session, _ = gw.client(client_id="c1", user_id="ann")
    log.take()
    text = json.dumps(message, indent=1)
    assert gw.ask(session, text) == [], "it is answered with nothing"
    (told,) = log.all
    assert text.encode() in told.body
    (told_json,) = log.take()
    assert (told_json["event"], told_json["user_id"], told_json["connection_id"]) == ("message", "ann", session.id)
    assert told_json["message"] == message


@pytest.mark.parametrize(
    ("relayed", "message", "passed"),
    [
        (("a",), {"type": "a"}, True),
        (("a",), {"type": "b"}, False),
        (("a",), {}, False),
        (("-",), {}, True),
        (("-",), {"type": "a"}, False),
        (("*",), {}, False),
    ],
)
def test_only_what_is_wanted_is_passed_on(relayed: tuple[str, ...], message: dict[str, Any], passed: bool) -> None:
    gw, log = at(relayed)
    session, _ = gw.client(client_id="c1")
    log.take()
    answers = gw.ask(session, message)
    assert bool(log.take()) is passed
    assert [one["type"] for one in answers] == ([] if passed else ["error"])


@pytest.mark.parametrize(
    "message", [b'{"type": "a", "x": 1e999}', b'{"type": "a", "type": "b"}', b'{"type": "a", "x": NaN}', b"[1]", b"{"]
)
def test_what_is_no_strict_json_is_not_passed_on(message: bytes) -> None:
    gw, log = at()
    session, _ = gw.client(client_id="c1")
    log.take()
    (answer,) = gw.ask(session, message)
    assert answer["type"] == "error"
    assert not log.take()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "custom", "data": {"event": "user_activities_batch", "list": []}},
        {"type": "notification", "data": {"event": "logout_feedback"}},
        {"type": "cookie_response", "data": {}},
    ],
)
def test_envelope_clients_messages_are_passed_on_too(message: dict[str, Any]) -> None:
    gw, log = at()
    session, _ = gw.connect("/")
    gw.say(session, {"type": "connect", "data": {"client_id": "e1", "user_id": "ann"}})
    log.take()
    assert gw.ask(session, message) == []
    assert [(one["event"], one["message"]) for one in log.take()] == [("message", message)]


def test_one_that_has_not_registered_is_told_to() -> None:
    gw, log = at()
    session, _ = gw.connect("/", headers={"sec-websocket-protocol": "portico.c-client.v1"})
    (answer,) = gw.ask(session, {"type": "cookie_response"})
    assert answer["code"] == "not_registered"
    assert not log.take()


def test_where_nobody_listens_it_is_an_error_as_ever() -> None:
    gw = stage(relayed=("*", "-"))
    session, _ = gw.client(client_id="c1")
    assert not gw.gateway.events.listening
    assert gw.ask(session, {"type": "cookie_response"})[0]["code"] == "unknown_type"
    assert gw.ask(session, {"request_id": "r"})[0]["code"] == "missing_field"


def test_requests_that_fail() -> None:
    gw, log = at()
    requester, _ = gw.connect("/requester")
    gw.say(requester, {"command": "echo", "request_id": "r"})
    (told,) = log.take()
    assert (told["event"], told["command"], told["outcome"], told["error"]) == (
        "request_failed",
        "echo",
        "no_workers",
        "No available workers",
    )


def test_a_log_that_breaks_breaks_nothing() -> None:
    class Broken:
        def append(self, event: BackEndEvent) -> None:
            raise RuntimeError("broken")

    gw = stage(event_log=Broken(), relayed=())
    session, peer = gw.client(client_id="c1")
    gw.close(session)
    assert peer.close_code is None
    assert len(gw.journal.broken) == 2
    gw.journal.broken.clear()


# Asked by a back end


def asked(gw: Stage, client_id: str = "c1", action: str = "get_cookies", **more: Any) -> list[Any]:
    got: list[Any] = []

    class Caller:
        trusted = True
        party = "somebody"

        def on_answer(self, request: Any, outcome: Any) -> None:
            got.append(
                (outcome.kind.value, None if outcome.data is None else json.loads(bytes(outcome.data)), outcome.error)
            )

    def found(link: Any) -> None:
        gw.gateway.dispatcher.ask_client(link, Caller(), "1", action, Raw(b'{"a": 1}'), None, client_id)

    gw.gateway.client_requests.find(client_id, Reply(found))
    return got


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ({"data": {"b": 2}}, ("ok", {"b": 2}, None)),
        ({"type": "cookie_response", "success": True, "data": [1]}, ("ok", [1], None)),
        ({"type": "cookie_response", "success": 1, "result": None}, ("ok", None, None)),
        ({"success": False, "error": "no"}, ("error", None, "no")),
        ({"error": "no"}, ("error", None, "no")),
        ({"success": "", "data": "why"}, ("error", None, "why")),
    ],
)
@pytest.mark.parametrize("listens", [False, True])
def test_a_c_client_is_asked_and_answers_by_its_request_id(
    answer: dict[str, Any], outcome: tuple[object, ...], listens: bool
) -> None:
    gw, log = at() if listens else (stage(), Kept())
    session, peer = gw.client(client_id="c1")
    log.take()
    got = asked(gw)
    (question,) = peer.take()
    assert question == {"type": "get_cookies", "request_id": question["request_id"], "data": {"a": 1}}
    assert gw.ask(session, {"request_id": question["request_id"], **answer}) == []
    assert got == [outcome]
    assert [one for one in log.take() if one["event"] == "message"] == [], "it is no message for back ends"


def test_an_answer_without_data_is_the_whole_message() -> None:
    gw, _ = at()
    session, peer = gw.client(client_id="c1")
    got = asked(gw)
    said = {"type": "cookie_response", "request_id": peer.take()[0]["request_id"], "cookies": ["x"]}
    gw.say(session, said)
    assert got == [("ok", said, None)]


def test_another_clients_answer_is_none() -> None:
    gw, _ = at(relayed=())
    gw.client(client_id="c1")
    other, _ = gw.client(client_id="c2")
    got = asked(gw)
    assert gw.ask(other, {"request_id": "r-1", "data": 1})[0]["type"] == "error"
    assert not got


def test_one_that_leaves_is_lost() -> None:
    gw, _ = at()
    session, _ = gw.client(client_id="c1")
    got = asked(gw)
    gw.close(session, int(CloseCode.NORMAL))
    assert [kind for kind, *_ in got] == ["lost"]
