"""The proxy of `redis_server` for tests that have no trio: it runs in a thread of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from tests.backplane.redis_server import TcpProxy, tcp_proxy


class ProxyThread:
    """A TcpProxy in a thread of its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken
        self._over: trio.Event
        self._proxy: TcpProxy
        self._thread = threading.Thread(target=trio.run, args=(self._serve,), daemon=True)

    @property
    def url(self) -> str:
        """Redis by this way."""
        return self._proxy.url

    def cut(self) -> None:
        """Reset every connection."""
        trio.from_thread.run_sync(self._proxy.cut, trio_token=self._token)

    def stall(self) -> None:
        """Let nothing through."""
        trio.from_thread.run_sync(self._proxy.stall, trio_token=self._token)

    def resume(self) -> None:
        """Let everything through again."""
        trio.from_thread.run_sync(self._proxy.resume, trio_token=self._token)

    def start(self) -> None:
        """Until it listens."""
        self._thread.start()
        assert self._ready.wait(60)

    def end(self) -> None:
        """Stop, and wait for it."""
        trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join(60)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._over = trio.Event()
        async with tcp_proxy(self._target) as self._proxy:
            self._ready.set()
            await self._over.wait()


@contextmanager
def proxied(target: int) -> Iterator[ProxyThread]:
    """A proxy to a port while the block runs."""
    proxy = ProxyThread(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.end()
