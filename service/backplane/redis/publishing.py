"""Publishing: a node's publications on their way through Redis, until they have a receipt.

Knows the commands, and whose acknowledgements are missing; not who is connected. A push goes out as one command: a
plain PUBLISH, or the script where it has an id or is kept. Redis says how many nodes it reached; when as many have
acknowledged it, or after PATIENCE with what is known then, it has a receipt. Acknowledgements may come before
Redis's own answer.

A push with an id: whoever publishes first writes the receipt down once it is known; who comes later gets it, and
waits for it at most PATIENCE. If the first publisher was cut off in between, the counts are not known and are 0.

Such a push names the epoch that this node knows. Where Redis says that it is in another, nothing was done: the node
finds out the new name, and what it has to publish meanwhile waits its turn; then it is sent once more. A live push
without an id names it too, but Redis doesn't look: nodes tell by it what comes too late (see `epochs`).
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from itertools import takewhile
from typing import Final, Protocol

import structlog
import trio

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import stream_of
from service.core.cluster.backplane import PATIENCE, Publication, Published
from service.core.reply import Reply
from service.redis.commands import Commands
from service.redis.faults import Refusal
from service.redis.subscription import LARGEST_PAYLOAD

from .names import Names
from .payloads import Ack, body_of, live, pending_offset, read_receipt, receipt
from .scripts import PUSH

REMEMBER_SECONDS: Final = 300
MAX_PUSH: Final = LARGEST_PAYLOAD - 8192
"""Bytes of one event, a little less than what a node reads: names and ids come on top."""
SLACK: Final = 0.2
"""Seconds that a receipt may be late in Redis."""
MAX_UNDERWAY: Final = 100_000
LINGER: Final = 3600
"""Seconds that a stream's history outlives its last event's time."""


class _Underway:
    __slots__ = (
        "acks",
        "born",
        "matched",
        "needed",
        "number",
        "offset",
        "publication",
        "queued",
        "reply",
        "resent",
        "until",
    )

    def __init__(self, number: int, publication: Publication, reply: Reply[Published | PeerFault], born: float) -> None:
        self.number = number
        self.publication = publication
        self.reply = reply
        self.born = born
        self.until = born + PATIENCE
        self.needed: int | None = None
        self.resent = False
        self.offset: int | None = None
        self.acks = self.matched = self.queued = 0


class Progress(Protocol):
    """How far this node has come in the history, and which history it is."""

    seen: int
    """An offset that new events must pass."""

    @property
    def epoch(self) -> str:
        """The one that this node knows."""

    def on_accepted(self, offset: int) -> None:
        """Redis has accepted an event of this node's."""


