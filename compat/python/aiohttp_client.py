"""A client on asyncio: aiohttp for WebSockets and for discovery.

Writes every message as it is told; shares no code with the gateway.
"""

import asyncio
from typing import Any

import aiohttp

from compat.python.program import LARGEST, Json, address, commands, discovery, received, refused, report

sockets: dict[str, Any] = {}


async def discover(session: aiohttp.ClientSession, command: Json) -> str | None:
    on = command["on"]
    async with session.get(discovery(command)) as response:
        text = await response.text()
        kind = response.headers.get("content-type", "")
        report("found", on, status=response.status, content_type=kind, text=text)
        if command["do"] == "discover" or response.status != 200:
            return None
        return address(command, await response.json())


async def live(session: aiohttp.ClientSession, command: Json) -> None:
    on = command["on"]
    try:
        url = command.get("url") or await discover(session, command)
        if url is None:
            return
        report("address", on, url=url)
        socket = await session.ws_connect(
            url,
            headers=command.get("headers") or None,
            protocols=command.get("protocols") or (),
            max_msg_size=LARGEST,
        )
    except aiohttp.WSServerHandshakeError as error:
        refused(on, error, error.status)
        return
    except (OSError, ValueError, KeyError, aiohttp.ClientError) as error:
        refused(on, error)
        return
    sockets[on] = socket
    report("open", on, protocol=socket.protocol or "")
    while (message := await socket.receive()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
        received(on, message.data)
    if message.type == aiohttp.WSMsgType.CLOSE:
        # What the Close said; the socket's own code is 1006 where the answer to it found nobody.
        report("closed", on, code=message.data or 1005, reason=message.extra or "")
    else:
        report("closed", on, code=socket.close_code or 1006, reason="")


async def obey(session: aiohttp.ClientSession, command: Json, tasks: set[asyncio.Task[None]]) -> None:
    do, socket = command["do"], sockets.get(command["on"])
    if do in ("discover", "arrive", "connect"):
        task = asyncio.create_task(live(session, command))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    elif socket is not None and not socket.closed:
        try:
            if do == "close":
                await socket.close(code=command.get("code", 1000))
            elif do == "send":
                await socket.send_str(command["text"])
            else:
                await socket.send_bytes(command["text"].encode())
        except (ConnectionError, aiohttp.ClientError):
            return  # the reader reports it


async def main() -> None:
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Json | None] = asyncio.Queue()
    commands(lambda command: loop.call_soon_threadsafe(told.put_nowait, command))
    report("started", runtime=f"aiohttp {aiohttp.__version__}")
    tasks: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        while (command := await told.get()) is not None:
            await obey(session, command, tasks)


if __name__ == "__main__":
    asyncio.run(main())
