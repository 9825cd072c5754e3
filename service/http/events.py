"""Events: `GET /api/events`, a live tail of what passes in the deployment, as server-sent events.

An event is sent if all filters match, and if it is in the share that the caller wants sampled. At most QUEUE events
wait for a slow reader; more are left out, and the reader is told how many. Nothing is kept for readers that come later:
use a webhook or the stream in Redis for what must not be missed. Source: HTTP API reference, "What passes".
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from random import Random
from typing import Final

import trio

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.back_end_events import EVENTS, BackEndEvent
from service.core.event_tail import EventTail
from service.core.ports import HttpAnswer

from .answers import NOT_KEPT
from .request import HttpHandler, HttpRequest

QUEUE: Final = 1000
BEAT: Final = 15.0
"""Seconds after which a comment is sent where nothing passes, so that proxies don't cut the stream."""
MAX_LISTENERS: Final = 50
FILTERS: Final = ("event", "user_id", "client_id", "node")
PARAMETERS: Final = (*FILTERS, "sample")
HEADERS: Final = (("content-type", "text/event-stream; charset=utf-8"), NOT_KEPT, ("x-accel-buffering", "no"))

Streams = Mapping[str, Callable[[HttpRequest], AsyncGenerator[bytes]]]


def events_handlers(tail: EventTail) -> dict[str, HttpHandler]:
    """The handlers of this module, by operation: they say whether a stream may begin, and answer HEAD."""

    def stream(request: HttpRequest) -> HttpAnswer:
        _wanted(request)
        if tail.listeners >= MAX_LISTENERS:
            sentence = f"{MAX_LISTENERS} look at the events of this node already; try again later."
            raise PeerFault(ErrorCode.UNAVAILABLE, sentence)
        return HttpAnswer(200, HEADERS, b"")

    return {"streamEvents": stream}


def events_streams(tail: EventTail) -> Streams:
    """The bodies of those streams, by operation."""
    return {"streamEvents": lambda request: _stream(tail, request)}


def _wanted(request: HttpRequest) -> Callable[[str, BackEndEvent], bool]:
    """Whether an event of a node is wanted. Raises PeerFault for a query that makes no sense."""
    request.check_query(*PARAMETERS)
    query = request.query
    for name in FILTERS:
        if query.get(name) == "":
            sentence = f"The filter {name} is empty; say what to look for, or leave it out."
            raise PeerFault(ErrorCode.BAD_FIELD, sentence, field=name)
    names = frozenset(query["event"].split(",")) if "event" in query else frozenset()
    if names - set(EVENTS):
        raise PeerFault(ErrorCode.BAD_FIELD, f"The events are {', '.join(EVENTS)}.", field="event")
    share = _share(query.get("sample"))
    user, client, node_wanted = query.get("user_id"), query.get("client_id"), query.get("node")
    chance = Random()

    def wanted(node: str, event: BackEndEvent) -> bool:
        return (
            (not names or event.event in names)
            and user in (None, event.user_id)
            and client in (None, event.client_id)
            and node_wanted in (None, node)
            and (share >= 1 or chance.random() < share)
        )

    return wanted


def _share(text: str | None) -> float:
    if text is None:
        return 1.0
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise PeerFault(ErrorCode.BAD_FIELD, "The sample is a share of the events: above 0, at most 1.", field="sample")
    return share


async def _stream(tail: EventTail, request: HttpRequest) -> AsyncGenerator[bytes]:
    wanted = _wanted(request)
    sender, receiver = trio.open_memory_channel[bytes](QUEUE)
    left_out = 0

    def listener(node: str, event: BackEndEvent) -> None:
        nonlocal left_out
        if not wanted(node, event):
            return
        try:
            sender.send_nowait(
                b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.event.encode(), event.body)
            )
        except trio.WouldBlock:
            left_out += 1

    stop = tail.follow(listener)
    try:
        yield b": what passes, as it passes\n\n"
        while True:
            piece = b": nothing passes\n\n"
            with trio.move_on_after(BEAT):
                piece = await receiver.receive()
            if left_out:
                piece += b'event: left_out\ndata: {"event":"left_out","count":%d}\n\n' % left_out
                left_out = 0
            yield piece
    finally:
        stop()
