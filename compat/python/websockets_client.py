"""A client on asyncio: the `websockets` library, and discovery by `urllib` in a thread.

Writes every message as it is told; shares no code with the gateway.
"""

import asyncio
import urllib.error
import urllib.request

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from compat.python.program import LARGEST, Json, commands, discovery, found, received, refused, report

sockets: dict[str, ClientConnection] = {}


def ask(url: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.headers.get("content-type", ""), response.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers.get("content-type", ""), answer.read().decode()


async def discover(command: Json) -> str | None:
    on = command["on"]
    try:
        status, kind, text = await asyncio.to_thread(ask, discovery(command))
    except OSError as error:
        refused(on, error)
        return None
    return found(command, status, kind, text)


async def live(command: Json) -> None:
    on = command["on"]
    try:
        url = command.get("url") or await discover(command)
        if url is None:
            return
        report("address", on, url=url)
        socket = await connect(
            url,
            additional_headers=command.get("headers") or None,
            subprotocols=command.get("protocols") or None,
            max_size=LARGEST,
            open_timeout=15,
            proxy=None,
        )
    except InvalidStatus as error:
        refused(on, error, error.response.status_code)
        return
    except (OSError, ValueError, KeyError, WebSocketException) as error:
        refused(on, error)
        return
    sockets[on] = socket
    report("open", on, protocol=socket.subprotocol or "")
    try:
        while True:
            received(on, await socket.recv())
    except ConnectionClosed:
        report("closed", on, code=socket.close_code or 1006, reason=socket.close_reason or "")


async def obey(command: Json, tasks: set[asyncio.Task[None]]) -> None:
    do, socket = command["do"], sockets.get(command["on"])
    if do in ("discover", "arrive", "connect"):
        task = asyncio.create_task(live(command))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    elif socket is not None:
        try:
            if do == "close":
                await socket.close(command.get("code", 1000))
            else:
                await socket.send(command["text"] if do == "send" else command["text"].encode())
        except ConnectionClosed:
            return  # the reader reports it


async def main() -> None:
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[Json | None] = asyncio.Queue()
    commands(lambda command: loop.call_soon_threadsafe(told.put_nowait, command))
    report("started", runtime="websockets on asyncio")
    tasks: set[asyncio.Task[None]] = set()
    while (command := await told.get()) is not None:
        await obey(command, tasks)


if __name__ == "__main__":
    asyncio.run(main())
