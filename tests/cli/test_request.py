"""`portico request` against a gateway that says what the test wants it to."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import portico
from tests.gateways import gateway
from tests.portico.client.fake_gateway import Peer, fake_gateway, fake_http


async def answering(peer: Peer) -> None:
    while True:
        request = await peer.next()
        if request.get("cancel"):  # of a stream that failed in its middle
            continue
        answer: dict[str, Any] = {"request_id": request["request_id"], "success": True, "error": None}
        answer |= {"data": request["data"], "processed_by": "w1"}
        if request["command"] == "fail":
            answer |= {"success": False, "data": None, "error": "No available workers"}
        if request.get("stream"):
            await peer.say(answer | {"partial": True})
            answer["data"] = None
        await peer.say(answer)


async def test_request_prints_the_answer_and_nothing_else() -> None:
    async with fake_gateway(answering) as gateway:
        data = {"message": "Hello Wörld"}
        code, out, err = await portico("request", "echo", json.dumps(data), "--url", gateway.url)
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert answer.keys() >= {"request_id", "success", "data", "error", "processed_by"}
    assert (answer["data"], answer["processed_by"]) == (data, "w1")


async def test_request_asks_the_http_address_where_the_websocket_is() -> None:
    async with fake_gateway(answering) as gateway:
        found = {"websocket_url": f"{gateway.url}/api/websocket"}
        async with fake_http(lambda _: (200, found)) as base_url:
            code, out, _ = await portico("request", "get_time", "--base-url", base_url)
    assert code == 0
    assert json.loads(out)["data"] is None
    assert gateway.paths == ["/requester"]


async def test_an_error_answer_is_printed_too_and_is_exit_code_1() -> None:
    async with fake_gateway(answering) as gateway:
        code, out, _ = await portico("request", "fail", "--url", gateway.url)
    assert code == 1
    assert json.loads(out)["error"] == "No available workers"


async def test_nobody_there_is_exit_code_3_after_as_many_attempts_as_asked_for() -> None:
    async with fake_gateway(answering) as gateway:
        pass
    code, out, err = await portico("request", "echo", "--url", gateway.url, "--attempts", "2")
    assert (code, out) == (3, "")
    assert err.count("lost:") == 2
    assert err.count("retry in") == 1
    assert "Gave up after 2" in err


async def test_request_tries_again() -> None:
    async with fake_gateway(answering) as gateway:
        gateway.slam = 1
        code, out, err = await portico("request", "echo", "1", "--url", gateway.url)
    assert code == 0
    assert json.loads(out)["data"] == 1
    assert "(attempt 2)" in err


async def test_request_streams_a_part_a_line() -> None:
    async with fake_gateway(answering) as gateway:
        code, out, _ = await portico("request", "echo", "[1]", "--stream", "--url", gateway.url)
        failed, _, err = await portico("request", "fail", "--stream", "--url", gateway.url)
    assert (code, out) == (0, "[1]\n")
    assert failed == 1
    assert "No available workers" in err


async def test_request_calls_many_times_over_one_connection() -> None:
    async with fake_gateway(answering) as gateway:
        code, out, _ = await portico(
            "request", "echo", "1", "--count", "200", "--concurrency", "20", "--url", gateway.url
        )
        failed, failures, _ = await portico("request", "fail", "--count", "3", "--url", gateway.url)
        assert gateway.connections == 2
    summary = json.loads(out)
    assert code == 0
    assert (summary["answered"], summary["failed"], summary["by_worker"]) == (200, 0, {"w1": 200})
    assert failed == 1
    assert json.loads(failures)["errors"] == {"No available workers": 3}


async def test_many_calls_survive_a_lost_connection_and_count_what_it_cost() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            for _ in range(4):
                await peer.next()
            await peer.drop()
        await answering(peer)

    async with fake_gateway(script) as gateway:
        code, out, err = await portico("request", "echo", "--count", "50", "--concurrency", "4", "--url", gateway.url)
    summary = json.loads(out)
    assert code == 1
    assert (summary["answered"], summary["failed"]) == (46, 4)
    assert "lost:" in err


async def test_request_shows_the_key_that_it_is_given() -> None:
    shown: list[str | None] = []

    async def keeping(peer: Peer) -> None:
        shown.append(peer.headers.get("authorization"))
        await answering(peer)

    async with fake_gateway(keeping) as fake:
        ask = ("request", "echo", "1", "--url", fake.url)
        for done in (
            await portico(*ask, "--api-key", "k1"),
            await portico(*ask, GATEWAY_API_KEY="k2"),
            await portico(*ask),
        ):
            assert done[0] == 0
    assert shown == ["Bearer k1", "Bearer k2", None]


@pytest.mark.live
async def test_a_gateway_in_production_wants_a_key_and_says_so(tmp_path: Path) -> None:
    key = "a-long-random-text"
    with gateway(tmp_path, settings={"ENVIRONMENT": "production", "PORTICO_API_KEYS": key}) as running:
        refused = await portico("request", "echo", "--base-url", running.base_url)
        answered = await portico("request", "echo", "--base-url", running.base_url, "--api-key", key)
    assert refused[0] == 3
    assert "Send an API key" in refused[2]
    assert "PORTICO_OPEN_REQUESTERS" in refused[2]
    assert "PORTICO_OPEN_USERS" not in refused[2]
    assert answered[0] == 1
    assert json.loads(answered[1])["error"] == "No available workers"
