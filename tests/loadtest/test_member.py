"""What the gateway must not say is counted, with what was said before it; what it may say is not."""

import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from loadtest._campaign import Campaign
from loadtest._link import LinkClosedError
from loadtest._marks import PUSH_TYPE, LoadMark, Seen
from loadtest._member import Member, NotRecoveredError, RegistrationError
from tests.loadtest.told import Told

ACK: dict[str, Any] = {
    "type": "registration_success",
    "client_id": "c1",
    "user_id": "c1",
    "connection_id": "k1",
    "node": "n1",
    "heartbeat_interval": 25,
    "resume": {"epoch": "e", "offsets": {"user:c1": 4}, "recovered": True},
}
HEARTBEAT = {"type": "heartbeat"}


@pytest.fixture
def campaign() -> Iterator[Campaign]:
    options = Namespace(heartbeat_interval=0.01, step_timeout=5.0)
    made = Campaign(Namespace(parsed_options=options, host="http://127.0.0.1:9"))
    yield made
    made.schedule.close()
    made.reactor.close()
    assert made.schedule.faults == []


@pytest.fixture
def link() -> Told:
    return Told()


@pytest.fixture
def member(campaign: Campaign, link: Told) -> Member:
    return Member(campaign, link, "c1", "c1")  # type: ignore[arg-type]  # all of a link that it needs


def registered(member: Member, link: Told, *acks: object) -> None:
    """Register, and have it answered so."""
    asking = gevent.spawn(member.register)
    gevent.sleep(0)
    link.says(*(acks or (ACK,)))
    asking.get(timeout=10)


def push(campaign: Campaign, number: int = 1, user: str | None = "c1", **more: Any) -> dict[str, Any]:
    now = time.time()
    mark = {"run": campaign.run, "pusher": "p", "number": number, "after": 0, "stage": 0, "intended": now}
    mark |= {"sent": now, "size": 3, "user": user, "sequence": None}
    mark |= {name: more.pop(name) for name in list(more) if name in mark}
    return {"type": PUSH_TYPE, "load": [mark[name] for name in LoadMark.__struct_fields__], "padding": "xxx"} | more


def faults(campaign: Campaign) -> dict[str, int]:
    return campaign.part(0).protocol_errors


def test_what_is_right_is_no_fault(campaign: Campaign, link: Told, member: Member) -> None:
    registered(member, link)
    link.says(push(campaign), push(campaign, user=None), push(campaign, number=9, run="another test"))
    link.says({"type": "cart_updated", "load": "of somebody else's", "stream": "channel:x", "offset": 3})
    assert faults(campaign) == {}
    assert (campaign.count("aimed", 0).delivered, campaign.count("broadcast", 0).delivered) == (1, 1)
    assert campaign.part(0).steps["delivery"].failures == 0


@pytest.mark.parametrize(
    ("acks", "fault"),
    [
        ([{**ACK, "client_id": "c2"}], "a registration_success with other ids"),
        ([{**ACK, "user_id": None}], "a registration_success with other ids"),
        ([{**ACK, "connection_id": None}], "a registration_success without its fields"),
        ([{**ACK, "heartbeat_interval": None}], "a registration_success without its fields"),
        ([ACK, ACK], "a registration answered twice"),
        ([{**ACK, "resume": {"epoch": 3}}, ACK], "a registration_success of a wrong form"),
        ([b"{", ACK], "a message that is not JSON"),
        ([b"\xff\x00", ACK], "a binary message"),
        ([b"[]", ACK], "a message without a type"),
    ],
)
def test_a_registration_answered_wrongly(
    campaign: Campaign, link: Told, member: Member, acks: list[object], fault: str
) -> None:
    registered(member, link, *acks)
    assert faults(campaign) == {fault: 1}
    (told,) = campaign.faults
    assert told.client == "c1"
    assert told.messages[0].startswith("> ")
    assert "c_client_register" in told.messages[0]


def test_a_token_is_shown_to_the_gateway_and_to_nobody_else(campaign: Campaign, link: Told, member: Member) -> None:
    asking = gevent.spawn(member.register, "open-sesame")
    gevent.sleep(0)
    link.says(ACK, ACK)
    asking.get(timeout=10)
    assert link.sent[0]["token"] == "open-sesame"
    (told,) = campaign.faults
    assert "c_client_register" in told.messages[0]
    assert "sesame" not in "".join(told.messages)


def test_a_gateway_that_speaks_first(campaign: Campaign, link: Told, member: Member) -> None:
    link.says(ACK)
    assert faults(campaign) == {"a message before the registration": 1}
    registered(member, link)
    assert faults(campaign) == {"a message before the registration": 1}


def test_one_connection_id_for_all(campaign: Campaign, member: Member, link: Told) -> None:
    registered(member, link)
    other = Told()
    second = Member(campaign, other, "c2", "c2")  # type: ignore[arg-type]  # as above
    registered(second, other, {**ACK, "client_id": "c2", "user_id": "c2"})
    assert faults(campaign) == {"a connection_id that another connection has": 1}


