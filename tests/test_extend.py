"""What extensions may use: those of docs/how-to/extend.md do what it says, and use nothing else."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Raw

import service.extend
from portico.wire.messages import Event, Identity, Target
from service.extend import Dialect, ExtensionContext, Frame, PeerFault, Session
from service.extensions import extend

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
    assert set(BLOCKS) == {"action", "message", "custom", "dialect"}
    assert PAGE.read_text(encoding="utf-8").count("```python") == len(BLOCKS)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_page_uses_promised_names_only(name: str) -> None:
    assert promised(BLOCKS[name]) == []


def promised(source: str) -> list[str]:
    """What a module imports of `service` or `portico` beside the names of `service.extend`."""
    others = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            others += [alias.name for alias in node.names if alias.name.split(".")[0] in ("service", "portico")]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module == "service.extend":
                others += [alias.name for alias in node.names if alias.name not in service.extend.__all__]
            elif module.split(".")[0] in ("service", "portico"):
                others.append(module)
    return others


def test_a_name_that_is_not_promised_would_be_seen() -> None:
    assert promised("from service.extend import Gateway\nimport service.app\nfrom portico.wire import codes") == [
        "Gateway",
        "service.app",
        "portico.wire",
    ]


def test_every_promised_name_is_there() -> None:
    for name in service.extend.__all__:
        assert hasattr(service.extend, name), name


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


def test_the_custom_event(module_path: Path) -> None:
    house = extended(module_path, "custom")
    worker, peer = house.worker("w1")
    _, ann = house.client(client_id="ann")
    house.say(worker, {"type": "custom", "data": {"event": "progress", "percent": 40}})
    assert ann.take() == [{"type": "progress", "of": "w1", "percent": 40}]
    assert [push["data"]["event"] for push in peer.take()] == ["progress"]
    (answer,) = house.ask(worker, {"type": "custom", "data": {"event": "progress", "percent": "half"}})
    assert (answer["type"], answer["data"]["code"], answer["data"]["field"]) == ("error", "bad_field", "percent")


class Minimal(Dialect):
    """What a dialect must say itself, and not more."""

    name = "minimal"

    def receive(self, session: Session, payload: bytes) -> None:
        session.send(Frame(payload))

    def refusal(self, fault: PeerFault) -> Frame:
        return Frame(fault.code.encode())


def test_a_dialect_of_two_methods_is_enough() -> None:
    house = stage()
    context = ExtensionContext(house.gateway)
    context.add_dialect(Minimal(), path="/minimal")
    session, peer = house.connect("/minimal")
    context.register(session, Identity(user_id="u1"))
    house.gateway.delivery.deliver(Target("user_id", "u1"), Event("e"))
    house.say(session, "back")
    house.gateway.announce_drain(1000)
    house.close(session)
    assert peer.texts == ["back"]
    assert house.journal.broken == []


def test_only_sessions_of_the_gateway_can_be_registered() -> None:
    with pytest.raises(TypeError, match="session"):
        ExtensionContext(stage().gateway).register("ann", Identity(user_id="u1"))  # type: ignore[arg-type]  # misuse


def test_a_push_tells_what_became_of_it() -> None:
    house = stage()
    context = ExtensionContext(house.gateway)
    _, ann = house.client(client_id="ann", user_id="u1")
    told: list[object] = []
    for _ in range(2):
        context.push(Target("user_id", "u1"), Event("news"), id="n1", durable=True, ttl=60, on_done=told.append)
    receipt, again = told
    assert isinstance(receipt, service.extend.Receipt)
    assert (receipt.id, receipt.stream, receipt.matched) == ("n1", "user:u1", 1)
    assert again == receipt._replace(repeated=True)
    assert [push["type"] for push in ann.take()] == ["news"]


@pytest.mark.parametrize(
    ("target", "data"),
    [
        (Target("user", "u1"), {}),
        (Target("username", "ann"), {}),
        (Target("user_id", ""), {}),
        (Target("all", "u1"), {}),
        (Target("user_id", "u1"), [1]),
        (Target("user_id", "u1"), None),
    ],
)
def test_a_push_to_nowhere_or_of_nothing_is_refused_before_anybody_gets_it(target: Target, data: object) -> None:
    house = stage()
    with pytest.raises(ValueError, match=r"a target is|JSON object"):
        ExtensionContext(house.gateway).push(target, Event("news", service.extend.encode(data)))
    assert house.journal.broken == []


@pytest.mark.parametrize(
    ("name", "path", "subprotocol", "taken"),
    [
        ("c_client", "/other", None, "c_client"),
        ("x", "/worker", None, "/worker"),
        ("x", "/ws/me", None, "/ws/me"),
        ("x", None, "portico.envelope.v1", "portico.envelope.v1"),
    ],
)
def test_what_is_taken_is_refused(name: str, path: str | None, subprotocol: str | None, taken: str) -> None:
    dialect = Minimal()
    dialect.name = name
    with pytest.raises(ValueError, match=taken):
        ExtensionContext(stage().gateway).add_dialect(dialect, path=path, subprotocol=subprotocol)
