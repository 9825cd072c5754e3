"""The rows whose work is HTTP, as the load does it; see `rows`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from . import links
from .links import Link
from .rows import Order, Result, measured, visits


async def publish(order: Order) -> Result:
    """Batches over HTTP, a few calls at a time; counts events that were answered for."""
    everybody = await links.crowd(order["url"], order["users"])
    got = 0

    def on_text(link: Link, frame: Any) -> None:
        nonlocal got
        got += 1

    for link in everybody:
        link.on_text = on_text
    how = order["trigger"]
    answered = 0

    async def call() -> None:
        nonlocal answered
        caller = await links.http_caller(how["port"])
        while True:
            await caller.post(how["path"], how["body"].encode(), how["headers"])
            answered += how["events"]

    calls = [asyncio.create_task(call()) for _ in range(order["in_flight"])]
    result = await measured(order, lambda: answered)
    for each in calls:
        if each.done():
            each.result()
        each.cancel()
    return {**result, "answered": answered, "delivered": got}


async def calls(order: Order) -> Result:
    """One request after the other on each of several kept-alive connections; counts answers.

    `users`: registered clients, which what is asked for may be pushed to; the requests are taken in turn.
    """
    everybody = await links.crowd(order["url"], order["users"]) if order["users"] else []
    got = 0

    def on_text(link: Link, frame: Any) -> None:
        nonlocal got
        got += 1

    for link in everybody:
        link.on_text = on_text
    how = order["trigger"]
    requests = [links.http_request(how["method"], how["path"], body.encode(), how["headers"]) for body in how["bodies"]]
    answered = 0

    async def call(turn: int) -> None:
        nonlocal answered
        caller = await links.http_caller(how["port"])
        while True:
            await caller.ask(requests[turn % len(requests)])
            turn += 1
            answered += 1

    tasks = [asyncio.create_task(call(7 * number)) for number in range(order["in_flight"])]
    result = await measured(order, lambda: answered)
    for each in tasks:
        if each.done():
            each.result()
        each.cancel()
    return {**result, "answered": answered, "delivered": got}


async def arrive(order: Order) -> Result:
    """What a real client does: ask where to connect, on a connection of its own; connect there, register, close."""
    request = links.http_request("GET", order["discovery"], b"", {"Connection": "close"})

    async def discover() -> None:
        caller = await links.http_caller(order["http_port"])
        await caller.ask(request)
        caller.transport.close()

    return await visits(order, discover)


ROWS: Final[dict[str, Callable[[Order], Awaitable[Result]]]] = {row.__name__: row for row in (publish, calls, arrive)}
