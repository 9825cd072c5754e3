"""The FastAPI peer: under uvicorn with uvloop and httptools, connections kept as its WebSocket tutorial keeps them."""

import sys
import time
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from pydantic import BaseModel

app = FastAPI()


class ConnectionManager:
    """Who is connected."""

    def __init__(self) -> None:
        self.active: dict[str, WebSocket] = {}
        self.by_user: dict[str, WebSocket] = {}

    async def broadcast(self, message: dict[str, Any]) -> None:
        """To everybody."""
        text = _dumps(message)
        for connection in list(self.active.values()):
            await connection.send_text(text)


manager = ConnectionManager()


def _dumps(value: Any) -> str:
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class Event(BaseModel):
    """One event of a batch."""

    user_id: str
    type: str
    data: dict[str, Any]


@app.post("/publish")
async def publish(message: dict[str, Any]) -> dict[str, int]:
    """One push to everybody."""
    await manager.broadcast(message)
    return {"matched": len(manager.active)}


@app.post("/publish-batch")
async def publish_batch(events: list[Event]) -> list[dict[str, int]]:
    """Many pushes, each to one user."""
    receipts = []
    for event in events:
        connection = manager.by_user.get(event.user_id)
        if connection is not None:
            await connection.send_text(_dumps({"type": event.type, **event.data}))
        receipts.append({"matched": int(connection is not None)})
    return receipts


@app.post("/publish-one")
async def publish_one(event: Event) -> dict[str, int]:
    """One push to one user."""
    connection = manager.by_user.get(event.user_id)
    if connection is not None:
        await connection.send_text(_dumps({"type": event.type, **event.data}))
    return {"matched": int(connection is not None)}


@app.get("/api/b-client/websocket-info")
async def websocket_info(request: Request) -> dict[str, Any]:
    """Where to connect, as seen from where the question comes."""
    host, port = request.url.hostname, request.url.port or 80
    return {
        "websocket_url": f"ws://{host}:{port}/ws",
        "websocket_host": host,
        "websocket_port": port,
        "http_port": port,
        "environment": "production",
        "timestamp": int(time.time() * 1000),
    }


@app.websocket("/ws")
async def websocket(ws: WebSocket) -> None:
    """One client's life."""
    await ws.accept()
    client_id = user_id = None
    try:
        while True:
            message = await ws.receive_json()
            match message.get("type"):
                case "heartbeat":
                    await ws.send_json({"type": "heartbeat"})
                case "c_client_register":
                    client_id, user_id = message["client_id"], message["user_id"]
                    manager.active[client_id] = manager.by_user[user_id] = ws
                    await ws.send_json(
                        {
                            "type": "registration_success",
                            "client_id": client_id,
                            "user_id": user_id,
                            "heartbeat_interval": 25,
                        }
                    )
                case _:
                    await ws.send_json({"type": "error", "code": "unknown_type"})
    except WebSocketDisconnect:
        pass
    finally:
        if client_id is not None:
            manager.active.pop(client_id, None)
            manager.by_user.pop(user_id, None)


uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    loop="uvloop",
    http="httptools",
    log_level="warning",
    backlog=4096,
)
