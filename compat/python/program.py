"""What the Python client programs say to whoever started them, and are told: one JSON object a line.

Knows the standard streams; it knows no WebSocket and no event loop. A program ends when its stdin does, so that none
outlives its starter.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

Json = dict[str, Any]

LARGEST: Final = 64 * 1024 * 1024
_writing = threading.Lock()


def report(event: str, on: str = "", **fields: object) -> None:
    """Write one event of a connection as a JSON line on stdout, at once."""
    line = json.dumps({"event": event, "on": on, **fields}) + "\n"
    with _writing:
        sys.stdout.write(line)
        sys.stdout.flush()


def received(on: str, message: str | bytes) -> None:
    """Report a message."""
    if isinstance(message, str):
        report("text", on, text=message)
    else:
        report("binary", on, size=len(message))


def refused(on: str, error: BaseException, status: int | None = None) -> None:
    """Report that a connection doesn't come about."""
    report("refused", on, status=status, why=str(error) or type(error).__name__)


def commands(put: Callable[[Json | None], object]) -> None:
    """Read commands from stdin in a thread of their own and hand each to `put`; None says that stdin ended.

    `put` is called in that thread, and may raise RuntimeError once the loop it posts to is gone.
    """

    def read() -> None:
        rest: list[bytes] = []
        # os.read rather than sys.stdin: a daemon thread that holds stdin's lock breaks the interpreter's exit.
        with contextlib.suppress(RuntimeError):
            while chunk := os.read(0, 1 << 20):
                *lines, last = chunk.split(b"\n")
                for line in lines:
                    put(json.loads(b"".join([*rest, line])))
                    rest = []
                rest.append(last)
            put(None)

    threading.Thread(target=read, daemon=True).start()


def address(command: Json, answer: Json) -> str:
    """The WebSocket address, built from what discovery answered in the way that the command names."""
    if command["form"] == "info":
        host, port = answer["b_client_info"]["websocket"]["host"], answer["b_client_info"]["websocket_port"]
    else:
        host, port = answer["websocket_host"], answer["websocket_port"]
    if command["way"] == "host-port":
        return f"ws://{host}:{port}"
    if command["way"] == "base-url":
        return f"ws://{command['base'].split('://')[1]}:{port}"
    return str(answer["websocket_url"])


def found(command: Json, status: int, kind: str, text: str) -> str | None:
    """Report what discovery answered, for a program whose HTTP library gives it text. Returns the WebSocket address;
    None where there is none, or the command was only to ask. Raises ValueError or KeyError for an unusable answer."""
    report("found", command["on"], status=status, content_type=kind, text=text)
    if command["do"] == "discover" or status != 200:
        return None
    return address(command, json.loads(text))


def discovery(command: Json) -> str:
    """The address of discovery's route."""
    return f"{command['base']}/api/b-client/{command['form']}"
