"""What a listener, a requester and a worker must not be told is counted; what they may be told is not."""

import json
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import gevent
import msgspec
import pytest

from loadtest._campaign import Campaign
from loadtest._link import LinkClosedError
from loadtest._marks import PUSH_TYPE, LoadMark
from loadtest._sessions import COMMAND, Listening, Requesting, Working
from tests.loadtest.told import Told

OPTIONS = {"request_rate": 50.0, "step_timeout": 5.0, "stream_parts": 0, "push_size": 3, "service_time": 0.0}


@pytest.fixture
def campaign() -> Iterator[Campaign]:
    options = Namespace(**OPTIONS, worker_key=None)
    made = Campaign(Namespace(parsed_options=options, host="http://127.0.0.1:9"))
    yield made
    made.schedule.close()
    made.reactor.close()
    assert made.schedule.faults == []


@pytest.fixture
def link() -> Told:
    return Told()


def faults(campaign: Campaign) -> dict[str, int]:
    return campaign.part(0).protocol_errors


def asked(campaign: Campaign, link: Told, parts: int = 0) -> tuple[Requesting, dict[str, Any]]:
    """A requester that has asked once, and what it asked."""
    campaign.options.stream_parts = parts
    # One that has just come waits for its workers, a second or so.
    session = Requesting(campaign, link, "r1")  # type: ignore[arg-type]  # all of a link that it needs
    link.attach(session)
    session._ask(time.time())
    campaign.hold()
    return session, link.sent[0]


def answer(request: dict[str, Any], **more: Any) -> dict[str, Any]:
    whole = {"request_id": request["request_id"], "success": True, "data": request["data"], "error": None}
    return whole | {"processed_by": "w1"} | more


def test_a_right_answer_is_counted_and_no_fault(campaign: Campaign, link: Told) -> None:
    _, request = asked(campaign, link)
    assert (request["command"], request["data"]["padding"]) == (COMMAND, "xxx")
    assert campaign.unanswered() == 1
    link.says(answer(request))
    assert (faults(campaign), campaign.unanswered()) == ({}, 0)
    assert (campaign.part(0).steps["request"].times.count, campaign.part(0).steps["request"].failures) == (1, 0)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"data": {"nonce": "another"}}, "an answer that is another's, or nobody's"),
        ({"data": None}, "an answer that is another's, or nobody's"),
        ({"processed_by": None}, "an answer that is another's, or nobody's"),
        ({"request_id": "who-1"}, "an answer to no request"),
        ({"request_id": 5}, "an answer to no request"),
    ],
)
def test_a_wrong_answer_is_a_fault(campaign: Campaign, link: Told, more: dict[str, Any], fault: str) -> None:
    _, request = asked(campaign, link)
    link.says(answer(request, **more))
    assert faults(campaign) == {fault: 1}


@pytest.mark.parametrize("field", ["request_id", "success", "data", "error", "processed_by"])
def test_an_answer_without_one_of_its_fields_is_a_fault(campaign: Campaign, link: Told, field: str) -> None:
    _, request = asked(campaign, link)
    whole = answer(request)
    del whole[field]
    link.says(whole, b"[]", b"\xff", b"nonsense")
    assert faults(campaign) == {
        "an answer without its five fields": 1,
        "a message that is no object": 2,
        "a binary message": 1,
    }


def test_an_error_is_a_failure_and_no_fault(campaign: Campaign, link: Told) -> None:
    _, request = asked(campaign, link)
    link.says(answer(request, success=False, data=None, error="No available workers", processed_by=None))
    assert faults(campaign) == {}
    assert campaign.part(0).steps["request"].errors == {"UnexpectedMessageError('No available workers')": 1}


