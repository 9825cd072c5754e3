"""Post: one JSON POST to a URL of the operator's, bounded in time and bytes, and never redirected.

Redirects are not followed: what the operator named is what is asked. Proxies of the environment are not used. An answer
is taken as it comes (no compression is offered). Every failure is one exception, NotPosted, with a reason that may be
logged: it holds nothing that the server said.

Connections are kept. A server may close one while it is idle, at the moment at which it is used again; what was posted
on it then is posted once more, on a new connection. So only post here what a server may get twice: a question, or an
event with an id.
"""

import ssl
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import httpcore
import trio

from .answer_end import ends_with_answer
from .network import FAILURES, HEAD_ROOM, BoundedStream, ClosedUnanswered, Judge, JudgedNetwork, reason
from .signature import HEADER, signature

KEEP_ALIVE: Final = 15.0
"""Seconds that an idle connection is kept."""


class NotPosted(Exception):
    """There was no usable answer; the text says why, in a few words."""


class Posted(NamedTuple):
    """An answer, of whatever status. Header names are lower case; the values of one that comes again are joined."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Body:
    """A request's body. Given as bytes, httpcore makes an asynchronous generator of it, which nobody closes where the
    request is cancelled while it is written."""

    def __init__(self, body: bytes) -> None:
        self._parts = [body]

    def __aiter__(self) -> "_Body":
        return self

    async def __anext__(self) -> bytes:
        if not self._parts:
            raise StopAsyncIteration
        return self._parts.pop()


class Poster:
    """Posts to one URL. `limit`: bytes of an answer's body; `connections`: at a time; `keys` sign, if there are any."""

    def __init__(
        self, url: str, judge: Judge, *, limit: int, connections: int, keys: Sequence[bytes] = (), agent: str
    ) -> None:
        self._url = url
        self._keys = tuple(keys)
        self._agent = agent
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._fresh: httpcore.AsyncConnectionPool | None = None
        self._made = (judge, limit, connections)

    async def post(self, body: bytes, *, timeout: float, headers: Sequence[tuple[str, str]] = ()) -> Posted:
        """Post a JSON body; the whole takes at most `timeout` seconds. Raises NotPosted. Cancelling is safe: the server
        may have got it. So it may have, in rare cases, where it answers: twice."""
        named = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("User-Agent", self._agent),
            ("Accept", "application/json"),
        ]
        if self._keys:
            named.append((HEADER, signature(self._keys, body, time.time())))
        try:
            with trio.fail_after(timeout):
                named += headers
                try:
                    response = await self._connected().request("POST", self._url, headers=named, content=_Body(body))
                except ClosedUnanswered:
                    # The other connections that are kept may be no better: one that goes down closes them all.
                    response = await self._unkept().request("POST", self._url, headers=named, content=_Body(body))
        except FAILURES as error:
            raise NotPosted(reason(error, timeout)) from None
        found: dict[str, str] = {}
        for raw_name, raw_value in response.headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            found[name] = f"{found[name]}, {value}" if name in found else value
        stream = response.extensions["network_stream"]
        if not isinstance(stream, BoundedStream):  # pragma: no cover - an upgrade that nobody asked for
            raise NotPosted("it does not speak HTTP (an upgrade)")
        if not ends_with_answer(stream.take_answer(), response.status, found):
            stream.use_up()
        return Posted(response.status, found, response.content)

    def _connected(self) -> httpcore.AsyncConnectionPool:
        if self._pool is None:
            self._pool = self._make_pool(kept=self._made[2])
        return self._pool

    def _unkept(self) -> httpcore.AsyncConnectionPool:
        """A pool that makes a connection for each request, and closes it behind the answer."""
        if self._fresh is None:
            self._fresh = self._make_pool(kept=0)
        return self._fresh

    def _make_pool(self, *, kept: int) -> httpcore.AsyncConnectionPool:
        judge, limit, connections = self._made
        return httpcore.AsyncConnectionPool(
            max_connections=connections,
            max_keepalive_connections=kept,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=JudgedNetwork(judge, limit + HEAD_ROOM),
            # Made at the first request: reading the authorities' certificates takes 20 ms.
            ssl_context=ssl.create_default_context(),
        )

    async def aclose(self) -> None:
        """Close the idle connections."""
        with trio.CancelScope(shield=True):
            for pool in (self._pool, self._fresh):
                if pool is not None:
                    await pool.aclose()
