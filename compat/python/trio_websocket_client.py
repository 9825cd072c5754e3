"""A client on trio: trio-websocket, and discovery by httpx. The suite's own client, in a process of its own.

Writes every message as it is told; shares no code with the gateway.
"""

import trio

from compat.bare import BareClient
from compat.python.program import Json, commands, report


async def main() -> None:
    into, told = trio.open_memory_channel[Json | None](100_000)
    token = trio.lowlevel.current_trio_token()
    commands(lambda command: token.run_sync_soon(into.send_nowait, command))
    report("started", runtime="trio-websocket, httpx")
    async with trio.open_nursery() as nursery:
        client = BareClient(nursery)
        followed: set[str] = set()
        async for command in told:
            if command is None:
                break
            if command["on"] not in followed:
                followed.add(command["on"])
                nursery.start_soon(follow, client, command["on"])
            await client.tell(command)
        await client.leave()
        nursery.cancel_scope.cancel()


async def follow(client: BareClient, on: str) -> None:
    while True:
        if (found := await client.line(on).take(3600)) is not None:
            report(on=on, **found)


if __name__ == "__main__":
    trio.run(main)
