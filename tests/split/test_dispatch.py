"""Workers at several nodes, over a real Redis: the work is spread over all, and a worker that comes back elsewhere
replaces its ghost."""

import json
from collections import Counter
from pathlib import Path

import pytest
import trio

from tests.transports.raw import TEXT, RawClient, frame

from .deployment import NodeProcess, deployment
from .scene import call

pytestmark = pytest.mark.live

PATIENCE = 60.0
"""Seconds for what takes none, on a busy machine."""


def text(**message: object) -> bytes:
    return frame(TEXT, json.dumps(message).encode())


def address(node: NodeProcess) -> tuple[str, int]:
    return "127.0.0.1", node.port


async def connect(node: NodeProcess, name: str, capacity: int = 16) -> RawClient:
    """A worker that is greeted."""
    worker = await RawClient.open(address(node), "/worker")
    await worker.send(text(type="connect", data={"role": "worker", "client_id": name, "capacity": capacity}))
    for _ in range(2):
        assert json.loads(await worker.message())["type"] == "connect"
    return worker


async def serve(worker: RawClient, name: str, spread: Counter[str], news: trio.lowlevel.ParkingLot) -> None:
    """One request after the other, each of them kept until every worker has had as many: none gets ahead."""
    async with worker:
        while True:
            request = json.loads(await worker.message())
            if request["type"] == "request":
                spread[name] += 1
                news.unpark_all()
                while any(times < spread[name] for times in spread.values()):
                    await news.park()
                answer = {"request_id": request["msg_id"], "success": True, "result": name}
                await worker.send(text(type="response", data=answer))


async def test_serial_workers_of_three_nodes_share_what_one_node_is_asked(tmp_path: Path) -> None:
    with deployment(tmp_path, nodes=3) as made:
        spread = Counter({f"w{number}": 0 for number in range(6)})
        news = trio.lowlevel.ParkingLot()
        async with trio.open_nursery() as nursery:
            for number in range(6):
                worker = await connect(made.nodes[number % 3], f"w{number}", capacity=1)
                nursery.start_soon(serve, worker, f"w{number}", spread, news)
            async with await RawClient.open(address(made.nodes[0]), "/requester") as requester:
                with trio.fail_after(PATIENCE):
                    for number in range(12):
                        await requester.send(text(request_id=number, command="echo"))
                    answers = [json.loads(await requester.message()) for _ in range(12)]
            assert all(answer["success"] for answer in answers)
            assert sorted(answer["request_id"] for answer in answers) == list(range(12))
            assert sorted(spread.values()) == [2] * 6, spread
            nursery.cancel_scope.cancel()


@pytest.mark.shows(
    "none is refused for want of a worker that another node has",
    "from the first moment that it takes connections",
)
async def test_a_node_that_is_restarted_refuses_nothing_that_a_worker_elsewhere_serves(tmp_path: Path) -> None:
    with deployment(tmp_path, nodes=2) as made:
        worker = await connect(made.nodes[0], "w1")
        spread, news = Counter({"w1": 0}), trio.lowlevel.ParkingLot()
        statuses: Counter[int] = Counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, worker, "w1", spread, news)
            for _ in range(3):
                await trio.to_thread.run_sync(made.api.end)
                made.api.start()
                asked = 0
                with trio.fail_after(PATIENCE):
                    while asked < 10 or made.api.probe() != 200:
                        try:
                            status, said, _ = await trio.to_thread.run_sync(ask, made.api)
                        except OSError:  # nobody listens yet
                            await trio.sleep(0.001)
                            continue
                        asked += 1
                        statuses[status] += 1
                        assert status == 200, said
            nursery.cancel_scope.cancel()
        assert statuses.keys() == {200}


def ask(node: NodeProcess) -> tuple[int, object, float]:
    return call(node, "POST", "/api/requests", {"command": "echo", "data": {}})


async def test_a_worker_that_comes_back_to_another_node_replaces_its_ghost(tmp_path: Path) -> None:
    with deployment(tmp_path, nodes=2) as made:
        ghost = await connect(made.nodes[0], "w1")
        async with await RawClient.open(address(made.nodes[0]), "/requester") as requester:
            await requester.send(text(request_id="q", command="echo"))
            with trio.fail_after(PATIENCE):
                assert json.loads(await ghost.message())["type"] == "request"
                newer = await connect(made.nodes[1], "w1")
                assert (await ghost.closed())[0] == 4009
                request = json.loads(await newer.message())
                assert (request["type"], request["data"]["request"]["attempt"]) == ("request", 2)
                answer = {"request_id": request["msg_id"], "success": True, "result": "newer"}
                await newer.send(text(type="response", data=answer))
                answered = json.loads(await requester.message())
        assert (answered["success"], answered["data"], answered["processed_by"]) == (True, "newer", "w1")
        await newer.aclose()
        await ghost.aclose()
