"""The crowd that comes back: everybody is told 1012 at once and asks discovery where to connect; see `rows`."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final

from picows import WSFrame, WSMsgType, WSTransport

from . import links, usage
from .links import Link
from .rows import Order, Result

_CLOSE_SECONDS: Final = 60.0
_UNDER_WAY: Final = 512
"""Clients that are coming back at a time: as many sockets as a load may have, beside those that are ending."""
_AT_ONCE: Final = 64
_PER_ADDRESS: Final = 5_000
"""Connections from one loopback source address."""


class _Told(Link):
    """A client that says with which code it was closed."""

    def __init__(self) -> None:
        super().__init__(socketio=False)
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """One message of the server's."""
        if frame.msg_type == WSMsgType.CLOSE and not self.closed.done():
            self.closed.set_result(int(frame.get_close_code()))
        super().on_ws_frame(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Its connection is over, with a Close or without."""
        super().on_ws_disconnected(transport)
        if not self.closed.done():
            self.closed.set_result(1006)


async def comeback(order: Order) -> Result:
    """Everybody is registered at one gateway, which is told to end; each comes back to another by discovery.

    The time is from the signal to the last registration. Counts those that were told 1012, and those that are back.
    """
    count: int = order["clients"]
    crowd = await _crowd(order["url"], count)
    await asyncio.sleep(order["warm_up"])
    request = links.http_request("GET", order["discovery"], b"", {"Connection": "close"})
    room = asyncio.Semaphore(_UNDER_WAY)
    times: list[float] = []
    back: list[Link] = []

    async def one(number: int, link: _Told) -> int:
        code = await asyncio.wait_for(link.closed, _CLOSE_SECONDS)
        async with room:
            caller = await links.http_caller(order["next_http_port"])
            await caller.ask(request)
            caller.transport.close()
            back.append(await _come(order["next_url"], number))
        times.append(time.monotonic() - start)
        return code

    tasks = [asyncio.create_task(one(number, link)) for number, link in enumerate(crowd)]
    before = usage.Reading.now(0, order["next_pid"], None)
    start = time.monotonic()
    os.kill(order["server_pid"], signal.SIGTERM)
    codes = await asyncio.gather(*tasks)
    result = usage.Reading.now(len(back), order["next_pid"], None).since(before)
    times.sort()
    return {
        **result,
        "seconds": times[-1],
        "median_seconds": times[len(times) // 2],
        "told": sum(code == 1012 for code in codes),
        "back": sum(not link.transport.is_disconnected for link in back),
        "clients": count,
    }


async def _crowd(url: str, count: int) -> list[_Told]:
    """The clients, registered; each at the place of its number."""
    numbers = iter(range(count))
    found: dict[int, _Told] = {}

    async def one_after_another() -> None:
        for number in numbers:
            found[number] = await _come(url, number)

    await asyncio.gather(*(one_after_another() for _ in range(_AT_ONCE)))
    return [found[number] for number in range(count)]


async def _come(url: str, number: int) -> _Told:
    link = _Told()
    link.registering = links.registration(number, False)
    await links.connect(url, make=lambda: link, source=f"127.0.0.{2 + number // _PER_ADDRESS % 200}")
    return link


ROWS: Final[dict[str, Callable[[Order], Awaitable[Result]]]] = {"comeback": comeback}