@pytest.mark.parametrize(
    ("parts", "fault"),
    [([0, 1], None), ([0], "an answer without all its parts"), ([1, 0], "a partial answer out of order")],
)
def test_partial_answers(campaign: Campaign, link: Told, parts: list[int], fault: str | None) -> None:
    _, request = asked(campaign, link, parts=2)
    assert request["stream"] is True
    for part in parts:
        link.says(answer(request, partial=True, data={**request["data"], "part": part}))
    link.says(answer(request))
    assert set(faults(campaign)) == ({fault} if fault else set())
    # The first of them is timed.
    assert campaign.part(0).steps["partial"].times.count == 1


def test_a_connection_that_ends_fails_what_was_asked(campaign: Campaign, link: Told) -> None:
    session, _ = asked(campaign, link)
    session.on_closed(LinkClosedError(1006, "cut"))
    assert campaign.part(0).steps["request"].failures == 1
    assert campaign.unanswered() == 0
    with pytest.raises(LinkClosedError):
        session.over.get()


def test_a_worker_answers_what_it_is_asked_with_all_parts(campaign: Campaign, link: Told) -> None:
    campaign.options.stream_parts = 2
    worker = Working(campaign, link, "w1")  # type: ignore[arg-type]  # as above
    worker.start()
    assert link.sent[0]["data"]["commands"] == [COMMAND]
    data = {"action": COMMAND, "params": {"nonce": "n"}, "request": {"id": "i", "stream": True}}
    link.says({"type": "request", "msg_id": "m1", "timestamp": 1.0, "data": data})
    deadline = time.monotonic() + 30
    while len(link.sent) < 4 and time.monotonic() < deadline:
        gevent.sleep(0.002)
    answers = [each["data"] for each in link.sent[1:]]
    assert [(each.get("partial"), each["result"].get("part")) for each in answers] == [
        (True, 0),
        (True, 1),
        (None, None),
    ]
    assert {each["request_id"] for each in answers} == {"m1"}
    link.says({"type": "request", "msg_id": "m2", "data": {"action": COMMAND}}, {"type": "heartbeat"})
    link.says({"type": "error", "msg_id": "m3", "data": {"code": "forbidden"}})
    assert faults(campaign) == {
        "a request without its fields": 1,
        "an envelope without its fields": 1,
        "an error to a worker: forbidden": 1,
    }


def test_a_workers_key_is_shown_to_the_gateway_and_to_nobody_else(campaign: Campaign, link: Told) -> None:
    campaign.options.worker_key = "open-sesame"
    worker = Working(campaign, link, "w1")  # type: ignore[arg-type]  # as above
    worker.start()
    assert link.sent[0]["data"]["token"] == "open-sesame"
    link.says(b"\xff")
    (told,) = campaign.faults
    assert '"role"' in told.messages[0]
    assert "sesame" not in "".join(told.messages)


def push(campaign: Campaign, number: int, user: str | None, padding: str = "xxx") -> dict[str, Any]:
    now = time.time()
    mark = LoadMark(campaign.run, "p", number, 0, 0, now, now, 3, user)
    return {"type": PUSH_TYPE, "load": msgspec.to_builtins(mark), "padding": padding}


def test_a_listener_gets_what_is_for_it_once(campaign: Campaign, link: Told) -> None:
    listener = Listening(campaign, link, "u1")  # type: ignore[arg-type]  # as above
    listener.start()
    assert campaign.members == [listener]
    link.says(push(campaign, 1, "u1"), push(campaign, 1, None), push(campaign, 1, None), push(campaign, 2, "u2"))
    link.says(push(campaign, 3, "u1", "xx"), {"type": PUSH_TYPE}, {"type": "cart_updated"})
    aimed, broadcast = campaign.count("aimed", 0), campaign.count("broadcast", 0)
    assert (aimed.delivered, aimed.misdirected, broadcast.delivered, broadcast.doubled) == (2, 1, 1, 1)
    assert faults(campaign) == {"a push whose data is cut or changed": 1, "a push without its data": 1}
    listener.close()
    assert campaign.members == []
    assert json.loads(link.kept[-1][2]) == {"type": "cart_updated"}
