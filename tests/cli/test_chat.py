"""`portico worker --commands chat`, between a gateway and a little API."""

import signal
from functools import partial
from typing import Any

import trio

from tests.chat.little_api import LittleApi
from tests.cli.running import BARE, PORTICO, portico
from tests.portico.client.fake_gateway import Peer, fake_gateway

KEY = "sk-live-Zz9876543210abcdef"


async def test_without_a_key_it_says_what_to_set() -> None:
    code, out, err = await portico("worker", "--commands", "chat")
    assert (code, out) == (2, "")
    assert "set OPEN_API_KEY to its key" in err


async def test_a_setting_that_is_wrong_is_said_so() -> None:
    code, _, err = await portico("worker", "--commands", "echo,chat", OPEN_API_KEY="k", PORTICO_CHAT_CONCURRENCY="0")
    assert code == 2
    assert "PORTICO_CHAT_CONCURRENCY must be" in err


async def test_it_streams_answers_faults_and_stops_when_told() -> None:
    introduction: dict[str, Any] = {}
    answers: list[dict[str, Any]] = []
    done = trio.Event()

    async with trio.open_nursery() as nursery:
        api = LittleApi()
        await nursery.start(api.run)

        async def asked(peer: Peer, msg_id: str, scene: str, *, stream: bool) -> None:
            params = {"messages": [{"role": "user", "content": scene}]}
            about = {"id": msg_id, "attempt": 1, "deadline_ms": 60_000, "stream": stream}
            data = {"action": "chat", "params": params, "request": about}
            await peer.say({"type": "request", "msg_id": msg_id, "data": data})

        async def until_final(peer: Peer) -> str:
            text = ""
            while (data := (await peer.next_of("response"))["data"]).get("partial"):
                text += data["result"]["delta"]
            answers.append(data)
            return text

        async def script(peer: Peer) -> None:
            introduction.update((await peer.next())["data"])
            await peer.say({"type": "connect", "data": {"client_id": introduction["client_id"]}})
            await asked(peer, "r1", "hello", stream=True)
            assert await until_final(peer) == "Hello world"
            await asked(peer, "r2", "hello", stream=False)
            assert await until_final(peer) == ""
            await asked(peer, "r3", "bad_request", stream=True)
            await until_final(peer)
            await asked(peer, "r4", "stalls", stream=True)
            await peer.next_of("response")
            await peer.say({"type": "custom", "data": {"event": "cancel", "request_id": "r4"}})
            await api.until(lambda: api.asked[-1].closed)
            done.set()
            while (message := await peer.next())["type"] != "disconnect":
                if message["type"] == "heartbeat":
                    await peer.say({"type": "heartbeat", "data": {}})

        async with fake_gateway(script) as gateway:
            settings = {"OPEN_API_KEY": KEY, "OPEN_API_BASE_URL": api.base_url, "PORTICO_CHAT_CONCURRENCY": "3"}
            run = partial(
                trio.run_process,
                [*PORTICO, "worker", "--url", gateway.url, "--commands", "chat,echo"],
                stderr=-1,
                env=BARE | settings,
            )
            process: trio.Process = await nursery.start(run)
            with trio.fail_after(60):
                await done.wait()
                process.send_signal(signal.SIGTERM)
                said = b""
                assert process.stderr is not None
                async for chunk in process.stderr:
                    said += chunk
                assert await process.wait() == 0
        nursery.cancel_scope.cancel()
    assert (introduction["commands"], introduction["capacity"]) == (["chat", "echo"], 3)
    assert answers[0]["result"]["usage"] == {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    assert answers[1]["result"]["content"] == "Hello world"
    assert (answers[2]["success"], answers[2]["error"][:42]) == (False, "The model's API can't take the request (HT")
    assert KEY not in str(answers) + said.decode()
    lines = [line for line in said.decode().splitlines() if line.startswith("chat: ")]
    assert [line.split()[1] for line in lines] == ["answered", "answered", "bad_request", "cancelled"]
    assert lines[0].endswith("9 + 4 tokens")
