"""Fetch: one GET of a URL of the operator's, bounded in time and bytes, and never redirected.

The answer is taken as it comes (no compression is offered), proxies of the environment are not used, and certificates
are checked against the authorities that this machine trusts (SSL_CERT_FILE). Whatever the server does, `fetch` is over
when its time is, and leaves no thread and no connection behind: one that sends a byte now and then costs nothing more.
Every failure is one exception, NotFetched, with a reason that may be logged: it holds nothing that the server said.
"""

import ssl
from typing import NamedTuple

import httpcore
import trio

from .network import FAILURES, HEAD_ROOM, JudgedNetwork, anywhere, reason


class NotFetched(Exception):
    """There was no whole answer; the text says why, in a few words."""


class Fetched(NamedTuple):
    """An answer, of whatever status."""

    status: int
    body: bytes


async def fetch(url: str, *, limit: int, timeout: float, agent: str) -> Fetched:
    """What a URL answers. `limit`: bytes of the body; the whole takes at most `timeout` seconds. Raises NotFetched.
    Cancelling is safe."""
    headers = [("User-Agent", agent), ("Accept", "application/json"), ("Accept-Encoding", "identity")]
    try:
        with trio.fail_after(timeout):
            # In a thread, since reading the authorities' certificates takes 20 ms.
            secure = None if url.startswith("http:") else await trio.to_thread.run_sync(ssl.create_default_context)
            async with httpcore.AsyncConnectionPool(
                max_connections=1, network_backend=JudgedNetwork(anywhere, limit + HEAD_ROOM), ssl_context=secure
            ) as pool:
                response = await pool.request("GET", url, headers=headers)
    except FAILURES as error:
        raise NotFetched(reason(error, timeout)) from None
    if len(response.content) > limit:
        raise NotFetched("the answer is too long")
    return Fetched(response.status, response.content)
