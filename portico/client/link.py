"""One live WebSocket connection to the gateway, as JSON objects in and out.

Knows one connection and nothing of what is said on it; never reconnects. It rests on the trio client of the
`websockets` library, which notices at once when a peer hangs up during the handshake. (Most restarts of a gateway look
so to a client that reconnects; trio-websocket's client waits for its whole timeout.) Promises:
- sending is safe to cancel: messages pass through a bounded queue to one writer task, so that a cancelled caller never
  leaves half a frame on the wire;
- what is not a JSON object is reported and skipped, never raised;
- a peer that has gone quiet is noticed (ping and pong, RFC 6455 section 5.5.2);
- no exception of `websockets` or of the socket leaves this module.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import msgspec
import trio
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)
from websockets.protocol import State
from websockets.trio.client import ClientConnection, connect

from portico.wire.codes import ABNORMAL

from .errors import (
    BadAddress,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    HandshakeRefused,
    MessageTooLarge,
    Unsendable,
    printable,
)
from .events import BadMessage, Report
from .nursery import background_nursery
from .scheme import why_not_connected

QUEUE_LENGTH: Final = 256
"""Messages that may wait for the socket; sending one more waits for room."""

MAX_OUTGOING: Final = 2**20
"""The largest message that is sent unless the options say otherwise, in bytes: what a gateway takes from anybody."""

MAX_INCOMING: Final = 16 * 2**20
"""The largest message that is read, in bytes; a larger one ends the connection."""

_TEMPORARY: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How a connection is made and kept; all times in seconds.

    `connect_timeout` bounds the handshake, and then each answer to a registration. `ping_interval` and
    `pong_timeout`: how soon a gateway that is gone without a word is noticed. `close_timeout`: how long
    a goodbye may take. `max_message`: bytes of the largest message sent, not above the gateway's own limit
    (None: 5 MiB for a worker and for a requester with an `api_key`, else 1 MiB, as the gateway's limits are
    by default).
    `api_key`: sent as `Authorization: Bearer …` in the handshake, and never shown. `ssl_context`: which
    certificates to trust over https and wss (None: those that the system trusts).
    """

    connect_timeout: float = 10.0
    ping_interval: float = 20.0
    pong_timeout: float = 10.0
    close_timeout: float = 2.0
    max_message: int | None = None
    api_key: str | None = field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = None


def encode(message: Mapping[str, object], limit: int) -> bytes:
    """A message as JSON text. Raises Unsendable, or MessageTooLarge above `limit` bytes."""
    try:
        payload = msgspec.json.encode(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unsendable(f"This cannot be written as JSON: {printable(str(error))}.") from error
    if len(payload) > limit:
        raise MessageTooLarge(f"The message has {len(payload)} bytes; at most {limit} can be sent.")
    return payload


class Link:
    """A connection that stands. Made by `open_link` only."""

    def __init__(
        self,
        address: str,
        socket: ClientConnection,
        outgoing: trio.MemorySendChannel[bytes],
        limit: int,
        report: Report,
    ) -> None:
        self.address = address
        self._socket = socket
        self._outgoing = outgoing
        self._limit = limit
        self._report = report

    async def send(self, message: Mapping[str, object]) -> None:
        """Queue a message; waits while the queue is full.

        Raises Unsendable, MessageTooLarge or ConnectionLost. Cancelling is safe: the message is then
        sent whole or not at all.
        """
        payload = encode(message, self._limit)
        if self._socket.state is not State.OPEN:
            raise self._lost()
        try:
            await self._outgoing.send(payload)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise self._lost() from None

    def send_if_room(self, message: Mapping[str, object]) -> None:
        """Queue a message that nothing depends on; where the queue is full or the connection gone, it is dropped."""
        if self._socket.state is State.OPEN:
            with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                self._outgoing.send_nowait(encode(message, self._limit))

    async def receive(self) -> dict[str, Any]:
        """The next JSON object from the gateway. Raises ConnectionLost. Cancelling is safe."""
        while True:
            try:
                payload = await self._socket.recv(decode=False)
            except ConnectionClosed:
                raise self._lost() from None
            try:
                message = msgspec.json.decode(payload)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                self._report(BadMessage(f"not JSON ({error})"))
                continue
            if isinstance(message, dict):
                return message
            self._report(BadMessage("not a JSON object"))

    def _lost(self) -> ConnectionLost:
        closed = self._socket.protocol
        if closed.close_rcvd is not None and closed.close_rcvd_then_sent:
            return ConnectionLost(closed.close_rcvd.code, closed.close_rcvd.reason)
        # Not the gateway's decision: whatever code we sent (a broken frame, no pong) is our own,
        # and its advice was not meant for us.
        return ConnectionLost(ABNORMAL, closed.close_sent.reason if closed.close_sent is not None else "")


async def _write(socket: ClientConnection, queue: trio.MemoryReceiveChannel[bytes]) -> None:
    async with queue:
        async for payload in queue:
            try:
                await socket.send(payload, text=True)
            except ConnectionClosed:
                return  # `receive` says why


async def _hold(
    address: str,
    options: LinkOptions,
    queue: trio.MemoryReceiveChannel[bytes],
    left: trio.Event,
    *,
    task_status: trio.TaskStatus[ClientConnection],
) -> None:
    """Connect, and keep the connection until `left`; then write what is queued, and close."""
    with trio.CancelScope() as scope:
        async with _connected(address, options) as socket:
            # From here on shielded, so that a cancelled program still says goodbye: the close needs
            # the library's reader, which would otherwise be cancelled with the program.
            scope.shield = True
            task_status.started(socket)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_wait_then_limit, left, nursery.cancel_scope, options.close_timeout)
                await _write(socket, queue)
                await left.wait()
                nursery.cancel_scope.cancel()
            # Bounded, because a peer that reads nothing would hold the close for ever.
            with trio.move_on_after(options.close_timeout):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_discard, socket)
                    await socket.aclose()
            await trio.aclose_forcefully(socket.stream)


