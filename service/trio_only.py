"""What an ASGI server that runs on asyncio is told: that Portico needs trio, before anybody is served.

Such a server would start, and every request would end with 500. It is refused as early as can be known: while it
imports the app, by `refuse_asyncio`; or by `lifespan.startup.failed`, for a program that imports the app first and
starts the server then. A server that asks for no lifespan gets 503 for every request, with the same sentence.
"""

import asyncio
import json
import sys
from typing import Any, Final

import trio

from service.asgi_types import AsgiApp, Receive, Scope, Send

NEEDED: Final = (
    "Portico runs on trio, and this server runs its apps on asyncio: start the gateway with portico serve, or with "
    "hypercorn -k trio service.asgi:app."
)


def refuse_asyncio() -> None:
    """End the process with the sentence and exit code 2 if a server that runs on asyncio is loading the app.

    To be called while the app is imported, before Quart is.
    """
    if not _asyncio_runs() and not _hypercorn_will_run_it():
        return
    sys.stderr.write(f"portico: {NEEDED}\n")
    raise SystemExit(2)


def _asyncio_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return not trio.lowlevel.in_trio_run()  # else trio is the guest of that loop


def _hypercorn_will_run_it() -> bool:
    # Its workers load the app before their loop runs, but after the module of their kind (`-k asyncio` and `-k uvloop`
    # share one). Quart imports that module as well.
    return "hypercorn.asyncio.run" in sys.modules and not {"hypercorn.trio.run", "quart"} & sys.modules.keys()


class TrioOnly:
    """An ASGI app: on trio it is `inner`, on anything else a refusal."""

    def __init__(self, inner: Any) -> None:
        self._inner: AsgiApp = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        if trio.lowlevel.in_trio_task():
            await self._inner(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _refuse_to_start(receive, send)
        elif scope["type"] == "http":
            await _refuse_request(send)
        else:
            await receive()  # websocket.connect; closed before it is accepted, it is refused with 403
            await send({"type": "websocket.close", "code": 1011, "reason": "this server has no trio"})


async def _refuse_to_start(receive: Receive, send: Send) -> None:
    await receive()  # lifespan.startup
    await send({"type": "lifespan.startup.failed", "message": NEEDED})


async def _refuse_request(send: Send) -> None:
    body = json.dumps({"error": {"code": "unavailable", "message": NEEDED}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
