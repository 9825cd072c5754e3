"""What both Python clients take on their command line and say to whoever started them.

Knows options, JSON lines and the standard streams; it knows no WebSocket and no event loop. A client reports one JSON
object per line on stdout, takes one per line on stdin, and ends when stdin does, so that none outlives its starter.
"""

import argparse
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from compat.address import FORMS, WAYS, why_not

Json = dict[str, Any]

IDENTITY: Final = ("client_id", "user_id", "username", "node_id", "domain_id", "cluster_id", "channel_id")


@dataclass(frozen=True)
class Options:
    """One client's options; `waits` are the seconds between attempts, so there is one attempt more than waits."""

    base_url: str
    discovery: str
    address: str
    identity: dict[str, str | None]
    waits: tuple[float, ...]
    discover_only: bool


def _seconds(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def parse(program: str, arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; on a mistake print one sentence and exit with 2."""
    parser = argparse.ArgumentParser(prog=program, description="An existing C-Client, driven by JSON lines.")
    parser.add_argument("--base-url", required=True, help="where the gateway's HTTP is, as http://localhost:8000")
    parser.add_argument("--discovery", choices=FORMS, default=FORMS[0], help="which discovery route to ask")
    parser.add_argument("--address", choices=WAYS, default=WAYS[0], help="how to build the WebSocket address")
    parser.add_argument("--waits", type=_seconds, default=(1.0, 2.0), help="seconds between attempts (1,2)")
    parser.add_argument("--discover-only", action="store_true", help="ask, report the answer and end")
    for name in IDENTITY:
        parser.add_argument("--" + name.replace("_", "-"))
    given = parser.parse_args(arguments)
    base_url = given.base_url.rstrip("/")
    if not given.discover_only:
        if given.discovery == "info" and given.address == "url":
            parser.error("The info form names no URL: use --address host-port or base-url.")
        if (reason := why_not(given.address, base_url)) is not None:
            parser.error(f"--address {given.address} can't work here: {reason}.")
    return Options(
        base_url,
        given.discovery,
        given.address,
        {name: getattr(given, name) for name in IDENTITY},
        given.waits,
        given.discover_only,
    )


def report(event: str, **fields: object) -> None:
    """Write one event as a JSON line on stdout, at once."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def follow_commands(put: Callable[[Json | None], object]) -> None:
    """Read commands from stdin in a thread of their own and hand each to `put`; None says that stdin ended.

    `put` is called in that thread, and may raise RuntimeError once the loop it posts to is gone.
    """

    def read() -> None:
        rest = b""
        # os.read rather than sys.stdin: a daemon thread that holds stdin's lock breaks the interpreter's exit.
        with contextlib.suppress(RuntimeError):
            while chunk := os.read(0, 65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    put(json.loads(line))
            put(None)

    threading.Thread(target=read, daemon=True).start()
