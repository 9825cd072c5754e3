"""An echo behind each transport, for the fuzzing client: `python -m tests.autobahn.echo_server [--compression]`.

One process, three ports on loopback, told as one line of JSON on standard output; it serves until it is ended.
Knows the transports by their ports only. The core sends text; an echo has to send binary messages too, so its
frames say themselves what they are: natively on the wire, and over ASGI by a letter that is taken off below.
"""

import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, Final

import trio

from portico.wire.frame import Frame
from service.core.ports import Peer
from service.transports.door import Door
from tests.transports.asgi_harness import DoorHarness, Lines, make_app, serving
from tests.transports.contract import Options
from tests.transports.harness import pressure_of, rules_of
from tests.transports.native_harness import NativeHarness
from tests.transports.script import Counts, Recorder, ScriptGate, admitted

TRANSPORTS: Final = ("native", "door", "asgi")
LARGEST: Final = 64 * 1024 * 1024
_BINARY: Final = b"\x82"

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class Echo(Recorder):
    """Sends back what it gets, as what it got it; keeps nothing."""

    def receive(self, payload: bytes, text: bool) -> None:
        frame = Frame(payload)
        if not text:
            frame.wire = _BINARY + frame.wire[1:]
        self.peer.send(frame)


class MarkedEcho(Recorder):
    """The same for ASGI, where everything goes out as text: the first letter says what it is."""

    def receive(self, payload: bytes, text: bool) -> None:
        self.peer.send(Frame(b"t" + payload if text else b"b" + payload.decode("latin-1").encode()))


def unmarked(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """An ASGI app whose messages go out as what their first letter says."""

    async def inner(scope: Any, receive: Any, send: Send) -> None:
        async def send_as_meant(message: Message) -> None:
            marked = message.get("text") if message["type"] == "websocket.send" else None
            if marked and marked[0] == "t":
                message["text"] = marked[1:]
            elif marked:
                message["text"], message["bytes"] = None, marked[1:].encode("latin-1")
            await send(message)

        await app(scope, receive, send_as_meant)

    return inner


def _gate(make: Callable[[Peer, Any], Recorder]) -> ScriptGate:
    return ScriptGate(make=make, admission=admitted(max_message_size=LARGEST))


async def main(compression: bool) -> None:
    """Serve until cancelled; `compression`: agree to permessage-deflate."""
    options = Options(outbound_limit=LARGEST, compression=compression)
    lines = Lines()
    app = make_app(_gate(MarkedEcho), counts := Counts(), lines, pressure=pressure_of(options))
    app.asgi_app = unmarked(app.asgi_app)  # type: ignore[assignment, method-assign]  # as middleware is added
    async with AsyncExitStack() as stack:
        native = await stack.enter_async_context(NativeHarness().serve(_gate(Echo), Counts(), options))
        door = await stack.enter_async_context(DoorHarness(lines).serve(_gate(Echo), Counts(), options))
        asgi_door = Door(counts=counts, log=lines, rules=rules_of(options))
        asgi = await stack.enter_async_context(serving(app, asgi_door))
        sys.stdout.write(json.dumps(dict(zip(TRANSPORTS, (native[1], door[1], asgi[1]), strict=True))) + "\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, "--compression" in sys.argv)
