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

from portico.wire import strict_json
from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.cluster.backplane import Published
from service.core.gateway import Gateway
from service.core.ports import HttpAnswer
from service.core.push.publications import publication_of
from service.core.reply import Reply

from .answers import json_answer, refusal
from .asking import Asking, Handler
from .body import MAX_BODY
from .forms import Receipt

MAX_BATCH: Final = 10_000
"""Items that a batch may have."""
WAIT_AFTER: Final = 200

_batch = msgspec.json.Decoder(list[Raw])


class _Publisher:
    """Publishes the items of one body; `started` is when the body was there, on the monotonic clock.

    `results` are in the order of the items; an item of which nothing has been heard yet has None.
    """

    def __init__(self, gateway: Gateway, started: float) -> None:
        self._publish = gateway.publish
        self._latency = gateway.counters.push_latency
        self._started = started
        self._unheard = 0
        self._heard: trio.Event | None = None
        self.results: list[Receipt | PeerFault | None] = []

    def publish(self, payload: bytes, check_numbers: bool) -> None:
        """Push one item."""
        results = self.results
        place = len(results)
        results.append(None)
        self._unheard += 1

        def done(result: Published | PeerFault) -> None:
            self._unheard -= 1
            if isinstance(result, PeerFault):
                results[place] = result
            else:
                results[place] = Receipt(result.id, result.stream, result.offset, result.matched, result.queued)
                self._latency.observe(monotonic() - self._started)
            if self._heard is not None and not self._unheard:
                self._heard.set()

        try:
            order = publication_of(payload, check_numbers=check_numbers)
        except PeerFault as fault:
            done(fault)
        else:
            reply = Reply(done)
            try:
                self._publish(order, reply)
            except BaseException:
                reply.withdraw()
                raise

    async def heard(self) -> None:
        """Wait for the results of all; where the backplane answers at once there is nothing to wait for."""
        if self._unheard:
            self._heard = trio.Event()
            await self._heard.wait()


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
        with trio.CancelScope(shield=True):
            for index, item in enumerate(items, 1):
                publisher.publish(bytes(item), suspect)
                if index % WAIT_AFTER == 0:
                    await trio.lowlevel.checkpoint()
            await publisher.heard()
        answers: list[object] = []
        for result in publisher.results:
            if isinstance(result, PeerFault):
                faults["http", result.code.value] += 1
                answers.append(refusal(result))
            else:
                answers.append(result)
        return json_answer(202, answers)

    async def publish(asking: Asking) -> HttpAnswer:
        asking.check_query()
        body = await asking.read(MAX_BODY)
        publisher = _Publisher(gateway, monotonic())
        if body.lstrip()[:1] == b"[":
            return await publish_batch(publisher, body)
        publisher.publish(body, check_numbers=True)
        with trio.CancelScope(shield=True):
            await publisher.heard()
        (result,) = publisher.results
        if isinstance(result, PeerFault):
            raise result
        return json_answer(202, result)

    return {"publishNotifications": publish}
