"""Following: the targets that this node has joined, and how far it has come in each one's stream.

Knows positions, what is held back and who waits; of Redis nothing but that its history can be read. A target's pushes
go to the node in the order in which they were published, durable ones each once. A durable event names the one before
it, so a gap is seen at once: then what comes for this target is held until the gap was read from the history.

Reading goes in batches, one at a time (`reading`). It ends with a fence, a message of this node to itself: when that
is heard, everything that was published before the reading has come, if it comes at all. So what is held tells up to
where the history must be taken (what the first held event names as the one before it), and no event overtakes
another. A long history takes several batches, each beside what is due by then: nobody waits for what another has
missed. A join is answered within PATIENCE, or, while a long history is being read, within LONGEST.

A position is an offset that everything published later exceeds: a target that nobody resumes needs no reading to have
one. A client that is let in while Redis is away is given the greatest that was seen before, and what came after that is
read when Redis is back; where nothing was seen before, the client is told of a gap.

A client may have come further than this node, by another node. It is answered when this node has come as far: the
events in between would come to it a second time.

An answer is of one epoch: where another begins while a join waits, what it knew is found out once more, and lost to
whoever named it. A client may know that epoch before this node does, by another node: what it names then is looked for
once this node knows. A gap that is told while a join waits is part of its answer.
"""

import math
import random
from collections.abc import Callable, Collection
from functools import partial
from itertools import islice, takewhile
from typing import Final

import structlog
import trio

from portico.wire.messages import Event, Target, stream_of
from service.core.cluster.backplane import PATIENCE, Joined, PushObserver, StreamPositions
from service.core.reply import Reply
from service.redis.commands import Commands
from service.redis.subscription import Subscription

from .epoch_finder import EpochFinder
from .epochs import Epochs
from .joining import Counts, Followed, Join
from .names import Names, ordinary
from .payloads import Arrival, Push, event_of
from .reading import Kept, Moment, Reader

BATCH: Final = 500
"""Targets that are read at once."""
LONGEST: Final = 10.0
"""Seconds that a join waits while more and more is read of a long history."""
MAX_HELD: Final = 1000
MAX_HELD_BYTES: Final = 4 << 20
"""What is held back for one target. What comes then: the gap is given up (`lost`), and what was held is delivered."""
LOOK_SECONDS: Final = 5.0
"""How often an idle node makes sure that the epoch is still the same."""
JITTER: Final = 0.5
"""Seconds within which a node begins to read after a gap of the whole link, so that not all do at once."""


Acknowledge = Callable[[Push, Counts], None]


class _Reading:
    """A target whose history is being read. `held`: whether something was held back when that began."""

    __slots__ = ("followed", "held", "joins", "kept")

    def __init__(self, followed: Followed, joins: list[tuple[Join, int | None]], kept: Kept | None) -> None:
        self.followed = followed
        self.held = followed.held is not None
        self.joins = joins
        self.kept = kept

    def add_joins(self) -> None:
        """Who has come since, and missed no more than is read, is answered with the others."""
        if self.kept is not None:
            start = self.kept.start
            self.joins = [one for one in self.followed.joins if one[1] is None or one[1] < 0 or one[1] >= start]