def test_two_heartbeats_for_one(campaign: Campaign, link: Told, member: Member) -> None:
    registered(member, link)
    member.start_heartbeats()
    while HEARTBEAT not in link.sent:
        gevent.sleep(0.005)
    campaign.hold()
    beats = link.sent.count(HEARTBEAT)
    link.says(*[HEARTBEAT] * (beats + 1))
    assert faults(campaign) == {"a heartbeat answered twice, or unasked": 1}
    assert campaign.part(0).steps["heartbeat"].times.count == beats


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"padding": "xx"}, "a push whose data is cut or changed"),
        ({"padding": "xxy"}, "a push whose data is cut or changed"),
        ({"padding": None}, "a push whose data is cut or changed"),
        ({"load": None}, "a push without its data"),
        ({"load": ["one"]}, f"a {PUSH_TYPE} of a wrong form"),
        ({"stream": "user:c1", "offset": 3}, "a live push with a stream or offset"),
        ({"sequence": 1}, "a durable push without its stream and offset"),
        ({"sequence": 1, "stream": "user:c2", "offset": 3}, "a durable push without its stream and offset"),
    ],
)
def test_a_push_of_a_wrong_form(
    campaign: Campaign, link: Told, member: Member, more: dict[str, Any], fault: str
) -> None:
    registered(member, link)
    link.says(push(campaign, **more))
    assert faults(campaign) == {fault: 1}


def test_doubled_reordered_and_misdirected_pushes(campaign: Campaign, link: Told, member: Member) -> None:
    registered(member, link)
    # The third was sent when the first two had been accepted, so it goes behind both.
    link.says(push(campaign, 1), push(campaign, 3, after=2), push(campaign, 2), push(campaign, 3, after=2))
    link.says(push(campaign, 4, user="c2"))
    count = campaign.count("aimed", 0)
    assert (count.delivered, count.doubled, count.reordered, count.misdirected) == (3, 1, 1, 1)
    assert campaign.part(0).steps["delivery"].failures == 3


def test_pushes_whose_order_is_open_may_come_in_any(campaign: Campaign, link: Told, member: Member) -> None:
    registered(member, link)
    link.says(*(push(campaign, number, user=None) for number in (2, 4, 1, 3)))
    count = campaign.count("broadcast", 0)
    assert (count.delivered, count.doubled, count.reordered) == (4, 0, 0)


def durable(campaign: Campaign, sequence: int, offset: int) -> dict[str, Any]:
    return push(campaign, sequence, sequence=sequence, stream="user:c1", offset=offset)


def test_durable_pushes_over_a_return(campaign: Campaign, link: Told, member: Member) -> None:
    registered(member, link)
    link.says(durable(campaign, 1, 5))
    member.gone()
    again = Told()
    returned = Member(campaign, again, "c1", "c1")  # type: ignore[arg-type]  # as above
    asking = gevent.spawn(returned.register)
    gevent.sleep(0)
    assert again.sent[0]["resume"] == {"epoch": "e", "offsets": {"user:c1": 5}}
    again.says(ACK)
    asking.get(timeout=10)
    # The second came, then the fourth, the third behind it, and the second again.
    again.says(*(durable(campaign, each, 4 + each) for each in (2, 4, 3, 2)))
    count = campaign.count("durable", 0)
    assert (count.delivered, count.doubled, count.reordered) == (4, 1, 1)
    assert faults(campaign) == {}


@pytest.mark.parametrize(
    ("resume", "fault"),
    [
        (None, "a resume answered without resume"),
        ({"epoch": "e", "offsets": {}}, "a resume answered without recovered"),
    ],
)
def test_a_resume_that_is_not_answered(
    campaign: Campaign, link: Told, member: Member, resume: dict[str, Any] | None, fault: str
) -> None:
    campaign.kept_of("c1").on_registered("e", {"user:c1": 4})
    registered(member, link, {**ACK, "resume": resume})
    assert faults(campaign) == {fault: 1}


def test_what_is_gone_fails_the_resume(campaign: Campaign, link: Told, member: Member) -> None:
    campaign.kept_of("c1").on_registered("e", {"user:c1": 4})
    with pytest.raises(NotRecoveredError):
        registered(member, link, {**ACK, "resume": {"epoch": "f", "offsets": {"user:c1": 9}, "recovered": False}})
    assert faults(campaign) == {}


def test_a_position_that_is_not_the_receipts(campaign: Campaign) -> None:
    kept = campaign.kept_of("c1")
    assert kept.on_receipt(1, "user:c1", 7) is None
    assert kept.receive(1, "user:c1", 7) == ("new", None)
    assert kept.receive(2, "user:c1", 8) == ("new", None)
    assert kept.on_receipt(2, "user:c1", 9) == "a receipt with another offset than the push"
    assert kept.on_receipt(3, "user:c2", 9) == "a receipt without the stream and offset of a durable push"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"type": "registration_rejected", "reason": "bad_field"}, "rejected: 'bad_field'$"),
        ({"type": "registration_rejected", "reason": "unauthorized"}, "rejected: 'unauthorized'; --token gives one$"),
        ({"type": "error", "code": "internal"}, "answered by the error 'internal'"),
    ],
)
def test_a_refused_registration(link: Told, member: Member, answer: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RegistrationError, match=sentence):
        registered(member, link, answer)


def test_an_end_in_the_middle_of_things(campaign: Campaign, link: Told, member: Member) -> None:
    registered(member, link)
    member.start_heartbeats()
    while HEARTBEAT not in link.sent:
        gevent.sleep(0.005)
    member.on_closed(LinkClosedError(1006, "cut"))
    with pytest.raises(LinkClosedError):
        member.stay()
    assert campaign.part(0).steps["heartbeat"].failures >= 1
    assert member.unanswered() == 0


def test_the_numbers_of_one_publisher_are_remembered_for_a_while() -> None:
    seen = Seen()
    assert [seen.receive(number, 0) for number in (1, 1000, 999, 999, 1000)] == [
        "new",
        "new",
        "new",
        "doubled",
        "doubled",
    ]
    assert seen.receive(600, 0) == "doubled"
    assert seen.receive(1001, 1000) == "new"
    assert seen.receive(998, 1000) == "reordered"
