"""The programs in the how-to guides, run as they are shown."""

import re
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.portico.client.fake_gateway import Peer, fake_gateway, fake_http

GUIDES = Path(__file__).parents[3] / "docs" / "how-to"


def program(guide: str, base_url: str) -> Any:
    """The `main` of a guide's first program, made to ask `base_url`."""
    code = re.findall(r"```python\n(.*?)```", (GUIDES / guide).read_text(), re.DOTALL)[0]
    assert "http://localhost:8000" in code
    names: dict[str, Any] = {"__name__": guide}
    exec(compile(code.replace("http://localhost:8000", base_url), guide, "exec"), names)
    return names["main"]


async def run(guide: str, script: Any, until: trio.Event) -> None:
    async with fake_gateway(script) as gateway:
        found = {"websocket_url": gateway.url}
        async with fake_http(lambda _: (200, found)) as base_url, trio.open_nursery() as nursery:
            nursery.start_soon(program(guide, base_url))
            with trio.fail_after(20):
                await until.wait()
            nursery.cancel_scope.cancel()


async def test_the_worker() -> None:
    over = trio.Event()
    answers: list[Any] = []

    async def script(peer: Peer) -> None:
        introduction = await peer.next()
        await peer.say({"type": "connect", "data": {"client_id": introduction["data"]["client_id"]}})
        asked = [("add", {"a": 2, "b": 3}), ("add", {}), ("word_count", {"text": "a b c"}), ("countdown", {"from": 3})]
        for n, (action, params) in enumerate(asked):
            await peer.say({"type": "request", "msg_id": str(n), "data": {"action": action, "params": params}})
            data = (await peer.next_of("response"))["data"]
            answers.append(data["result"] if data["success"] else data["error"])
        over.set()
        while (message := await peer.next())["type"] != "disconnect":
            if message["type"] == "heartbeat":
                await peer.say({"type": "heartbeat", "data": {}})

    await run("write-a-worker.md", script, over)
    assert answers == [5, 'add needs {"a": number, "b": number}.', 3, [3, 2, 1]]


async def test_the_requester(capsys: pytest.CaptureFixture[str]) -> None:
    over = trio.Event()

    async def script(peer: Peer) -> None:
        for _ in range(11):
            request = await peer.next()
            data = request["data"]
            result = f"Echo: {data['message']}" if request["command"] == "echo" else data["a"] + data["b"]
            answer = {"request_id": request["request_id"], "success": True, "data": result, "error": None}
            await peer.say(answer | {"processed_by": "w1"})
        try:
            await peer.forever()
        finally:
            over.set()

    await run("write-a-requester.md", script, over)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Echo: Hello World"
    assert sorted(lines[1:]) == [f"{n} {n + 1}" for n in range(10)]


async def test_the_client(capsys: pytest.CaptureFixture[str]) -> None:
    over = trio.Event()

    async def script(peer: Peer) -> None:
        registration = await peer.next()
        assert registration["user_id"] == "u1"
        await peer.say({"type": "registration_success", "client_id": "c1"})
        await peer.say({"type": "auto_login", "session_id": "s1"})
        feedback = await peer.next()
        assert (feedback["type"], feedback["success"]) == ("session_feedback", True)
        over.set()
        await peer.forever()

    await run("write-a-client.md", script, over)
    assert capsys.readouterr().out.startswith("registered as c1\nauto_login ")