class Following:
    """What one node follows, by way of its `subscription`, which may have missed something while it is in trouble.
    `acknowledge` tells the publisher of a push what became of it here.

    For metrics: `gaps`, `resubscribed`, `replayed`, `doubles`, `lost` and `outdated` (pushes of an epoch that is over).
    """

    def __init__(
        self,
        commands: Commands,
        names: Names,
        node: str,
        subscription: Subscription,
        finder: EpochFinder,
        *,
        acknowledge: Acknowledge,
        ttl: float,
        history_bytes: int,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._commands = commands
        self._names = names
        self._reader = Reader(commands, names, node, history_bytes)
        self._subscription = subscription
        self._finder = finder
        self._acknowledge = acknowledge
        self._log = log
        self._ttl = int(ttl * 1e6)
        self._pushes: PushObserver
        self._followed: dict[Target, Followed] = {}
        self._joining: dict[Join, None] = {}
        self._due: dict[Target, None] = {}
        self._readings: dict[Target, _Reading] = {}
        self._patient_until = 0.0
        self._wake = trio.Event()
        self._gap = False
        self._epochs = Epochs()
        self.seen = 0
        """The greatest offset that this node has seen."""
        self.gaps = self.resubscribed = self.replayed = self.doubles = self.lost = self.outdated = 0

    @property
    def epoch(self) -> str:
        """The history's; empty as long as it is not known."""
        return self._epochs.name

    @property
    def now(self) -> int:
        """Redis's time in microseconds, as far as this node can tell; 0 where it can't."""
        return self._reader.clock.now(trio.current_time())

    def on_epoch(self, epoch: str) -> None:
        """The epoch has this name. If another one has ended, all streams are to be read anew, and found out about once
        more for whoever waits for others: nobody is answered with this epoch's name and a position in that one."""
        if not self._epochs.begin(epoch):
            return
        self._begin_anew()
        for join in self._joining:
            join.seen = 0
        for target, followed in self._followed.items():
            for join in list(followed.watched):
                join.reopen(followed)
            if followed.subscribed:
                followed.hold()
                self._due[target] = None
        self._wake.set()

    def on_accepted(self, offset: int) -> None:
        """Redis has accepted an event of this node's."""
        self.seen = max(self.seen, offset)

    def renamed(self, node: str) -> None:
        """This node hears itself under another name."""
        self._reader.node = node

    def attach(self, pushes: PushObserver) -> None:
        """Say who is told."""
        self._pushes = pushes

    def __len__(self) -> int:
        return len(self._followed)

    def subscribed_to(self, target: Target) -> bool:
        """Whether what is published for this target comes here."""
        followed = self._followed.get(target)
        return followed is not None and followed.subscribed

    # Joining and leaving

    def join(self, targets: Collection[Target], resume: StreamPositions | None, reply: Reply[Joined]) -> None:
        """One more connection here belongs to these targets; see the port."""
        join = Join(resume, reply, trio.current_time(), self.seen if self.epoch else 0)
        fresh: dict[Target, Followed] = {}
        for target in targets:
            followed = self._followed.get(target)
            if followed is None:
                followed = self._followed[target] = Followed(stream_of(target))
                fresh[target] = followed
            followed.joined += 1
            followed.joined_at = join.born
            self._find_out(target, followed, join)
        if fresh:
            self._subscription.want(
                [name for t in fresh for name in self._channels(t)], partial(self._subscribed, fresh)
            )
        if join.open:
            self._joining[join] = None
            for target in targets:
                if self._followed[target].stream not in join.open:
                    join.settle(self._followed[target])
        else:
            join.finish(self.epoch, True)

    def leave(self, targets: Collection[Target]) -> None:
        """One connection less belongs to these targets."""
        gone: list[bytes] = []
        waiting: list[tuple[Join, str]] = []
        for target in targets:
            followed = self._followed.get(target)
            if followed is None:
                continue
            followed.joined -= 1
            if not followed.joined:
                del self._followed[target]
                self._due.pop(target, None)
                gone += self._channels(target)
                waiting += [(join, followed.stream) for join, _ in followed.joins]
        if gone:
            self._subscription.unwant(gone)
        # Last: whoever is answered may join or leave in turn.
        for join, stream in waiting:
            self._found(join, stream)

    def look(self, now: float) -> None:
        """Answer the joins that have waited too long. For a ticker."""
        given_up: dict[str, Followed] = {}
        patience = LONGEST if now < self._patient_until else PATIENCE
        for join in list(takewhile(lambda join: join.born <= now - patience, self._joining)):
            if join.finished:
                continue  # by what the answer to one before it came to
            del self._joining[join]
            if join.resume is not None:
                named = [stream for stream in join.open if stream in join.resume.offsets]
                join.lost += [stream for stream in named if stream not in join.lost]
            for followed in join.open.values():
                followed.let_in(join, self.epoch)
            given_up.update(join.open)
            join.finish(self.epoch, False)
        for followed in given_up.values():
            followed.forget_answered()

    def end(self) -> None:
        """This node goes: answer the joins that wait."""
        self.look(math.inf)

    def _channels(self, target: Target) -> list[bytes]:
        channels = [self._names.channel(target)]
        if target.kind == "user_id":
            channels.append(ordinary(target.value))
        return channels

    def _find_out(self, target: Target, followed: Followed, join: Join) -> None:
        """Say where a stream is and what was missed of it, now or when that was read."""
        resume, stream = join.resume, followed.stream
        offset = None if resume is None else resume.offsets.get(stream)
        known = resume is None or resume.epoch == self.epoch
        if resume is not None and offset is not None and not known:
            if self._epochs.is_over(resume.epoch.encode()):
                join.lost.append(stream)
                offset = None
            else:
                # It may be one that this node has yet to know. Until that is found out nothing is delivered, and what
                # the client has had of it is not to come again.
                followed.note_had(resume.epoch, offset)
                if followed.subscribed:
                    followed.hold()
        at_once = offset is None or (known and offset == followed.position)
        if followed.position is not None and followed.epoch == self.epoch and at_once:
            join.offsets[stream] = followed.position
            return
        join.open[stream] = followed
        followed.joins.append((join, offset))
        if followed.subscribed:
            self._read_soon(target)

    def _found(self, join: Join, stream: str) -> None:
        """A stream more of which is known what this join is to be told."""
        join.open.pop(stream, None)
        if not join.open and not join.finished:
            self._joining.pop(join, None)
            join.finish(self.epoch, True)

    def _subscribed(self, fresh: dict[Target, Followed]) -> None:
        for target, followed in fresh.items():
            if self._followed.get(target) is followed:
                followed.subscribed = True
                self._read_soon(target)

    # Arrivals

    def on_push(self, target: Target, arrival: Arrival, size: int) -> None:
        """A push came on the target's channel."""
        followed = self._followed.get(target)
        push, offset, _, epoch = arrival
        if self._epochs.is_late(push.node, push.number, epoch, matters=offset is None and push.id is None):
            self.outdated += 1
            self._acknowledge(push, (0, 0))
        elif followed is None:
            self._acknowledge(push, (0, 0))
        else:
            if followed.held is None and self._subscription.trouble is not None:
                # The link is being made whole: what was missed comes before this.
                followed.hold()
                self._read_soon(target)
            self._take_push(target, followed, arrival, size)

    def on_fence(self, number: int) -> None:
        """The fence came: whatever was published before it has come."""
        self._reader.on_fence(number)

    def on_resubscribed(self) -> None:
        """The link was cut, and is whole again: anything may have been missed."""
        self.resubscribed += 1
        self._begin_anew()
        for target, followed in self._followed.items():
            if followed.subscribed:
                followed.hold()
                self._due[target] = None
        self._gap = True
        self._wake.set()
        self._reader.give_up()

    def _take_push(
        self, target: Target, followed: Followed, arrival: Arrival, size: int, *, released: bool = False
    ) -> None:
        push, offset, previous, epoch = arrival
        if epoch and epoch != self._epochs.word and (offset is not None or push.id is not None):
            if released or self._epochs.is_over(epoch):
                self.outdated += 1
                self._acknowledge(push, (0, 0))
                return
            if followed.held is None:
                # A new one, perhaps: reading finds out.
                followed.hold()
                self._read_soon(target)
        if followed.held is not None:
            self._hold(target, followed, arrival, size)
            return
        if offset is None:
            repeated = push.id is not None and self._is_repeated(followed, push.id)
            self._acknowledge(push, (0, 0) if repeated else self._deliver(target, event_of(push)))
            return
        assert followed.position is not None
        if offset <= followed.position:
            self.doubles += 1
            self._acknowledge(push, followed.known.pop(offset, (0, 0)))
        elif previous > followed.position:
            self.gaps += 1
            followed.hold()
            self._hold(target, followed, arrival, size)
            self._read_soon(target)
        elif push.id is not None and self._is_repeated(followed, push.id):
            followed.position = offset
            self._acknowledge(push, (0, 0))
        else:
            self._acknowledge(push, self._advance(target, followed, event_of(push, followed.stream, offset)))

    def _is_repeated(self, followed: Followed, push_id: str) -> bool:
        if not self._epochs.is_repeated(push_id, trio.current_time(), followed.joined_at):
            return False
        self.doubles += 1
        return True

    def _advance(self, target: Target, followed: Followed, event: Event) -> Counts:
        assert event.offset is not None
        followed.position = event.offset
        self.seen = max(self.seen, event.offset)
        if followed.log is not None:
            followed.log.append(event)
        for join in followed.watched:
            join.on_event(followed.stream, event)
        return self._deliver(target, event)

    def _deliver(self, target: Target, event: Event) -> Counts:
        try:
            return self._pushes.on_push(target, event)
        except Exception:
            self._log.exception("a push was not delivered")
            return 0, 0

    def _hold(self, target: Target, followed: Followed, arrival: Arrival, size: int) -> None:
        assert followed.held is not None
        followed.held.append(arrival)
        followed.held_bytes += size
        if len(followed.held) <= MAX_HELD and followed.held_bytes <= MAX_HELD_BYTES:
            return
        if followed.epoch != self.epoch:
            followed.unknown = followed.unknown or followed.position is not None
            followed.position = 0
        told = followed.unknown or bool(followed.position)
        first = followed.first_held(self._epochs.word)
        followed.position = max(min(followed.position or 0, self.seen), self.seen if first is None else _before(first))
        followed.epoch, followed.unknown = self.epoch, False
        if told:
            self._lose(target, followed.position)
        self._release(target, followed)

    def _release(self, target: Target, followed: Followed) -> None:
        """Deliver what was held; from another gap on it is held again."""
        held, followed.held = followed.held or [], None
        for arrival in held:
            self._take_push(target, followed, arrival, len(arrival.push.data), released=True)

    def _lose(self, target: Target, position: int) -> None:
        self.lost += 1
        followed = self._followed[target]
        for join in followed.watched:
            join.lose(followed.stream)
            join.offsets[followed.stream] = position
        try:
            self._pushes.on_gap(target, self.epoch, position)
        except Exception:
            self._log.exception("a loss was not told")

    # Reading

    def _read_soon(self, target: Target) -> None:
        self._due[target] = None
        self._wake.set()

    async def run(self) -> None:
        """Read what is due, batch after batch, until cancelled."""
        while True:
            if not self._due and not self._readings:
                self._wake = trio.Event()
                with trio.move_on_after(LOOK_SECONDS):
                    await self._wake.wait()
            if self._gap:
                self._gap = False
                await trio.sleep(random.random() * JITTER)
            if self._commands.trouble is not None or not await self._read_batch():
                await trio.sleep(random.uniform(0.05, 0.15))

    async def _read_batch(self) -> bool:
        """Read on in the histories that are being read, and begin with those that are due; what comes meanwhile is
        logged. False if they are to be read again."""
        for reading in self._readings.values():
            reading.add_joins()
        due = (target for target in self._due if target not in self._readings)
        for target in list(islice(due, BATCH - len(self._readings))):
            del self._due[target]
            self._readings[target] = self._begin(self._followed[target])
        seen = self.seen
        moment = await self._reader.read([one.kept for one in self._readings.values() if one.kept is not None])
        if moment is None or not self._same_epoch(moment, seen):
            self._begin_anew()
            return False
        for target, reading in list(self._readings.items()):
            followed, kept = reading.followed, reading.kept
            there = self._followed.get(target) is followed
            if there and kept is not None and kept.more:
                self._patient_until = trio.current_time() + PATIENCE
                continue
            # First: whoever is answered may join or leave in turn.
            self._readings.pop(target, None)
            if there:
                # What is held since the reading began is for the next one.
                if reading.held and followed.held is not None:
                    self._catch_up(target, followed, kept, moment)
                self._conclude(followed, kept, reading.joins, moment)
            followed.log = None
        return True

    def _begin(self, followed: Followed) -> _Reading:
        """Begin to read from where the node is, if something is held back, and from where those are who wait."""
        followed.log = []
        followed.known.clear()
        joins = list(followed.joins)
        after = [] if followed.position is None or followed.held is None else [followed.position]
        after += [offset for _, offset in joins if offset is not None and offset >= 0]
        return _Reading(followed, joins, Kept(followed.stream, min(after), self._reader.known) if after else None)

    def _begin_anew(self) -> None:
        """What was read so far of what is being read counts no more."""
        for target, reading in self._readings.items():
            reading.followed.log = None
            if self._followed.get(target) is reading.followed:
                self._due[target] = None
        self._readings.clear()

    def _same_epoch(self, moment: Moment, seen: int) -> bool:
        """Whether what was read is of the epoch that this node knows; if not, it begins anew."""
        if moment.epoch != self.epoch:
            self._finder.renew()
            return False
        if moment.clock < seen:
            self._log.error("Redis has lost what it had accepted", microseconds=seen - moment.clock)
            self._finder.renew(over=self.epoch)
            return False
        self.seen = max(self.seen, moment.clock)
        return True

    def _conclude(
        self,
        followed: Followed,
        kept: Kept | None,
        joins: list[tuple[Join, int | None]],
        moment: Moment,
    ) -> None:
        """What was read, and heard meanwhile, is put together. Who has come further than this node, as far as it has
        read, waits for the next reading."""
        assert followed.position is not None
        position = followed.position
        stream = followed.stream
        for join, offset in joins:
            if join.finished:
                continue
            same = join.resume is not None and join.resume.epoch == self.epoch
            if followed.held is not None and same and offset is not None and position < offset <= moment.clock:
                # It has had some of what is held, or of the gap that is read next, and would get that again.
                continue
            join.offsets[stream] = position
            if offset is not None:
                if not same or kept is None or not kept.proves(offset, moment, self._ttl):
                    join.lost.append(stream)
                else:
                    missed = followed.between(kept, offset, position, moment.now)
                    if missed:
                        join.missed[stream] = missed
                    join.offsets[stream] = max(position, offset)
            join.settle(followed)
            self._found(join, stream)
        followed.forget_answered()

    def _catch_up(self, target: Target, followed: Followed, kept: Kept | None, moment: Moment) -> None:
        """Bring what is held up to date: first what the history has, up to where what was held begins."""
        first = followed.first_held(self._epochs.word)
        end = moment.clock if first is None else _before(first)
        if followed.position is not None and followed.epoch == self.epoch:
            # What a client says to have had may be anything.
            followed.position = min(followed.position, moment.clock)
        if followed.position is None or followed.epoch != self.epoch:
            told = followed.unknown or followed.position is not None
            had, followed.had = followed.had or {}, None
            if told:
                # Everybody is told of a gap here, so nobody misses untold what one of them has had by another node.
                end = max(end, min(had.get(self.epoch, end), moment.clock))
            followed.position, followed.epoch, followed.unknown = end, self.epoch, False
            if told:
                self._lose(target, end)
        elif kept is None or not kept.proves(followed.position, moment, self._ttl):
            self._lose(target, max(followed.position, end))
        else:
            if followed.unknown:
                self._lose(target, followed.position)
            recent = moment.clock - int(PATIENCE * 1e6)
            for event in kept.events(followed.position, end, moment.now):
                self.replayed += 1
                counts = self._advance(target, followed, event)
                if event.offset is not None and event.offset > recent:
                    followed.known[event.offset] = counts
        followed.position, followed.unknown = max(followed.position, end), False
        self._release(target, followed)


def _before(arrival: Arrival) -> int:
    """The position right before a durable event: that of the one before it, or, where the stream has none, the moment
    before. (0 can't be proved to be whole: who resumed from it would be told of a loss once more.)"""
    assert arrival.offset is not None
    return arrival.previous or arrival.offset - 1
