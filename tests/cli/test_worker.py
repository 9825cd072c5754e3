"""`portico worker`: what it says, whom it serves, and how it ends."""

import signal
from functools import partial
from typing import Any

import pytest
import trio

from tests.cli.running import BARE, PORTICO, portico
from tests.portico.client.fake_gateway import Peer, fake_gateway


async def greet(peer: Peer) -> dict[str, Any]:
    introduction = await peer.next()
    await peer.say({"type": "connect", "data": {"client_id": introduction["data"]["client_id"]}})
    data = introduction["data"]
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_worker_serves_reconnects_says_so_and_ends_cleanly(sent: signal.Signals) -> None:
    answered = trio.Event()
    introductions: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        introductions.append(await greet(peer))
        if peer.number == 0:
            await peer.close(1012, "retry_within_ms=1")
            return
        params = {"a": 6, "b": 7, "op": "*"}
        await peer.say({"type": "request", "msg_id": "r1", "data": {"action": "calculate", "params": params}})
        answers.append((await peer.next_of("response"))["data"])
        answered.set()
        while (message := await peer.next())["type"] != "disconnect":
            if message["type"] == "heartbeat":
                await peer.say({"type": "heartbeat", "data": {}})

    async with fake_gateway(script) as gateway, trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(
                trio.run_process,
                [*PORTICO, "worker", "--url", gateway.url, "--name", "w1", "--commands", "get_time,calculate"],
                capture_stderr=True,
                env=BARE | {"WEBSOCKET_HANDSHAKE_KEY": "sesame"},
            )
        )
        with trio.fail_after(60):
            await answered.wait()
            process.send_signal(sent)
            assert await process.wait() == 0
    assert [i["token"] for i in introductions] == ["sesame", "sesame"]
    assert introductions[0]["commands"] == ["calculate", "get_time"]
    assert answers[0]["result"] == 42


async def test_worker_tells_a_line_per_event() -> None:
    async def script(peer: Peer) -> None:
        await greet(peer)
        await peer.close(1012 if peer.number == 0 else 4010, "retry_within_ms=1")

    async with fake_gateway(script) as gateway:
        code, out, err = await portico("worker", "--url", gateway.url, "--name", "w1")
    lines = [line.partition(" ")[0] for line in err.splitlines()]
    assert (code, out) == (3, "")
    assert lines == ["connecting", "registered", "lost:", "retry", "connecting", "registered", "portico:"]
    assert "kicked" in err
