"""A client with threads: the blocking client of `websockets`, and discovery by `requests`.

Writes every message as it is told; shares no code with the gateway. It reads in a thread of its own while it writes the
handshake, which CPython's older TLS may not be able to do at once: now and then, on a busy machine, the request never
gets out. So a handshake that isn't answered in time is tried once more, as programs do.
"""

import queue
import threading

import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from compat.python.program import LARGEST, Json, address, commands, discovery, received, refused, report

HASTY, PATIENT = 4, 15

sockets: dict[str, ClientConnection] = {}


def discover(command: Json) -> str | None:
    on = command["on"]
    try:
        response = requests.get(discovery(command), timeout=10)
    except requests.RequestException as error:
        refused(on, error)
        return None
    kind = response.headers.get("content-type", "")
    report("found", on, status=response.status_code, content_type=kind, text=response.text)
    if command["do"] == "discover" or response.status_code != 200:
        return None
    return address(command, response.json())


def opened(url: str, command: Json, seconds: float) -> ClientConnection:
    return connect(
        url,
        additional_headers=command.get("headers") or None,
        subprotocols=command.get("protocols") or None,
        max_size=LARGEST,
        open_timeout=seconds,
        proxy=None,
    )


def live(command: Json) -> None:
    on = command["on"]
    try:
        url = command.get("url") or discover(command)
        if url is None:
            return
        report("address", on, url=url)
        try:
            socket = opened(url, command, HASTY)
        except TimeoutError:
            socket = opened(url, command, PATIENT)
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
            received(on, socket.recv())
    except ConnectionClosed:
        report("closed", on, code=socket.close_code or 1006, reason=socket.close_reason or "")


def obey(command: Json) -> None:
    do, socket = command["do"], sockets.get(command["on"])
    if do in ("discover", "arrive", "connect"):
        threading.Thread(target=live, args=(command,), daemon=True).start()
    elif socket is not None and do == "close":
        threading.Thread(target=socket.close, args=(command.get("code", 1000),), daemon=True).start()
    elif socket is not None:
        try:
            socket.send(command["text"] if do == "send" else command["text"].encode())
        except ConnectionClosed:
            return  # the reader reports it


def main() -> None:
    told: queue.Queue[Json | None] = queue.Queue()
    commands(told.put)
    report("started", runtime="websockets with threads, requests")
    while (command := told.get()) is not None:
        obey(command)


if __name__ == "__main__":
    main()