async def _discard(socket: ClientConnection) -> None:
    # The peer's Close comes after what it sent before, and a full queue would never let us see it.
    with suppress(ConnectionClosed):
        while True:
            await socket.recv(decode=False)


async def _wait_then_limit(left: trio.Event, scope: trio.CancelScope, seconds: float) -> None:
    await left.wait()
    scope.deadline = trio.current_time() + seconds


@asynccontextmanager
async def _connected(address: str, options: LinkOptions) -> AsyncIterator[ClientConnection]:
    headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else None
    try:
        connecting = connect(
            address,
            ssl=options.ssl_context if address.startswith("wss:") else None,
            additional_headers=headers,
            proxy=None,
            compression=None,
            open_timeout=options.connect_timeout,
            ping_interval=options.ping_interval,
            ping_timeout=options.pong_timeout,
            close_timeout=options.close_timeout,
            max_size=MAX_INCOMING,
        )
        socket = await connecting.__aenter__()
    except InvalidURI as error:
        raise BadAddress(f"{printable(address)} is not a WebSocket address.") from error
    except InvalidStatus as refused:
        raise _refusal(address, refused) from refused
    except (InvalidHandshake, OSError, EOFError, trio.BrokenResourceError) as error:
        silent = isinstance(error, (InvalidMessage, EOFError, ConnectionResetError, trio.BrokenResourceError))
        why = why_not_connected(address, error, silent=silent)
        raise ConnectFailed(f"Cannot connect to {printable(address)}: {why}.") from error
    try:
        yield socket
    finally:
        # The library's reader forgets to end if it is paused by a full queue when the stream closes.
        connecting.nursery.cancel_scope.cancel()
        await connecting.__aexit__(None, None, None)


def _refusal(address: str, refused: InvalidStatus) -> ClientError:
    status = refused.response.status_code
    body = _sentence_of(refused.response.body or b"")
    said = f": {body}" if body else ""
    end = "" if said.endswith((".", ".)")) else "."
    text = f"{printable(address)} refused the WebSocket with HTTP {status}{said}{end}"
    if status >= 500 or status in _TEMPORARY:
        wanted = refused.response.headers.get("Retry-After", "")
        return ConnectFailed(text, retry_after=float(wanted) if wanted.isdecimal() else 0.0)
    return HandshakeRefused(text, status)


def _sentence_of(body: bytes | bytearray) -> str:
    """What an answer says: the gateway's sentence, or else all of it."""
    text = body.decode("utf-8", "replace").strip()
    try:
        said = msgspec.json.decode(text)["error"]
        text = said["message"] if isinstance(said, dict) else said
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return printable(str(text))


@asynccontextmanager
async def open_link(address: str, options: LinkOptions, report: Report) -> AsyncIterator[Link]:
    """Connect to `address` (a checked ws:// or wss:// URL) for as long as the body runs.

    On leaving, what was queued is written and the connection closed, each within `close_timeout`.
    Raises BadAddress, ConnectFailed or HandshakeRefused. Cancelling is safe.
    """
    async with background_nursery() as nursery:
        outgoing, queue = trio.open_memory_channel[bytes](QUEUE_LENGTH)
        left = trio.Event()
        socket: ClientConnection = await nursery.start(_hold, address, options, queue, left)
        try:
            yield Link(address, socket, outgoing, options.max_message or MAX_OUTGOING, report)
        finally:
            outgoing.close()
            left.set()
