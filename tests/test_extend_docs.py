"""The extensions that docs/how-to/extend.md shows do what it says, as they stand there."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Raw

from portico.wire.messages import Event, Target
from service.extensions import ExtensionError, extend

from .fakes import Refused, Stage, stage

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "extend.md"
BLOCKS: dict[str, str] = dict(
    re.findall(r"<!-- tested: (\w+) -->\n```python\n(.*?)```\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)
)


@pytest.fixture
def module_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory on the Python path; modules imported from it are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("shown_"):
            del sys.modules[name]


def extended(module_path: Path, name: str) -> Stage:
    (module_path / f"shown_{name}.py").write_text(BLOCKS[name], encoding="utf-8")
    house = stage()
    extend(house.gateway, [f"shown_{name}"])
    return house


def test_the_page_shows_what_is_tested_here() -> None:
    assert set(BLOCKS) == {"action", "message", "dialect"}


def test_the_action(module_path: Path) -> None:
    house = extended(module_path, "action")
    session, _ = house.connect("/ws")
    (answer,) = house.ask(session, {"type": "request", "msg_id": "m", "data": {"action": "shout", "params": "hello"}})
    assert (answer["msg_id"], answer["data"]["success"], answer["data"]["result"]) == ("m", True, "HELLO!")
    (answer,) = house.ask(session, {"type": "request", "msg_id": "m", "data": {"action": "shout", "params": 5}})
    assert (answer["data"]["success"], answer["data"]["error"]) == (False, "shout needs a string")
    assert house.journal.broken == []


def test_the_message_type(module_path: Path) -> None:
    house = extended(module_path, "message")
    ann, own = house.client(client_id="ann", channel_id="ch1")
    _, bob = house.client(client_id="bob", channel_id="ch1")
    _, eve = house.client(client_id="eve", channel_id="ch2")
    house.say(ann, {"type": "typing"})
    assert bob.take() == own.take() == [{"type": "typing", "client_id": "ann"}]
    assert eve.take() == []
    alone, _ = house.client(client_id="alone")
    (answer,) = house.ask(alone, {"type": "typing"})
    assert (answer["type"], answer["code"], answer["field"]) == ("error", "bad_field", "channel_id")
    early, _ = house.connect("/ws", headers={"sec-websocket-protocol": "portico.c-client.v1"})
    assert house.ask(early, {"type": "typing"})[0]["code"] == "not_registered"


@pytest.mark.parametrize(
    ("path", "offered"),
    [
        ("/sensors", None),
        ("/", "example.sensors.v1"),
        ("/ws", "example.sensors.v1"),
        ("/api/websocket", "x, example.sensors.v1"),
    ],
)
def test_the_dialect(module_path: Path, path: str, offered: str | None) -> None:
    house = extended(module_path, "dialect")
    session, peer = house.connect(path, headers={} if offered is None else {"sec-websocket-protocol": offered})
    house.say(session, "21.50")
    house.say(session, "warm")
    client, _ = house.client(client_id="c", channel_id="sensors")
    assert house.gateway.delivery.deliver(Target("channel_id", "sensors"), Event("reset", Raw(b'{"a":1}'))) == (2, 2)
    assert peer.texts == ["got 21.5", "error bad_field Send a number.", 'reset {"a":1}']
    house.gateway.announce_drain(1000)
    house.close(session)
    house.close(client)
    assert len(house.gateway.hub) == 0
    assert house.journal.broken == []


def test_the_dialect_is_not_spoken_elsewhere(module_path: Path) -> None:
    house = extended(module_path, "dialect")
    session, _ = house.connect("/requester", headers={"sec-websocket-protocol": "example.sensors.v1"})
    assert session.handler.name == "requester"
    with pytest.raises(Refused):
        house.connect("/sensors/1")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (None, "cannot be imported"),
        ("import nothing_of_that_name", "cannot be imported"),
        ("x = 1", "has no function extend"),
        ("extend = 5", "has no function extend"),
        ("def extend(gateway): gateway.actions.add('get_time', print)", "get_time"),
        ("def extend(gateway): gateway.c_clients.add('heartbeat', print)", "heartbeat"),
        ("def extend(gateway): gateway.admission_control.add('x', path='/worker')", "/worker"),
        ("def extend(gateway): gateway.admission_control.add('x', path='/ws/me')", "/ws/me"),
        (
            "def extend(gateway): gateway.admission_control.add('x', subprotocol='portico.envelope.v1')",
            "portico.envelope.v1",
        ),
    ],
)
def test_what_is_wrong_with_an_extension_is_said(module_path: Path, source: str | None, sentence: str) -> None:
    if source is not None:
        (module_path / "shown_wrong.py").write_text(source, encoding="utf-8")
    with pytest.raises(ExtensionError, match=sentence) as caught:
        extend(stage().gateway, ["shown_wrong"])
    assert "shown_wrong" in str(caught.value)


def test_two_dialects_of_one_name() -> None:
    house = stage()
    with pytest.raises(ValueError, match="c_client"):
        house.gateway.add_dialect(house.gateway.c_clients, path="/other")
