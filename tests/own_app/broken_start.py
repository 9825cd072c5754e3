"""ASGI apps whose start fails."""

from typing import Any

import trio


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise OSError("there is no database")


async def never(scope: Any, receive: Any, send: Any) -> None:
    """Its start fails, and its task goes on whatever happens."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "there is no database"})
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()
