"""Large requests wait for workers that are busy, and close none; large answers close their worker, and no other."""

import json
from pathlib import Path

import pytest
import trio

from tests.gateways import gateway
from tests.transports.raw import TEXT, RawClient, frame

pytestmark = pytest.mark.live

WORKERS = 3
REQUESTS = 24
LARGE = "x" * 900_000


def text(**message: object) -> bytes:
    return frame(TEXT, json.dumps(message).encode())


async def work(address: tuple[str, int], name: str, *, task_status: trio.TaskStatus[None]) -> None:
    """A worker that handles one request after the other, and reads nothing meanwhile."""
    async with await RawClient.open(address, "/worker") as worker:
        await worker.send(text(type="connect", data={"role": "worker", "client_id": name, "capacity": 16}))
        for _ in range(2):
            assert json.loads(await worker.message())["type"] == "connect"
        task_status.started()
        while True:
            request = json.loads(await worker.message())
            await trio.sleep(0.1)  # what it does
            answer = {"request_id": request["data"]["request"]["id"], "success": True, "result": name}
            await worker.send(text(type="response", data=answer))


@pytest.mark.parametrize("mode", ["integrated", "adjacent"])
async def test_workers_that_are_busy_are_not_closed_for_what_is_sent_to_them(tmp_path: Path, mode: str) -> None:
    with gateway(tmp_path, mode=mode, settings={}) as running:
        address = ("127.0.0.1", int(running.websocket_url.rpartition(":")[2]))
        async with trio.open_nursery() as nursery:
            for number in range(WORKERS):
                await nursery.start(work, address, f"w{number}")
            async with await RawClient.open(address, "/requester") as requester:
                for number in range(REQUESTS):
                    await requester.send(text(request_id=str(number), command="echo", data={"blob": LARGE}))
                answers = [json.loads(await requester.message()) for _ in range(REQUESTS)]
            assert [answer["error"] for answer in answers] == [None] * REQUESTS
            assert {answer["data"] for answer in answers} == {f"w{number}" for number in range(WORKERS)}
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("mode", ["integrated", "adjacent"])
async def test_an_answer_over_the_limit_is_answered_and_closes_one_worker_only(tmp_path: Path, mode: str) -> None:
    with gateway(tmp_path, mode=mode, settings={"PORTICO_MAX_WORKER_MESSAGE_SIZE": 100_000}) as running:
        address = ("127.0.0.1", int(running.websocket_url.rpartition(":")[2]))
        async with (
            await RawClient.open(address, "/worker") as first,
            await RawClient.open(address, "/requester") as requester,
        ):
            await first.send(text(type="connect", data={"role": "worker", "client_id": "first"}))
            for name in ("q", "other"):
                await requester.send(text(request_id=name, command="echo", data={"name": name}))
            for kind in ("connect", "connect"):
                assert json.loads(await first.message())["type"] == kind
            sent = [json.loads(await first.message()) for _ in range(2)]
            ids = {request["data"]["params"]["name"]: request["msg_id"] for request in sent}
            async with await RawClient.open(address, "/worker") as second:
                await second.send(text(type="connect", data={"role": "worker", "client_id": "second"}))
                for _ in range(2):
                    assert json.loads(await second.message())["type"] == "connect"
                answer = {"request_id": ids["q"], "success": True, "result": "x" * 200_000}
                await first.send(text(type="response", data=answer))
                told = json.loads(await requester.message())
                assert (told["request_id"], told["success"], told["processed_by"]) == ("q", False, "first")
                assert "too large" in told["error"]
                assert (await first.closed())[0] == 1009
                again = json.loads(await second.message())
                assert (again["msg_id"], again["data"]["request"]["attempt"]) == (ids["other"], 2)
                await second.send(text(type="response", data={"request_id": ids["other"], "success": True}))
                told = json.loads(await requester.message())
                assert (told["request_id"], told["success"], told["processed_by"]) == ("other", True, "second")
                await second.send(text(type="heartbeat"))
                assert json.loads(await second.message())["type"] == "heartbeat", "it was sent nothing else"
