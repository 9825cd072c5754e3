"""An ASGI app whose start fails."""

from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise OSError("there is no database")
