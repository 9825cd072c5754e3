"""Notifications: pushes from back ends, one or many at a time. Source: HTTP API reference, "POST /api/notifications".

A batch is decoded to undecoded items in one go and its numbers are checked once, so an item costs two small
decodings. Every WAIT_AFTER items the others get their turn; a caller that leaves in between stops nothing, since
half a batch would be neither done nor not done.
"""

from time import monotonic
from typing import Final

import msgspec
import trio
from msgspec import Raw

from service.core.delivery import Delivery, Receipt
from service.core.gateway import Gateway
from service.core.orders import order_of
from service.core.ports import HttpAnswer
from service.wire import strict_json
from service.wire.codes import ErrorCode
from service.wire.faults import PeerFault

from .answers import json_answer, refusal
from .asking import Asking, Handler
from .body import MAX_BODY
from .forms import Refusal

MAX_BATCH: Final = 10_000
"""Items that a batch may have."""
WAIT_AFTER: Final = 200

_batch = msgspec.json.Decoder(list[Raw])


class _Publisher:
    """Publishes the items of one body; `started` is when the body was there, on the monotonic clock."""

    def __init__(self, gateway: Gateway, started: float) -> None:
        self._delivery: Delivery = gateway.delivery
        self._latency = gateway.counters.push_latency
        self._started = started

    def publish(self, payload: bytes, check_numbers: bool) -> Receipt:
        """Push one item. Raises PeerFault, and then nothing was done."""
        order = order_of(payload, check_numbers=check_numbers)
        if order.durable:
            raise PeerFault(
                ErrorCode.UNAVAILABLE,
                "Durable events come with a later version; leave 'durable' out to push this one live.",
                field="durable",
            )
        receipt = self._delivery.publish(order.target, order.event, order.id)
        self._latency.observe(monotonic() - self._started)
        return receipt


def notifications_room(gateway: Gateway) -> dict[str, Handler]:
    """The handlers of this room, by operation."""
    faults = gateway.counters.faults

    def items_of(body: bytes) -> list[Raw]:
        strict_json.check_text(body)
        try:
            items = _batch.decode(body)
        except (msgspec.MsgspecError, RecursionError) as error:
            strict_json.explain(error)
        if len(items) > MAX_BATCH:
            raise PeerFault(
                ErrorCode.TOO_LARGE, f"The batch has {len(items)} items; at most {MAX_BATCH} are taken at a time."
            )
        return items

    def numbers_are_suspect(body: bytes) -> bool:
        # Looked at once for all; only if something is found, each item is judged by itself.
        try:
            strict_json.check_numbers(body)
        except PeerFault:
            return True
        return False

    async def publish_batch(publisher: _Publisher, body: bytes) -> HttpAnswer:
        items = items_of(body)
        suspect = numbers_are_suspect(body)
        results: list[Receipt | Refusal] = []
        with trio.CancelScope(shield=True):
            for index, item in enumerate(items, 1):
                try:
                    results.append(publisher.publish(bytes(item), suspect))
                except PeerFault as fault:
                    faults["http", fault.code.value] += 1
                    results.append(refusal(fault))
                if index % WAIT_AFTER == 0:
                    await trio.lowlevel.checkpoint()
        return json_answer(202, results)

    async def publish(asking: Asking) -> HttpAnswer:
        asking.check_query()
        body = await asking.read(MAX_BODY)
        publisher = _Publisher(gateway, monotonic())
        if body.lstrip()[:1] == b"[":
            return await publish_batch(publisher, body)
        return json_answer(202, publisher.publish(body, check_numbers=True))

    return {"publishNotifications": publish}
