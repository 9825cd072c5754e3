"""Notifications: pushes from back ends, one or many at a time. Source: HTTP API reference, "Pushes".

A batch is decoded to undecoded items in one go and its numbers are checked once, so an item costs two small
decodings. Every WAIT_AFTER items the others get their turn; a caller that leaves in between stops nothing, since
half a batch would be neither done nor not done.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

import msgspec
import trio
from msgspec import Raw

from portico.wire import strict_json
from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Target
from service.core.audit import Audit
from service.core.cluster.backplane import Publication, Published
from service.core.counters import Counters
from service.core.ports import HttpAnswer
from service.core.push.publications import publication_of
from service.core.quotas import Quotas, Who
from service.core.reply import Reply

from .answers import json_answer, refusal
from .forms import Receipt
from .request import Answering, HttpHandler, HttpRequest

MAX_BATCH: Final = 10_000
"""Items that a batch may have."""
WAIT_AFTER: Final = 200

Publish = Callable[[Publication, Reply[Published | PeerFault]], None]
"""Push to whoever a publication's target means."""

_batch = msgspec.json.Decoder(list[Raw])


class _Publisher:
    """Publishes the items of one body; `started` is when the body was there, on the monotonic clock.

    `results` are in the order of the items; an item of which nothing has been heard yet has None.
    """

    def __init__(
        self,
        publish: Publish,
        counters: Counters,
        on_pushed: Callable[[Target, int], None],
        started: float,
        check: Callable[[Publication], None] | None = None,
    ) -> None:
        self._publish = publish
        self._on_pushed = on_pushed
        self._check = check
        self._latency = counters.push_latency
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
                self._on_pushed(order.target, result.queued)
            if self._heard is not None and not self._unheard:
                self._heard.set()

        try:
            order = publication_of(payload, check_numbers=check_numbers)
            if self._check is not None:
                self._check(order)
        except PeerFault as fault:
            done(fault)
        else:
            reply = Reply(done)
            try:
                self._publish(order, reply)
            except BaseException:
                reply.withdraw()
                raise

    @property
    def all_heard(self) -> bool:
        """Whether all results are there."""
        return not self._unheard

    async def wait_for_all(self) -> None:
        """Wait for the results of all, whether or not the caller hangs up meanwhile."""
        if self._unheard:
            self._heard = trio.Event()
            with trio.CancelScope(shield=True):
                await self._heard.wait()


def notifications_handlers(
    publish: Publish, counters: Counters, audit: Audit, quotas: Quotas | None = None
) -> dict[str, HttpHandler]:
    """The handlers of this module, by operation. `publish` pushes one event, `counters` count faults and latency,
    `audit` is told who pushed to whom; `quotas`: of pushes, if there are any."""

    def check(address: str, order: Publication) -> None:
        if quotas is not None:
            user = order.target.value if order.target.kind == "user_id" else None
            quotas.check("pushes", Who(address, user))

    def notify(request: HttpRequest) -> Answering:
        request.check_query()
        limit = None if quotas is None else partial(check, request.head.address)
        publisher = _Publisher(publish, counters, partial(audit.on_push, request.caller), monotonic(), limit)
        if request.body.lstrip()[:1] == b"[":
            return _publish_batch(publisher, request.body, counters)
        publisher.publish(request.body, check_numbers=True)
        return _receipt(publisher) if publisher.all_heard else _later(publisher)

    return {"publishNotifications": notify}


def _receipt(publisher: _Publisher) -> HttpAnswer:
    (result,) = publisher.results
    if isinstance(result, PeerFault):
        raise result
    return json_answer(202, result)


async def _later(publisher: _Publisher) -> HttpAnswer:
    await publisher.wait_for_all()
    return _receipt(publisher)


def _publish_batch(publisher: _Publisher, body: bytes, counters: Counters) -> Answering:
    items = _items_of(body)
    suspect = _numbers_are_suspect(body)
    if len(items) > WAIT_AFTER:
        return _publish_in_turns(publisher, items, suspect, counters)
    for item in items:
        publisher.publish(bytes(item), suspect)
    return _receipts(publisher, counters) if publisher.all_heard else _receipts_later(publisher, counters)


async def _publish_in_turns(publisher: _Publisher, items: list[Raw], suspect: bool, counters: Counters) -> HttpAnswer:
    with trio.CancelScope(shield=True):
        for index, item in enumerate(items, 1):
            publisher.publish(bytes(item), suspect)
            if index % WAIT_AFTER == 0:
                await trio.lowlevel.checkpoint()
    return await _receipts_later(publisher, counters)


async def _receipts_later(publisher: _Publisher, counters: Counters) -> HttpAnswer:
    await publisher.wait_for_all()
    return _receipts(publisher, counters)


def _receipts(publisher: _Publisher, counters: Counters) -> HttpAnswer:
    answers: list[object] = []
    for result in publisher.results:
        if isinstance(result, PeerFault):
            counters.faults["http", result.code.value] += 1
            answers.append(refusal(result))
        else:
            answers.append(result)
    return json_answer(202, answers)


def _items_of(body: bytes) -> list[Raw]:
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


def _numbers_are_suspect(body: bytes) -> bool:
    # Looked at once for all; only if something is found, each item is judged by itself.
    try:
        strict_json.check_numbers(body)
    except PeerFault:
        return True
    return False
