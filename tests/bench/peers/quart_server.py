"""Hypercorn's own trio WebSocket: a Quart-trio app, served by `hypercorn -k trio`, as its documentation writes one."""

import json
import time
from typing import Any

from quart import request, websocket
from quart_trio import QuartTrio

app = QuartTrio(__name__)
clients: dict[str, Any] = {}


@app.get("/api/b-client/websocket-info")
async def websocket_info() -> dict[str, Any]:
    """Where to connect, as seen from where the question comes."""
    name, _, port = request.host.partition(":")
    return {
        "websocket_url": f"ws://{request.host}/ws",
        "websocket_host": name,
        "websocket_port": int(port or 80),
        "http_port": int(port or 80),
        "environment": "production",
        "timestamp": int(time.time() * 1000),
    }


@app.websocket("/ws")
async def client() -> None:
    """One client's life."""
    client_id = None
    try:
        while True:
            message = json.loads(await websocket.receive())
            match message.get("type"):
                case "heartbeat":
                    await websocket.send(json.dumps({"type": "heartbeat"}))
                case "c_client_register":
                    client_id = message["client_id"]
                    clients[client_id] = websocket._get_current_object()
                    await websocket.send(json.dumps({"type": "registration_success", "client_id": client_id}))
                case "publish":
                    text = json.dumps(message["data"])
                    for each in list(clients.values()):
                        await each.send(text)
    finally:
        if client_id is not None:
            clients.pop(client_id, None)
