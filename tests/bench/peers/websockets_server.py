"""The `websockets` peer: its asyncio server on uvloop, as its documentation writes one.

Clients register with a JSON object, get heartbeats answered and pushes by the library's `broadcast`; on
`/worker` and `/requester` it is a plain broker. The second argument chooses json or msgspec.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

if sys.argv[2] == "msgspec":
    loads: Callable[[Any], Any] = msgspec.json.decode

    def dumps(value: Any) -> str:
        """To JSON text."""
        return msgspec.json.encode(value).decode()
else:
    loads = json.loads
    dumps = json.dumps

TIMEOUT = 30.0
CAPACITY = 16

clients: dict[str, ServerConnection] = {}


async def client(ws: ServerConnection) -> None:
    """One client's life."""
    client_id = None
    try:
        async for text in ws:
            message = loads(text)
            match message.get("type"):
                case "heartbeat":
                    await ws.send(dumps({"type": "heartbeat"}))
                case "c_client_register":
                    client_id = message["client_id"]
                    clients[client_id] = ws
                    await ws.send(
                        dumps(
                            {
                                "type": "registration_success",
                                "client_id": client_id,
                                "user_id": message.get("user_id"),
                                "heartbeat_interval": 25,
                            }
                        )
                    )
                case "publish":
                    broadcast(clients.values(), dumps(message["data"]))
                case _:
                    await ws.send(dumps({"type": "error", "code": "unknown_type"}))
    finally:
        if client_id is not None:
            del clients[client_id]


@dataclass(eq=False)
class Worker:
    """A worker and what it has been given."""

    ws: ServerConnection
    name: str
    outstanding: "dict[str, Pending]" = field(default_factory=dict)


@dataclass
class Pending:
    """A request on its way."""

    requester: ServerConnection
    request: dict[str, Any]
    worker: Worker
    timer: asyncio.TimerHandle


workers: list[Worker] = []
queue: list[tuple[ServerConnection, dict[str, Any]]] = []


def answer(request_id: str, success: bool, data: Any, error: str | None, worker: str | None) -> str:
    """What a requester gets."""
    return dumps({"request_id": request_id, "success": success, "data": data, "error": error, "processed_by": worker})


async def assign(requester: ServerConnection, request: dict[str, Any]) -> None:
    """Give a request to the worker with the least to do, or let it wait."""
    if not workers:
        await requester.send(answer(request["request_id"], False, None, "No available workers", None))
        return
    worker = min(workers, key=lambda each: len(each.outstanding))
    if len(worker.outstanding) >= CAPACITY:
        queue.append((requester, request))
        return
    request_id = request["request_id"]
    timer = asyncio.get_running_loop().call_later(TIMEOUT, time_out, worker, request_id)
    worker.outstanding[request_id] = Pending(requester, request, worker, timer)
    await worker.ws.send(
        dumps(
            {
                "type": "request",
                "msg_id": request_id,
                "timestamp": time.time(),
                "data": {"action": request["command"], "params": request.get("data")},
            }
        )
    )


def time_out(worker: Worker, request_id: str) -> None:
    """Nobody answered in time."""
    pending = worker.outstanding.pop(request_id)
    broadcast([pending.requester], answer(request_id, False, None, "Worker response timeout", worker.name))


async def work(ws: ServerConnection) -> None:
    """One worker's life."""
    worker = Worker(ws, str(ws.id))
    workers.append(worker)
    try:
        async for text in ws:
            message = loads(text)
            if message["type"] != "response":
                continue
            data = message["data"]
            pending = worker.outstanding.pop(data["request_id"], None)
            if pending is None:
                continue
            pending.timer.cancel()
            await pending.requester.send(
                answer(data["request_id"], data["success"], data["result"], data["error"], worker.name)
            )
            if queue:
                await assign(*queue.pop(0))
    finally:
        workers.remove(worker)
        for pending in worker.outstanding.values():
            pending.timer.cancel()
            await assign(pending.requester, pending.request)


async def ask(ws: ServerConnection) -> None:
    """One requester's life."""
    async for text in ws:
        await assign(ws, loads(text))


async def handler(ws: ServerConnection) -> None:
    """Each path its role."""
    assert ws.request is not None
    await {"/worker": work, "/requester": ask}.get(ws.request.path, client)(ws)


async def main() -> None:
    """Serve until told to stop."""
    async with serve(handler, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()


uvloop.run(main())
