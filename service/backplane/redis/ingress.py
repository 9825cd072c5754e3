"""Ingress: what other programs put on a stream of Redis is published, each entry once.

The stream is `{prefix}ingress`. An entry has a field `json`: one object as `POST /api/notifications` takes it; other
fields are left alone. The nodes are one consumer group, so each entry goes to one of them. What it promises:

- An entry is acknowledged, and deleted, only after what it says was accepted. Where that is not possible now
  (`unavailable`), its node tries again, with back-off, and reads nothing further meanwhile.
- The entries of a node that is gone, or hangs, are taken over by another after `lease` seconds.
- What is tried twice for these reasons is published once within five minutes: an entry that gives no `id` has its own.
- An entry that can never be published goes to `{prefix}ingress:dead` with the reason, the newest DEAD_KEPT of them.
- After an outage, or when somebody has deleted the stream or the group, reading goes on with what is there.

Entries that one node reads are published in their order, but for those that have to be tried again; what several read
is in no order. The stream is as long as what is not yet published: whoever adds to it says how long it may get
(`XADD … MAXLEN ~ n`), and what is trimmed is gone. `ask` is of a connection that nothing else uses, since reading holds
it up for BLOCK milliseconds.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import structlog
import trio

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.backoff import Backoff
from service.core.cluster.backplane import Publication
from service.core.reply import Reply
from service.redis.faults import Refusal, Unreachable, reason
from service.redis.scripts import Ask

from .scripts import INGRESS_FORGET, INGRESS_SETTLE

GROUP: Final = "portico"
BATCH: Final = 64
"""Entries that one node has in hand at most."""
BLOCK: Final = 1000
"""Milliseconds that reading waits for an entry; well below what a connection may be silent for."""
MAX_ENTRY: Final = 16 << 20
"""Bytes of `json`."""
DEAD_KEPT: Final = 1000
SHOWN: Final = 65_536
"""Bytes of `json` that are kept of a dead entry."""
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0
FORGOTTEN_AFTER: Final = 86_400_000
"""Milliseconds after which a consumer that has not read, and has nothing in hand, is dropped from the group."""
_CLAIM_PAGES: Final = 100

Publish = Callable[[Publication, Reply[object]], None]
"""Publishes; answered with what came of it: a PeerFault where it was refused."""


class _Entry(NamedTuple):
    id: bytes
    fields: list[bytes] | None
    """Names and values by turns; None: it was deleted."""


class Ingress:
    """One node's reading of the stream. For metrics: `accepted`, `dead`, `postponed` and `taken_over` entries.

    `publication_of` reads an entry's JSON, and raises PeerFault; `node` gives this node's name, which changes where it
    was taken. `lease`, in seconds, is longer than publishing may take.
    """

    def __init__(
        self,
        ask: Ask,
        publish: Publish,
        publication_of: Callable[[bytes], Publication],
        *,
        node: Callable[[], str],
        prefix: str = "portico:",
        lease: float,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._ask = ask
        self._publish = publish
        self._publication_of = publication_of
        self._node = node
        self._stream = prefix + "ingress"
        self._dead = prefix + "ingress:dead"
        self._lease = lease
        self._log = log
        self._in_hand = True  # whether there may be entries that were given to this node already
        self._count = BATCH
        self._claim_at = 0.0
        self.trouble: str | None = None
        """Why nothing is read now, or None."""
        self.accepted = 0
        self.dead = 0
        self.postponed = 0
        self.taken_over = 0

    async def run(self) -> None:
        """Read until cancelled. Cancelling is safe: what is in hand then is taken over by another node."""
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY, jitter=0.5)
        while True:
            try:
                await self._join()
                while await self._read_on():
                    backoff.reset()
                    self.trouble = None
                why = "what it says can't be published now"
            except Unreachable as error:
                # It may be that so much at a time takes too long.
                self._count = max(1, self._count // 2)
                why = reason(error)
            except Refusal as error:
                if error.word == "NOGROUP":
                    continue
                why = reason(error)
            if self.trouble is None:
                self._log.warning("cannot read the ingress stream", stream=self._stream, reason=why)
            self.trouble = why
            self._in_hand = True
            await trio.sleep(backoff.pause())

    async def _join(self) -> None:
        """Make the group, if there is none: for all that is there, since what was published is not."""
        try:
            await self._ask("XGROUP", "CREATE", self._stream, GROUP, "0", "MKSTREAM")
        except Refusal as error:
            if error.word != "BUSYGROUP":
                raise

    async def _read_on(self) -> bool:
        """Read some entries, and have them published. False if some of them have to be tried again."""
        if trio.current_time() >= self._claim_at:
            await self._take_over()
            self._claim_at = trio.current_time() + self._lease / 2
        entries = await self._read()
        if not entries:
            self._in_hand = False
            return True
        settled = await self._publish_all(entries)
        if settled:
            await INGRESS_SETTLE.ask(self._ask, (self._stream,), (GROUP, *settled))
        self._count = min(BATCH, self._count * 2)
        self.postponed += len(entries) - len(settled)
        return len(settled) == len(entries)

    async def _read(self) -> list[_Entry]:
        # What is in hand comes before what is new: an answer that was lost, or a former life under this name.
        what = ("STREAMS", self._stream, "0") if self._in_hand else ("BLOCK", BLOCK, "STREAMS", self._stream, ">")
        answer = await self._ask("XREADGROUP", "GROUP", GROUP, self._node(), "COUNT", self._count, *what)
        if not isinstance(answer, list):
            return []
        ((_, entries),) = answer
        return [_Entry(*entry) for entry in entries]

    async def _publish_all(self, entries: list[_Entry]) -> list[bytes]:
        """Publish entries, in their order. Returns the ids of those that are done with."""
        outcomes: dict[bytes, object] = {}
        replies: list[Reply[object]] = []
        heard = trio.Event()

        def publish(entry: _Entry, publication: Publication) -> None:
            def done(outcome: object) -> None:
                outcomes[entry.id] = outcome
                if len(outcomes) == len(entries):
                    heard.set()

            reply = Reply(done)
            replies.append(reply)
            self._publish(publication, reply)

        for entry in entries:
            if entry.fields is None:
                outcomes[entry.id] = None
                continue
            try:
                publication = self._publication(entry.id, entry.fields)
            except PeerFault as fault:
                outcomes[entry.id] = fault
            else:
                publish(entry, publication)
        try:
            if len(outcomes) < len(entries):
                await heard.wait()
        finally:
            for reply in replies:
                reply.withdraw()
        settled: list[bytes] = []
        for entry in entries:
            outcome = outcomes[entry.id]
            if not isinstance(outcome, PeerFault):
                self.accepted += entry.fields is not None
            elif outcome.code is ErrorCode.UNAVAILABLE:
                continue
            else:
                await self._bury(entry, outcome)
            settled.append(entry.id)
        return settled

    def _publication(self, entry_id: bytes, fields: list[bytes]) -> Publication:
        values = [value for name, value in zip(fields[::2], fields[1::2], strict=True) if name == b"json"]
        if len(values) != 1:
            raise PeerFault(
                ErrorCode.MISSING_FIELD,
                "An entry has one field 'json', with an object as POST /api/notifications takes it.",
                field="json",
            )
        (payload,) = values
        if len(payload) > MAX_ENTRY:
            raise PeerFault(ErrorCode.TOO_LARGE, f"The field 'json' is too large; at most {MAX_ENTRY} bytes are taken.")
        publication = self._publication_of(payload)
        return publication if publication.id is not None else publication._replace(id=f"ingress-{entry_id.decode()}")

    async def _bury(self, entry: _Entry, fault: PeerFault) -> None:
        fields = entry.fields or []
        shown = next((value for name, value in zip(fields[::2], fields[1::2], strict=True) if name == b"json"), b"")
        words = ("entry", entry.id, "code", fault.code.value, "reason", fault.message, "json", shown[:SHOWN])
        await self._ask("XADD", self._dead, "MAXLEN", DEAD_KEPT, "*", *words)
        self.dead += 1
        self._log.warning(
            "an entry of the ingress stream was refused",
            entry=entry.id.decode(),
            code=fault.code.value,
            reason=fault.message,
        )

    async def _take_over(self) -> None:
        """Have what others have had in hand for too long, and forget consumers that have long been gone."""
        idle, start = int(self._lease * 1000), b"0-0"
        for _ in range(_CLAIM_PAGES):
            claim = ("XAUTOCLAIM", self._stream, GROUP, self._node(), idle, start, "COUNT", BATCH, "JUSTID")
            answer = await self._ask(*claim)
            if not isinstance(answer, list):
                return
            start, ids = answer[0], answer[1]
            self.taken_over += len(ids)
            self._in_hand = self._in_hand or bool(ids)
            if start == b"0-0":
                break
        await INGRESS_FORGET.ask(self._ask, (self._stream,), (GROUP, FORGOTTEN_AFTER, self._node()))