class Publisher:
    """The pushes of one node. `length` events and `ttl` seconds of each stream are kept; `renew` finds out which epoch
    it is, and says when that is done; `make_id` gives a name for a push that has none. `accepted` is the greatest
    offset that this Redis has taken from this node."""

    def __init__(
        self,
        commands: Commands,
        names: Names,
        node: str,
        progress: Progress,
        *,
        length: int,
        ttl: float,
        renew: Callable[[Callable[[], None]], None],
        make_id: Callable[[], str],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._commands = commands
        self._names = names
        self.node = node
        self._length = length
        self._ttl = ttl
        self._progress = progress
        self._renew = renew
        self._make_id = make_id
        self._log = log
        # A node that comes again under its name must not take the acknowledgements of the one before for its own.
        self._number = int.from_bytes(os.urandom(4)) << 24
        self._underway: dict[int, _Underway] = {}
        self._asking: list[_Underway] = []
        self._renewing = False
        self._again: list[_Underway] = []
        self.accepted = 0
        self.published = 0
        self.repeated = 0
        self.refused = 0
        self.acks_late = 0

    @property
    def underway(self) -> int:
        """Pushes that wait for their receipt."""
        return len(self._underway) + len(self._asking)

    def publish(self, publication: Publication, reply: Reply[Published | PeerFault]) -> None:
        """Push to all nodes; see the port."""
        self._number += 1
        event = publication.event
        if len(bytes(event.data)) > MAX_PUSH:
            reply(PeerFault(ErrorCode.TOO_LARGE, f"An event has less than {LARGEST_PAYLOAD >> 20} MiB.", field="data"))
            return
        if self.underway >= MAX_UNDERWAY:
            self.refused += 1
            reply(PeerFault(ErrorCode.UNAVAILABLE, "Too many pushes wait for their receipts; try again in a moment."))
            return
        self.published += 1
        underway = _Underway(self._number, publication, reply, trio.current_time())
        self._underway[underway.number] = underway
        if self._renewing:
            self._again.append(underway)
        else:
            self._send(underway)

    def _send(self, underway: _Underway) -> None:
        publication = underway.publication
        body = body_of(publication.event, self.node, underway.number, publication.id)
        channel = self._names.channel(publication.target)
        if publication.id is None and not publication.durable:
            self._commands.send(
                self._names.publish,
                channel,
                live(body, self._progress.epoch.encode()),
                done=partial(self._live, underway),
            )
            return
        names, stream = self._names, stream_of(publication.target)
        keys = (
            names.id(publication.id or ""),
            names.meta(stream),
            names.history(stream),
            names.epoch,
            names.streams,
            names.sizes,
            names.lapses,
        )
        words = (
            channel,
            body,
            REMEMBER_SECONDS if publication.id is not None else 0,
            self._length if publication.durable else 0,
            int(self._ttl * 1e6),
            0 if publication.ttl is None else max(1, int(publication.ttl * 1e6)),
            self._progress.seen,
            int(self._ttl) + LINGER,
            names.publish,
            stream,
            self._progress.epoch,
        )
        self._commands.send(*PUSH.call(keys, words), done=partial(self._scripted, underway))

    def _send_again(self, underway: _Underway) -> None:
        """It named an epoch that is over, or Redis has forgotten the script: nothing was done. Everything from here on
        waits until that is mended, so that what was published first is sent first: what Redis has already been sent is
        answered before it says the epoch's name."""
        underway.resent = True
        self._again.append(underway)
        if not self._renewing:
            self._renewing = True
            self._commands.send(*PUSH.load)
            self._renew(self._renewed)

    def _renewed(self) -> None:
        self._renewing = False
        again, self._again = self._again, []
        for underway in sorted(again, key=lambda one: one.number):
            self._send(underway)

    def acknowledged(self, acks: Iterable[Ack]) -> None:
        """What nodes did with pushes of this one."""
        for ack in acks:
            underway = self._underway.get(ack.number)
            if underway is not None:
                underway.acks += 1
                underway.matched += ack.matched
                underway.queued += ack.queued
                if underway.acks == underway.needed:
                    self._finish(underway)

    def look(self, now: float) -> None:
        """Give receipts to what has waited too long, and ask again for those that others are to write. For a ticker."""
        old = takewhile(lambda underway: underway.born <= now - PATIENCE, self._underway.values())
        for underway in list(old):
            if underway.needed is not None:
                self.acks_late += 1
                self._finish(underway)
        asking, self._asking = self._asking, []
        for underway in asking:
            assert underway.publication.id is not None
            key = self._names.id(underway.publication.id)
            self._commands.send("GET", key, done=partial(self._known, underway))

    def end(self) -> None:
        """This node goes: what has no receipt by now gets none."""
        waiting = [*self._underway.values(), *self._asking]
        self._underway, self._asking = {}, []
        for underway in waiting:
            self._fail(underway, None)

    def _live(self, underway: _Underway, answer: object) -> None:
        if isinstance(answer, int):
            self._reached(underway, answer)
        else:
            self._fail(underway, answer)

    def _scripted(self, underway: _Underway, answer: object) -> None:
        match answer:
            case [0, int(nodes), bytes(offset)]:
                underway.offset = int(offset) or None
                if underway.offset is not None:
                    self.accepted = max(self.accepted, underway.offset)
                    self._progress.on_accepted(underway.offset)
                self._reached(underway, nodes)
            case [1, bytes(value), int(left)]:
                self.repeated += 1
                self._underway.pop(underway.number, None)
                # Whoever was first has had its time from when this was written down.
                age = REMEMBER_SECONDS - left / 1000
                underway.until = min(underway.until, trio.current_time() + PATIENCE + SLACK - age)
                self._known(underway, value)
            case [2, bytes()] if not underway.resent:
                self._send_again(underway)
            case Refusal() if answer.word == "NOSCRIPT" and not underway.resent:
                self._send_again(underway)
            case _:
                self._fail(underway, answer)

    def _reached(self, underway: _Underway, nodes: int) -> None:
        if underway.number not in self._underway:
            return
        underway.needed = nodes
        if underway.acks >= nodes:
            self._finish(underway)

    def _known(self, underway: _Underway, value: object) -> None:
        publication = underway.publication
        if not isinstance(value, bytes) or publication.id is None:
            self._fail(underway, value)
        elif (published := read_receipt(publication.id, value)) is not None:
            underway.reply(published)
        elif trio.current_time() < underway.until:
            self._asking.append(underway)
        else:
            offset = pending_offset(value)
            stream = None if offset is None else stream_of(publication.target)
            underway.reply(Published(publication.id, stream, offset, 0, 0, True))

    def _finish(self, underway: _Underway) -> None:
        del self._underway[underway.number]
        publication, offset = underway.publication, underway.offset
        stream = None if offset is None else stream_of(publication.target)
        publication_id = self._make_id() if publication.id is None else publication.id
        published = Published(publication_id, stream, offset, underway.matched, underway.queued)
        if publication.id is not None:
            self._commands.send("SET", self._names.id(publication.id), receipt(published), "XX", "KEEPTTL")
        underway.reply(published)

    def _fail(self, underway: _Underway, answer: object) -> None:
        self._underway.pop(underway.number, None)
        self.refused += 1
        if isinstance(answer, Refusal):
            self._log.warning("Redis refused a push", answer=str(answer))
            sentence = f"Redis refused the push ({answer.word}); try again later, with the same id."
        else:
            sentence = "Redis is out of reach, and the push may not have been made; try again, with the same id."
        underway.reply(PeerFault(ErrorCode.UNAVAILABLE, sentence))
