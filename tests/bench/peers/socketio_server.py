"""The python-socketio peer: its AsyncServer as an ASGI app under uvicorn with uvloop, as its documentation has it."""

import sys
from typing import Any

import socketio
import uvicorn

sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")
app = socketio.ASGIApp(sio)


@sio.on("register")
async def register(sid: str, message: dict[str, Any]) -> None:
    """A client says who it is."""
    await sio.save_session(sid, message)
    await sio.enter_room(sid, "bench")
    await sio.emit("registration_success", {"client_id": message["client_id"]}, to=sid)


@sio.on("heartbeat")
async def heartbeat(sid: str, message: dict[str, Any]) -> None:
    """Answered by one."""
    await sio.emit("heartbeat", {"type": "heartbeat"}, to=sid)


@sio.on("publish")
async def publish(sid: str, message: dict[str, Any]) -> None:
    """One push to everybody."""
    await sio.emit("push", message, room="bench")


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", log_level="warning", backlog=4096)
