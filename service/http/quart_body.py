"""Reading a request's body from Quart, with a bound in bytes and in time.

What exceeds the bound is read and thrown away for a while before it is refused: a server that answers and closes
while the client still sends makes the client see a reset instead of the answer.
"""

from typing import Final

import trio
from quart import Request

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault

from .body import too_large

SECONDS: Final = 30.0
"""How long a body may take to arrive."""
DISCARDED: Final = 64 << 20
"""Bytes beyond the bound that are read and thrown away at most."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises PeerFault: `too_large`, or `bad_json` for one that doesn't arrive. Cancelling is safe."""
    declared = request.content_length
    if declared is not None and declared > limit + DISCARDED:
        raise too_large(limit)
    size = 0
    parts: list[bytes] = []
    with trio.move_on_after(SECONDS) as scope:
        async for part in request.body:
            size += len(part)
            if size <= limit:
                parts.append(part)
            else:
                parts.clear()
                if size > limit + DISCARDED:
                    break
    if size > limit:
        raise too_large(limit)
    if scope.cancelled_caught:
        raise PeerFault(ErrorCode.BAD_JSON, f"The body did not arrive within {SECONDS:.0f} seconds.")
    return b"".join(parts)
