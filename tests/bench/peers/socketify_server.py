"""The socketify peer, one of the two that mark the limit: uWebSockets, with its own publish and subscribe."""

import json
import sys
from typing import Any

from socketify import App, CompressOptions, OpCode

app = App()


def on_message(ws: Any, text: Any, opcode: Any) -> None:
    """One message."""
    message = json.loads(text)
    match message.get("type"):
        case "heartbeat":
            ws.send(json.dumps({"type": "heartbeat"}), OpCode.TEXT)
        case "c_client_register":
            ws.subscribe("bench")
            success = {"type": "registration_success", "client_id": message["client_id"], "heartbeat_interval": 25}
            ws.send(json.dumps(success), OpCode.TEXT)
        case "publish":
            app.publish("bench", json.dumps(message["data"]), OpCode.TEXT)


app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 1024 * 1024,
        "idle_timeout": 60,
        "message": on_message,
    },
)
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"}, lambda config: None)
app.run()
