"""DoorHttp2: Hypercorn's HTTP/2, where a malformed request ends its stream and nothing else (RFC 9113 section 8.1.1).

h2 refuses most of them, with the connection. These it lets through, or Hypercorn takes them for something else:

- A length in a request that has no body: whoever reads the head would wait for one.
- CONNECT without a protocol. It failed in Hypercorn, and all the connection's requests with it.
- A method or target with other bytes than ASCII. It failed in the same way.
- CONNECT with another protocol than `websocket` (RFC 8441 section 4): it was served as a WebSocket.

Data of a stream that has ended, by a refusal or an early answer, is passed over.

Subclasses a class that is not Hypercorn's public API: only `front_door` decides whether it is used.
"""

from typing import Any

from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived
from hypercorn.protocol.h2 import H2Protocol

from .door import Door


class DoorHttp2(H2Protocol):
    """One connection over HTTP/2."""

    def __init__(self, _: Door, *args: Any) -> None:
        super().__init__(*args)

    async def _handle_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, DataReceived) and event.stream_id not in self.streams:
                # It was here, or on its way, when its stream ended. Hypercorn would end the connection for it.
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                await super()._handle_events([event])
        await self._flush()

    async def _create_stream(self, request: RequestReceived) -> None:
        if _is_malformed(request):
            self.connection.reset_stream(request.stream_id, ErrorCodes.PROTOCOL_ERROR)
        else:
            await super()._create_stream(request)


def _is_malformed(request: RequestReceived) -> bool:
    fields = dict(request.headers)
    if fields.get(b":method") == b"CONNECT" and fields.get(b":protocol") != b"websocket":
        return True
    if not (fields.get(b":method", b"") + fields.get(b":path", b"")).isascii():
        return True
    return request.stream_ended is not None and fields.get(b"content-length", b"").strip(b"0") != b""
