"""In production every connection is held to a rate, except those workers that have shown a secret."""

import json
from pathlib import Path

import pytest
import trio

from tests.gateways import gateway
from tests.transports.raw import TEXT, RawClient, frame

pytestmark = pytest.mark.live

KEY = "a handshake key of workers"
EACH = 1500  # within the two seconds' worth that a connection may send at once
REQUESTERS = 2


def text(**message: object) -> bytes:
    return frame(TEXT, json.dumps(message).encode())


@pytest.mark.parametrize("mode", ["integrated", "adjacent"])
async def test_a_proven_worker_answers_faster_than_the_rate(tmp_path: Path, mode: str) -> None:
    settings = {"ENVIRONMENT": "production", "WEBSOCKET_HANDSHAKE_KEY": KEY, "PORTICO_OPEN_REQUESTERS": "true"}
    with gateway(tmp_path, mode=mode, settings=settings) as running:
        address = ("127.0.0.1", int(running.websocket_url.rpartition(":")[2]))
        async with await RawClient.open(address, "/worker") as worker, trio.open_nursery() as nursery:
            data = {"role": "worker", "client_id": "quick", "capacity": REQUESTERS * EACH, "token": KEY}
            await worker.send(text(type="connect", data=data))
            for _ in range(2):  # the greeting on the path, and the one for `connect`
                assert json.loads(await worker.message())["type"] == "connect"
            for _ in range(REQUESTERS):
                nursery.start_soon(ask, address)
            asked = [json.loads(await worker.message())["data"]["request"]["id"] for _ in range(REQUESTERS * EACH)]
            answers = [{"request_id": request_id, "success": True, "result": 1} for request_id in asked]
            await worker.send(b"".join(text(type="response", data=answer) for answer in answers))
            await worker.send(text(type="heartbeat"))
            assert json.loads(await worker.message())["type"] == "heartbeat"
        async with await RawClient.open(address, "/ws") as client:
            await client.send(text(type="heartbeat") * REQUESTERS * EACH * 4)  # more than the rate allows in any pause
            assert (await client.closed())[0] == 4029


async def ask(address: tuple[str, int]) -> None:
    """EACH requests at once; every one is answered by the worker."""
    async with await RawClient.open(address, "/requester") as requester:
        await requester.send(b"".join(text(request_id=str(number), command="echo") for number in range(EACH)))
        for _ in range(EACH):
            answer = json.loads(await requester.message())
            assert answer["success"], answer
