"""The ASGI transport under the contract: by itself, and where the front door hands what it can to the reactor."""

import json
from typing import Any

import pytest
import trio
from quart_trio import QuartTrio

from portico.wire.codes import CloseCode
from service.transports.asgi import register
from service.transports.connection_rules import ConnectionRules
from service.transports.door import Door
from service.transports.proxies import ProxyRules

from .asgi_harness import AsgiHarness, DoorHarness, Lines, serving
from .contract import TransportContract, scripted
from .harness import Options, pressure_of
from .raw import TEXT, RawClient, frame
from .script import Counts, ScriptGate


class TestAsgiTransport(TransportContract):
    @pytest.fixture
    def harness(self) -> AsgiHarness:
        return AsgiHarness(Lines())


class TestFrontDoor(TransportContract):
    @pytest.fixture
    def harness(self) -> DoorHarness:
        return DoorHarness(Lines())


async def test_who_sends_too_often_is_closed() -> None:
    gate, counts, lines = ScriptGate(), Counts(), Lines()
    app = QuartTrio("rates")
    register(
        app,
        gate,
        counts,
        pressure=pressure_of(Options()),
        resolve=ProxyRules().resolve,
        log=lines,
        rules=ConnectionRules(max_messages_per_second=10),
    )
    async with serving(app, Door(counts=counts, log=lines)) as address, await RawClient.open(address) as client:
        await client.send(frame(TEXT, b"x") * 100)
        assert (await client.closed())[0] == 4029
        recorder = await gate.recorder()
        assert (await recorder.ending())[0] == 4029
    assert 20 <= len(recorder.messages) < 40


async def test_a_long_reason_is_cut_between_characters() -> None:
    gate, counts, lines = ScriptGate(), Counts(), Lines()
    gate.make = scripted(lambda recorder, payload: recorder.peer.close(CloseCode.KICKED, "é" * 100))
    app = QuartTrio("reasons")
    register(
        app,
        gate,
        counts,
        pressure=pressure_of(Options()),
        resolve=ProxyRules().resolve,
        log=lines,
        rules=ConnectionRules(),
    )
    async with serving(app, Door(counts=counts, log=lines)) as address, await RawClient.open(address) as client:
        await client.say("go")
        assert await client.closed() == (4010, "é" * 61)


@pytest.mark.parametrize(("scheme", "told"), [("ws", 0), ("wss", 1)])
async def test_a_header_that_has_one_value_comes_once_by_another_server_too(scheme: str, told: int) -> None:
    gate, counts = ScriptGate(), Counts()
    app = QuartTrio("doubled")
    hsts = (("strict-transport-security", "max-age=1"),)
    register(
        app,
        gate,
        counts,
        pressure=pressure_of(Options()),
        resolve=ProxyRules().resolve,
        log=Lines(),
        rules=ConnectionRules(https_headers=hsts),
    )
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "websocket", "http_version": "1.1", "scheme": scheme, "path": "/", "query_string": b""}
    scope |= {"headers": [(b"origin", b"a"), (b"Origin", b"b")], "extensions": {"websocket.http.response": {}}}
    await app(scope, trio.sleep_forever, send)
    start, body = sent
    assert start["status"] == 400
    assert json.loads(body["body"])["error"]["message"] == "There is more than one origin header."
    assert start["headers"].count((b"strict-transport-security", b"max-age=1")) == told
    assert (counts.handshakes_refused, gate.handshakes) == (1, [])
