"""The picows peer, one of the two that mark the limit: a Python callback per frame, everything else in C."""

import sys

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

decode = msgspec.json.decode
encode = msgspec.json.encode
clients: dict[str, WSTransport] = {}


class Client(WSListener):
    """One client's life."""

    client_id: str | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One message."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        message = decode(frame.get_payload_as_bytes())
        match message.get("type"):
            case "heartbeat":
                transport.send(WSMsgType.TEXT, encode({"type": "heartbeat"}))
            case "c_client_register":
                self.client_id = message["client_id"]
                clients[message["client_id"]] = transport
                success = {"type": "registration_success", "client_id": self.client_id, "heartbeat_interval": 25}
                transport.send(WSMsgType.TEXT, encode(success))
            case "publish":
                payload = encode(message["data"])
                for each in clients.values():
                    each.send(WSMsgType.TEXT, payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """It is over."""
        if self.client_id is not None:
            clients.pop(self.client_id, None)


async def main() -> None:
    """Serve until told to stop."""

    def listener(request: WSUpgradeRequest) -> WSListener:
        return Client()

    server = await ws_create_server(listener, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


uvloop.run(main())
