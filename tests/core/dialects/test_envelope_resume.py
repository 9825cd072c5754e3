"""Envelope clients resume as C-Clients do: all that they missed comes, or they are told what may be lost."""

from typing import Any

import pytest
from msgspec import Raw

from portico.wire.messages import EVERYBODY, Event, Target
from service.core.cluster.backplane import Publication
from service.core.reply import Reply

from ...fakes import Stage, stage

ANN = Target("user_id", "u1")


def kept(house: Stage, number: int, target: Target = ANN) -> None:
    """A durable event."""
    publication = Publication(target, Event("tick", Raw(b'{"n":%d}' % number)), durable=True)
    house.gateway.backplane.publish(publication, Reply(lambda _: None))


def numbers(messages: list[Any]) -> list[int]:
    return [message["data"]["payload"]["n"] for message in messages]


@pytest.mark.parametrize("path", ["/ws", "/worker"])
def test_a_client_resumes_with_all_that_it_missed(path: str) -> None:
    house = stage()
    session, peer = house.connect("/ws")
    connect: dict[str, Any] = {"type": "connect", "data": {"client_id": "c1", "user_id": "u1", "role": "client"}}
    (greeting,) = house.ask(session, connect)
    left_off = greeting["data"]["resume"]
    assert (left_off["recovered"], set(left_off["offsets"])) == (True, {"all", "client:c1", "user:u1"})
    kept(house, 1)
    (seen,) = peer.take()
    house.close(session)
    for number in (2, 3):
        kept(house, number)
    kept(house, 4, EVERYBODY)
    offsets = {**left_off["offsets"], seen["data"]["stream"]: seen["data"]["offset"]}
    back, _ = house.connect(path)
    connect["data"]["resume"] = {"epoch": left_off["epoch"], "offsets": offsets}
    answer, *missed = house.ask(back, connect)[-4:]
    assert (answer["type"], answer["data"]["resume"]["recovered"]) == ("connect", True)
    assert sorted(numbers(missed)) == [2, 3, 4]
    assert {event["data"]["stream"] for event in missed} == {"user:u1", "all"}


def test_what_cannot_be_resumed_is_named() -> None:
    house = stage()
    session, _ = house.connect("/ws")
    resume = {"epoch": "another", "offsets": {"user:u1": 5}}
    (answer,) = house.ask(session, {"type": "connect", "data": {"user_id": "u1", "resume": resume}})
    assert (answer["data"]["resume"]["recovered"], answer["data"]["resume"]["lost"]) == (False, ["user:u1"])


@pytest.mark.parametrize("resume", [5, {"offsets": {}}, {"epoch": "e", "offsets": {"user:u1": "x"}}])
def test_a_resume_that_is_none_is_refused(resume: object) -> None:
    house = stage()
    session, _ = house.connect("/ws")
    (answer,) = house.ask(session, {"type": "connect", "msg_id": "m", "data": {"user_id": "u1", "resume": resume}})
    assert (answer["type"], answer["data"]["msg_id"]) == ("error", "m")
    assert answer["data"]["code"] in ("bad_field", "missing_field")
