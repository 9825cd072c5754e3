"""A proxy that cuts connections on which nothing passes for a while, as many on the way to a deployment do.

Knows bytes only. It cuts as a load balancer does: without a word to either side. If this process itself had no
processor for a while, that is no silence of the connection: before a cut it reads what lies unread.
"""

from urllib.parse import urlsplit

import trio
import trio.abc

GRACE = 0.1
"""Seconds before a cut in which it reads what came while this process had no processor."""


class Pair:
    """A connection from each side, and when something last passed."""

    def __init__(self, near: trio.abc.Stream, far: trio.abc.Stream) -> None:
        self._near, self._far = near, far
        self._passed = trio.current_time()

    async def live(self, seconds: float) -> None:
        """Pass everything on until one side ends, or nothing has passed for so long."""
        async with self._near, self._far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, self._near, self._far, nursery.cancel_scope)
            nursery.start_soon(self._pump, self._far, self._near, nursery.cancel_scope)
            while trio.current_time() < self._passed + seconds:
                await trio.sleep_until(self._passed + seconds)
                await trio.sleep(GRACE)
            nursery.cancel_scope.cancel()

    async def _pump(self, source: trio.abc.Stream, sink: trio.abc.Stream, pair: trio.CancelScope) -> None:
        try:
            while data := await source.receive_some(65536):
                self._passed = trio.current_time()
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass
        pair.cancel()


async def idle_proxy(url: str, seconds: float, *, task_status: trio.TaskStatus[str]) -> None:
    """Listen, and pass connections on to the ws:// address `url`, until cancelled. `seconds` without a byte: cut.
    `started` gets the proxy's own address."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80

    async def serve(near: trio.SocketStream) -> None:
        try:
            far = await trio.open_tcp_stream(host, port)
        except OSError:
            await near.aclose()
            return
        await Pair(near, far).live(seconds)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        task_status.started(parts._replace(netloc=f"127.0.0.1:{listener.socket.getsockname()[1]}").geturl())
