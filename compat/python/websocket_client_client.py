"""A client with threads: the `websocket-client` library and its WebSocketApp, and discovery by `urllib`.

Writes every message as it is told; shares no code with the gateway.
"""

import contextlib
import queue
import threading
import urllib.error
import urllib.request
from typing import Any

import websocket

from compat.python.program import Json, commands, discovery, found, received, refused, report

apps: dict[str, Any] = {}


def discover(command: Json) -> str | None:
    on = command["on"]
    try:
        try:
            response = urllib.request.urlopen(discovery(command), timeout=10)
        except urllib.error.HTTPError as answer:
            response = answer
        with response:
            status, kind, text = response.status, response.headers.get("content-type", ""), response.read().decode()
    except OSError as error:
        refused(on, error)
        return None
    return found(command, status, kind, text)


def live(command: Json) -> None:
    on = command["on"]
    try:
        url = command.get("url") or discover(command)
    except (ValueError, KeyError) as error:
        refused(on, error)
        return
    if url is None:
        return
    report("address", on, url=url)
    opened, over = threading.Event(), threading.Event()

    def on_open(app: Any) -> None:
        opened.set()
        apps[on] = app
        report("open", on, protocol=app.sock.subprotocol or "")

    def on_data(app: Any, data: str | bytes, kind: int, whole: bool) -> None:
        received(on, data)

    def on_error(app: Any, error: BaseException) -> None:
        if not opened.is_set():
            over.set()
            refused(on, error, getattr(error, "status_code", None))

    def on_close(app: Any, code: int | None, reason: str | None) -> None:
        if not over.is_set():
            over.set()
            report("closed", on, code=code or 1006, reason=reason or "")

    headers = dict(command.get("headers") or {})
    origin = headers.pop("origin", None)  # the library has a place of its own for it, and else sends a second one
    websocket.WebSocketApp(
        url,
        header=headers or None,
        subprotocols=command.get("protocols") or None,
        on_open=on_open,
        on_data=on_data,
        on_error=on_error,
        on_close=on_close,
    ).run_forever(origin=origin, suppress_origin=origin is None)
    if opened.is_set() and not over.is_set():
        on_close(None, None, None)


def obey(command: Json) -> None:
    do, app = command["do"], apps.get(command["on"])
    if do in ("discover", "arrive", "connect"):
        threading.Thread(target=live, args=(command,), daemon=True).start()
    elif app is not None:
        # One that is over is reported by the thread that reads.
        with contextlib.suppress(websocket.WebSocketException, OSError, AttributeError):
            if do == "close":
                app.sock.send_close(command.get("code", 1000))
            elif do == "send":
                app.send(command["text"])
            else:
                app.send(command["text"].encode(), websocket.ABNF.OPCODE_BINARY)


def main() -> None:
    told: queue.Queue[Json | None] = queue.Queue()
    commands(told.put)
    report("started", runtime=f"websocket-client {websocket.__version__}")
    while (command := told.get()) is not None:
        obey(command)


if __name__ == "__main__":
    main()
