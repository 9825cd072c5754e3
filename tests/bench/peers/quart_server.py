"""Hypercorn's own trio WebSocket: a Quart-trio app, served by `hypercorn -k trio`, as its documentation writes one."""

import json
from typing import Any

from quart import websocket
from quart_trio import QuartTrio

app = QuartTrio(__name__)
clients: dict[str, Any] = {}


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
