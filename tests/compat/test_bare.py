"""The suite's own client: what a gateway may send while it leaves."""

import base64
import hashlib
import os

import trio

from compat.bare import BareClient

CONNECTIONS = 20
"""Whether the ping or the Close is first is chance for each of them."""


async def test_a_ping_in_the_moment_of_its_close_ends_its_connection_and_nothing_else() -> None:
    put, take = trio.open_memory_channel[trio.SocketStream](CONNECTIONS)

    async def gateway(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        lines = [line.partition(b":") for line in head.split(b"\r\n")]
        (key,) = [value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        await put.send(stream)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, gateway, [listener])
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
        async with trio.open_nursery() as of_the_client:
            client = BareClient(of_the_client)
            for number in range(CONNECTIONS):
                on = str(number)
                await client.tell({"do": "connect", "on": on, "url": url})
                stream = await take.receive()
                events: list[str] = []
                while "closed" not in events:
                    report = await client.line(on).take(60)
                    assert report is not None, events
                    events.append(report["event"])
                    if report["event"] == "open":
                        os.write(stream.socket.fileno(), b"\x89\x00")  # without a moment for others
                        await client.tell({"do": "close", "on": on})
                assert events == ["address", "open", "closed"]
        nursery.cancel_scope.cancel()
