"""The lines that a gateway greets its operator with, where the log is for people: what listens where, what to try."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from portico.version import VERSION

_SERVED: Final = {
    "combined": ("HTTP and WebSocket", "a page to try it, the API, discovery"),
    "http": ("HTTP", "a page to try it, the API, discovery"),
    "websocket": ("WebSocket", "health and discovery by plain HTTP"),
}
_KINDS: Final = {"websocket": ("WebSocket", "ws"), "worker": ("Workers", "ws"), "redirect": ("Redirect", "http")}


def banner(
    *,
    environment: str,
    api_type: str,
    host: str,
    http_port: int,
    tls: bool,
    ports: Mapping[str, int],
    command: str,
    served: str | None = None,
    at_a_console: bool = False,
) -> str:
    """The whole text. `ports`: those besides HTTP, by kind. `command`: how `portico` is called here. `served`: what
    is on the HTTP port, where that is not the usual. `at_a_console`: a prompt follows, where Ctrl-C ends nothing."""
    shown = "localhost" if host in ("0.0.0.0", "::", "") else host
    if ":" in shown:
        shown = f"[{shown}]"
    base = f"{'https' if tls else 'http'}://{shown}:{http_port}"
    beside = []
    for kind, port in ports.items():
        name, scheme = _KINDS[kind]
        beside.append(f"  {name:<20} {'wss' if tls and scheme == 'ws' else scheme}://{shown}:{port}")
    what, more = _SERVED[api_type]
    return "\n".join(
        [
            f"Portico {VERSION} is running ({environment}).",
            "",
            f"  {what:<20} {base}   ({served or more})",
            *beside,
            "",
            "Try next, in another shell:",
            f"  curl {base}/api/b-client/websocket-info",
            f"  {command} worker --base-url {base}",
            f'  {command} request --base-url {base} echo \'{{"message": "Hello World"}}\'',
            "",
            "quit, or Ctrl-D, ends it." if at_a_console else "Ctrl-C stops it; a second Ctrl-C at once.",
            "",
            "",
        ]
    )


def how_it_was_called() -> str:
    """What to type for `portico` in another shell: its name, if that finds it, or else its path."""
    called = sys.argv[0]
    if Path(called).name != "portico":
        return f"{sys.executable} -m service"
    found = shutil.which("portico")
    if found is not None and os.path.realpath(found) == os.path.realpath(called):
        return "portico"
    return called
