"""The suite's own client: what a gateway may send while it leaves."""

import base64
import hashlib

import trio

from compat.bare import BareClient


async def test_a_ping_behind_its_close_ends_its_connection_and_nothing_else() -> None:
    async def gateway(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        key = head.lower().partition(b"sec-websocket-key:")[2].partition(b"\r\n")[0]
        key = head[head.lower().index(key) :][: len(key)].strip()
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        assert (await stream.receive_some())[0] == 0x88
        await stream.send_all(b"\x89\x00" + b"\x88\x02\x03\xe8")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, gateway, [listener])
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
        async with trio.open_nursery() as of_the_client:
            client = BareClient(of_the_client)
            await client.tell({"do": "connect", "on": "w", "url": url})
            line = client.line("w")
            events: list[str] = []
            while "closed" not in events:
                report = await line.take(60)
                assert report is not None, events
                events.append(report["event"])
                if report["event"] == "open":
                    await client.tell({"do": "close", "on": "w"})
        nursery.cancel_scope.cancel()
    assert events == ["address", "open", "closed"]
