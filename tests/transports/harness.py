"""How a transport under test is started and asked, whichever it is.

Knows the ports and the bytes on the wire; what a transport says about itself is in its Harness.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import pytest
import trio

from service.core.ports import Handshake, Peer
from service.transports.connection_rules import ConnectionRules
from service.transports.pressure import Pressure

from .raw import (
    TEXT,
    Address,
    RawClient,
    frame,
)
from .script import Counts, Recorder, ScriptGate


@dataclass(frozen=True)
class Options:
    """What a server under test is started with. Sizes in bytes, times in seconds; a rate of 0 is none."""

    outbound_limit: int = 256 * 1024
    handshake_timeout: float = 5.0
    compression: bool = False
    max_messages_per_second: float = 0
    hard_limit: int = 64 * 1024 * 1024
    total_limit: int = 256 * 1024 * 1024
    slow_seconds: float = 5.0
    ping_interval: float = 25.0
    pong_timeout: float = 10.0
    message_timeout: float = 120.0


def pressure_of(options: Options) -> Pressure:
    """The bounds that these options ask for."""
    return Pressure(
        limit=options.outbound_limit,
        hard_limit=options.hard_limit,
        total_limit=options.total_limit,
        slow_seconds=options.slow_seconds,
    )


def rules_of(options: Options) -> ConnectionRules:
    """What these options hold each connection to."""
    return ConnectionRules(
        handshake_timeout=options.handshake_timeout,
        ping_interval=options.ping_interval,
        pong_timeout=options.pong_timeout,
        message_timeout=options.message_timeout,
        max_messages_per_second=options.max_messages_per_second,
        compression=options.compression,
    )


class Harness(Protocol):
    """How the suite starts the transport under test.

    `native`: it parses the head and the frames itself, so that exact HTTP answers, exact codes in
    `Receiver.closed` for errors, and fairness between connections are its own doing.
    """

    name: str
    native: bool

    def serve(self, gate: ScriptGate, counts: Counts, options: Options) -> AbstractAsyncContextManager[Address]:
        """Serve on loopback, port 0, until the block is left; gives the address. Plain HTTP, where the
        transport answers it, is `script.plain_http`."""


def native_only(harness: Harness, why: str) -> None:
    """Skip where something else than our own code decides."""
    if not harness.native:
        pytest.skip(why)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for what has no event: descriptors, tasks, buffers in the kernel."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the kernel has no event for us
            await trio.sleep(0.01)


async def still_serves(address: Address) -> None:
    """A new client is served: whatever happened before ended that connection only."""
    async with await RawClient.open(address) as client:
        await client.say("still there?")
        assert await client.message() == "still there?"


def scripted(script: Callable[[Recorder, bytes], None]) -> Callable[[Peer, Handshake], Recorder]:
    """A receiver that does `script(recorder, payload)` for each message."""

    class Scripted(Recorder):
        def on_message(self, payload: bytes, text: bool) -> None:
            script(self, payload)

    return Scripted


async def send_what_is_taken(client: RawClient, data: bytes) -> None:
    """Send until done or until the server has had enough."""
    try:
        await client.stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def flood(client: RawClient) -> None:
    """Tiny frames without end, until cancelled."""
    async with client:
        burst = frame(TEXT, b"f") * 10_000
        while True:
            await client.stream.send_all(burst)
