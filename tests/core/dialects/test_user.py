"""/ws/{user_id}: echoes to all of the user's connections in this dialect, pushes as flat objects."""

import pytest
from msgspec import Raw

from portico.wire.messages import EVERYBODY, Event, Target

from ...fakes import stage, stages


@pytest.mark.parametrize("text", ["hello", "", "5", '{"type":"c_client_register"}', "not {json", "häl\u202elo"])
def test_a_text_is_echoed_to_all_of_the_user_s(text: str) -> None:
    house = stage()
    session, own = house.connect("/ws/u1")
    _, second = house.connect("/ws/u1")
    _, stranger = house.connect("/ws/u2")
    _, client = house.client(client_id="c", user_id="u1")
    house.say(session, text)
    assert own.texts == second.texts == [f"Echo: {text}"]
    assert stranger.texts == []
    assert client.take() == []


def test_pushes_for_the_user_and_to_all_are_flat() -> None:
    house = stage()
    _, peer = house.connect("/ws/u1")
    assert house.gateway.delivery.deliver(Target("user_id", "u1"), Event("e", Raw(b'{"a":1}'))) == (1, 1)
    assert house.gateway.delivery.deliver(EVERYBODY, Event("f")) == (1, 1)
    assert peer.take() == [{"type": "e", "a": 1}, {"type": "f"}]


def test_one_that_only_listens_is_welcome_and_hears_no_notice() -> None:
    house = stage()
    _, peer = house.connect("/ws/u1")
    house.pass_time(1000)
    house.gateway.announce_drain(1000)
    assert peer.texts == []
    assert peer.close_code is None


def test_binary_that_is_no_json() -> None:
    house = stage()
    session, peer = house.connect("/ws/u1")
    assert house.ask(session, b"\xff", text=False)[0]["code"] == "binary_not_supported"
    house.say(session, b'{"a":1}', text=False)
    assert peer.texts[-1] == 'Echo: {"a":1}'


def test_after_all_have_left_nobody_is_found() -> None:
    house = stage()
    sessions = [house.connect("/ws/u1")[0] for _ in range(3)]
    for session in sessions:
        house.close(session)
    assert not house.gateway.hub.find(Target("user_id", "u1"))


def test_an_echo_reaches_the_user_s_connections_on_all_nodes() -> None:
    first, second, third = stages(3)
    session, own = first.connect("/ws/u1")
    _, other = second.connect("/ws/u1")
    _, client = second.client(client_id="c", user_id="u1")
    _, stranger = third.connect("/ws/u2")
    first.say(session, "h\u00e4llo")
    assert own.texts == other.texts == ["Echo: h\u00e4llo"]
    assert stranger.texts == []
    assert client.take() == []
