"""Following: the targets that this node has joined, and how far it has come in each one's stream.

Knows positions, what is held back and who waits; Redis it knows only by the commands it sends. A target's pushes go
to the node in the order in which they were published, durable ones each once. A durable event names the one before
it, so a gap is seen at once: then what comes for this target is held until the gap was read from the history.

Reading goes in batches, one at a time: the scripts that read, then Redis's time, then the epoch's name, then a fence,
a message of this node to itself. Redis does one thing after the other, so

- when the fence is heard, everything that was published before the reading has come, if it comes at all: what is held
  tells up to where the history must be taken (what the first held event names as the one before it), and no event
  overtakes another;
- an epoch that still has its name means that nothing was wiped before the reading.

A position is a moment in microseconds, as offsets are: a target that nobody resumes needs no reading to have one.
"""

import random
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import structlog
import trio

from service.core.backplane import PATIENCE, Inbound, Joined, Resume
from service.wire.messages import Event, Target, stream_of

from .commands import Commands
from .names import Names, ordinary
from .payloads import Arrival, Push, event_of, fence, read_kept
from .scripts import READ

BATCH: Final = 500
"""Targets that are read at once."""
STREAM_BYTES: Final = 16 << 20
"""Bytes that are read of one stream's history: who has missed more has lost it."""
ROUND_BYTES: Final = 16 << 20
SMALLEST_PIECE: Final = 32 << 10
"""What one round trip brings, shared by the streams that are read; each brings at least so much if it has it."""
MAX_HELD: Final = 1000
MAX_HELD_BYTES: Final = 4 << 20
"""What is held back for one target. What comes then: the gap is given up (`lost`), and what was held is delivered."""
LOOK_SECONDS: Final = 5.0
"""How often an idle node makes sure that the epoch is still the same."""
JITTER: Final = 0.5
"""Seconds within which a node begins to read after a gap of the whole link, so that not all do at once."""
STEP_BACK: Final = 100_000
"""Microseconds by which Redis's clock may go back unnoticed."""

Counts = tuple[int, int]
Acknowledge = Callable[[Push, Counts], None]


class _Followed:
    """One target that this node has joined. `position` None: not known yet; `held` None: nothing is held back; `log`:
    what arrived since a reading began; `watched`: the joins that know where this stream is, and wait for others."""

    __slots__ = (
        "epoch",
        "held",
        "held_bytes",
        "joined",
        "joins",
        "known",
        "log",
        "position",
        "stream",
        "subscribed",
        "watched",
    )

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.joined = 0
        self.subscribed = False
        self.position: int | None = None
        self.epoch = ""
        self.held: list[Arrival] | None = []
        self.held_bytes = 0
        self.log: list[Event] | None = None
        self.joins: list[tuple[_Join, int | None]] = []
        self.known: dict[int, Counts] = {}
        self.watched: dict[_Join, None] = {}

    def forget_answered(self) -> None:
        """Let go of the joins that wait for this stream no more."""
        self.joins = [waits for waits in self.joins if not waits[0].finished and self.stream in waits[0].open]


class _Join:
    """One join that has not been answered yet. `open`: streams that are still to be found out about."""

    __slots__ = ("born", "done", "finished", "lost", "missed", "offsets", "open", "resume", "settled")

    def __init__(self, resume: Resume | None, done: Callable[[Joined], None], born: float) -> None:
        self.resume = resume
        self.done = done
        self.born = born
        self.open: dict[str, _Followed] = {}
        self.offsets: dict[str, int] = {}
        self.missed: dict[str, list[Event]] = {}
        self.lost: list[str] = []
        self.settled: list[_Followed] = []
        self.finished = False

    def settle(self, followed: _Followed) -> None:
        """This stream is found out about; what comes of it before the others are is the client's too."""
        self.settled.append(followed)
        followed.watched[self] = None

    def went_on(self, stream: str, event: Event) -> None:
        """An event came that whoever joins has not been in time for."""
        assert event.offset is not None
        self.offsets[stream] = event.offset
        if self.resume is not None and stream in self.resume.offsets and stream not in self.lost:
            self.missed.setdefault(stream, []).append(event)

    def finish(self, epoch: str, recovered: bool) -> None:
        self.finished = True
        for followed in self.settled:
            followed.watched.pop(self, None)
        self.done(Joined(epoch, self.offsets, self.missed, self.lost, recovered and not self.lost))


class _Kept:
    """What was read of a stream's history."""

    __slots__ = ("after", "dropped", "entries", "last", "more", "overflow", "size")

    def __init__(self, after: int) -> None:
        self.after = after
        self.last: int | None = None
        self.dropped = 0
        self.entries: list[tuple[int, int, bytes]] = []
        self.size = 0
        self.more = False
        self.overflow = False

    def take(self, answer: object) -> bool:
        """What the script gave; False if that cannot be read."""
        match answer:
            case [bytes(last), bytes(dropped), int(more), *rest]:
                self.last = int(last) if last else None
                self.dropped = int(dropped or 0)
                words = [word for word in rest if isinstance(word, bytes)]
                entries = list(zip(map(int, words[::3]), map(int, words[1::3]), words[2::3], strict=True))
                self.entries += entries
                self.size += sum(len(body) for _, _, body in entries)
                self.overflow = bool(more) and self.size >= STREAM_BYTES
                self.more = bool(more) and not self.overflow
                if entries:
                    self.after = entries[-1][0]
                return True
        return False

    def proves(self, offset: int, now: int, ttl: int) -> bool:
        """Whether nothing after this offset is gone."""
        if self.overflow or offset > max(now, self.last or 0) or offset < 0:
            return False
        if self.last is None:
            # Whatever was kept after that offset would have left its trace until now.
            return offset >= now - ttl
        return offset >= self.dropped and not any(
            entry > offset and (entry < now - ttl or 0 < until <= now) for entry, until, _ in self.entries
        )


class _Round:
    """The answers to one batch of commands, as they come."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.failed = False
        self.over = trio.Event()
        self.now = 0
        self.epoch = b""

    def step(self) -> None:
        self.left -= 1
        if not self.left:
            self.over.set()

    def fail(self) -> None:
        self.failed = True
        self.over.set()


class Following:
    """What one node follows. `want` and `unwant` are the subscription's, `doubtful` says that its link may have missed
    something; `acknowledge` tells the publisher of a push what became of it here; `renew` finds out the epoch's name,
    which may be that of one that is over."""

    def __init__(
        self,
        commands: Commands,
        names: Names,
        node: str,
        *,
        want: Callable[[Collection[bytes], Callable[[], None]], None],
        unwant: Callable[[Collection[bytes]], None],
        doubtful: Callable[[], bool],
        acknowledge: Acknowledge,
        renew: Callable[[str], None],
        ttl: float,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._commands = commands
        self._names = names
        self.node = node
        self._want = want
        self._unwant = unwant
        self._doubtful = doubtful
        self._acknowledge = acknowledge
        self._renew = renew
        self._log = log
        self._ttl = int(ttl * 1e6)
        self._inbound: Inbound
        self._followed: dict[Target, _Followed] = {}
        self._joining: dict[_Join, None] = {}
        self._due: dict[Target, None] = {}
        self._wake = trio.Event()
        self._round: _Round | None = None
        self._fence = 0
        self._gap = False
        self.epoch = ""
        self.seen = 0
        """The greatest moment of Redis's clock, and offset, that this node has seen."""
        self.gaps = self.resubscribed = self.replayed = self.doubles = self.lost = self.malformed = 0

    def attach(self, inbound: Inbound) -> None:
        """Say who is told."""
        self._inbound = inbound

    def __len__(self) -> int:
        return len(self._followed)

    def subscribed_to(self, target: Target) -> bool:
        """Whether what is published for this target comes here."""
        followed = self._followed.get(target)
        return followed is not None and followed.subscribed

    # Joining and leaving

    def join(self, targets: Collection[Target], resume: Resume | None, done: Callable[[Joined], None]) -> None:
        """One more connection here belongs to these targets; see the port."""
        join = _Join(resume, done, trio.current_time())
        fresh: dict[Target, _Followed] = {}
        for target in targets:
            followed = self._followed.get(target)
            if followed is None:
                followed = self._followed[target] = _Followed(stream_of(target))
                fresh[target] = followed
            followed.joined += 1
            self._find_out(target, followed, join)
        if fresh:
            self._want([name for t in fresh for name in self._channels(t)], partial(self._subscribed, fresh))
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
        for target in targets:
            followed = self._followed.get(target)
            if followed is None:
                continue
            followed.joined -= 1
            if not followed.joined:
                del self._followed[target]
                self._due.pop(target, None)
                gone += self._channels(target)
                for join, _ in followed.joins:
                    self._found(join, followed.stream)
        if gone:
            self._unwant(gone)

    def look(self, now: float) -> None:
        """Answer the joins that have waited too long. For a ticker."""
        given_up: dict[str, _Followed] = {}
        for join in list(self._joining):
            if join.born > now - PATIENCE:
                break
            del self._joining[join]
            if join.resume is not None:
                named = [stream for stream in join.open if stream in join.resume.offsets]
                join.lost += [stream for stream in named if stream not in join.lost]
            given_up.update(join.open)
            join.finish(self.epoch, False)
        for followed in given_up.values():
            followed.forget_answered()

    def _channels(self, target: Target) -> list[bytes]:
        channels = [self._names.channel(target)]
        if target.kind == "user_id":
            channels.append(ordinary(target.value))
        return channels

    def _find_out(self, target: Target, followed: _Followed, join: _Join) -> None:
        """Say where a stream is and what was missed of it, now or when that was read."""
        resume, stream = join.resume, followed.stream
        offset = None if resume is None else resume.offsets.get(stream)
        if resume is not None and offset is not None and resume.epoch != self.epoch:
            join.lost.append(stream)
            offset = None
        if followed.position is not None and followed.epoch == self.epoch and offset in (None, followed.position):
            join.offsets[stream] = followed.position
            return
        join.open[stream] = followed
        followed.joins.append((join, offset))
        if followed.subscribed:
            self._read_soon(target)

    def _found(self, join: _Join, stream: str) -> None:
        """A stream more of which is known what this join is to be told."""
        join.open.pop(stream, None)
        if not join.open and not join.finished:
            self._joining.pop(join, None)
            join.finish(self.epoch, True)

    def _subscribed(self, fresh: dict[Target, _Followed]) -> None:
        for target, followed in fresh.items():
            if self._followed.get(target) is followed:
                followed.subscribed = True
                self._read_soon(target)

    # Arrivals

    def arrived(self, target: Target, arrival: Arrival, size: int) -> None:
        """A push came on the target's channel."""
        followed = self._followed.get(target)
        if followed is None:
            self._acknowledge(arrival.push, (0, 0))
        else:
            self._arrived(target, followed, arrival, size)

    def fence_heard(self, number: int) -> None:
        """The fence came: whatever was published before it has come."""
        if self._round is not None and number == self._fence:
            self._round.step()

    def subscribed_anew(self) -> None:
        """The link was cut, and is whole again: anything may have been missed."""
        self.resubscribed += 1
        for target, followed in self._followed.items():
            if followed.subscribed:
                if followed.held is None:
                    followed.held, followed.held_bytes = [], 0
                self._due[target] = None
        self._gap = True
        self._wake.set()
        if self._round is not None:
            self._round.fail()

    def _arrived(self, target: Target, followed: _Followed, arrival: Arrival, size: int) -> None:
        if followed.held is None and self._doubtful():
            # The link is being made whole: what was missed comes before this.
            followed.held, followed.held_bytes = [], 0
            self._read_soon(target)
        if followed.held is not None:
            self._hold(target, followed, arrival, size)
            return
        push, offset, previous = arrival
        if offset is None:
            self._acknowledge(push, self._deliver(target, event_of(push)))
            return
        assert followed.position is not None
        if offset <= followed.position:
            self.doubles += 1
            self._acknowledge(push, followed.known.pop(offset, (0, 0)))
        elif previous > followed.position:
            self.gaps += 1
            followed.held, followed.held_bytes = [], 0
            self._hold(target, followed, arrival, size)
            self._read_soon(target)
        else:
            self._acknowledge(push, self._advance(target, followed, event_of(push, followed.stream, offset)))

    def _advance(self, target: Target, followed: _Followed, event: Event) -> Counts:
        assert event.offset is not None
        followed.position = event.offset
        self.seen = max(self.seen, event.offset)
        if followed.log is not None:
            followed.log.append(event)
        for join in followed.watched:
            join.went_on(followed.stream, event)
        return self._deliver(target, event)

    def _deliver(self, target: Target, event: Event) -> Counts:
        try:
            return self._inbound.arrived(target, event)
        except Exception:
            self._log.exception("a push was not delivered")
            return 0, 0

    def _hold(self, target: Target, followed: _Followed, arrival: Arrival, size: int) -> None:
        assert followed.held is not None
        followed.held.append(arrival)
        followed.held_bytes += size
        if len(followed.held) <= MAX_HELD and followed.held_bytes <= MAX_HELD_BYTES:
            return
        if followed.position is not None:
            self._lose(target)
        first = next((held for held in followed.held if held.offset is not None), None)
        followed.position = max(followed.position or 0, self.seen if first is None else first.previous)
        self._release(target, followed)

    def _release(self, target: Target, followed: _Followed) -> None:
        """Deliver what was held; from another gap on it is held again."""
        held, followed.held = followed.held or [], None
        for arrival in held:
            self._arrived(target, followed, arrival, len(arrival.push.data))

    def _lose(self, target: Target) -> None:
        self.lost += 1
        try:
            self._inbound.lost(target)
        except Exception:
            self._log.exception("a loss was not told")

    # Reading

    def _read_soon(self, target: Target) -> None:
        self._due[target] = None
        self._wake.set()

    async def run(self) -> None:
        """Read what is due, batch after batch, until cancelled."""
        while True:
            if not self._due:
                self._wake = trio.Event()
                with trio.move_on_after(LOOK_SECONDS):
                    await self._wake.wait()
            if self._gap:
                self._gap = False
                await trio.sleep(random.random() * JITTER)
            if self._commands.trouble is not None or not await self._read_batch():
                await trio.sleep(random.uniform(0.05, 0.15))

    async def _read_batch(self) -> bool:
        batch = {target: self._followed[target] for target, _ in zip(self._due, range(BATCH), strict=False)}
        reads: dict[Target, _Kept] = {}
        for target, followed in batch.items():
            del self._due[target]
            followed.log = []
            followed.known.clear()
            after = [] if followed.position is None or followed.held is None else [followed.position]
            after += [offset for _, offset in followed.joins if offset is not None and offset >= 0]
            if after:
                reads[target] = _Kept(min(after))
        waiting = {target: list(followed.joins) for target, followed in batch.items()}
        asking = reads
        while (round_ := await self._ask(asking)) is not None:
            asking = {target: kept for target, kept in asking.items() if kept.more}
            if not asking:
                break
        if round_ is None:
            for target, followed in batch.items():
                followed.log = None
                if self._followed.get(target) is followed:
                    self._due[target] = None
            return False
        now = round_.now
        if round_.epoch != self.epoch.encode() or now < self.seen - STEP_BACK:
            self._renew(self.epoch if round_.epoch else "")
            for target, followed in batch.items():
                followed.log = None
                if self._followed.get(target) is followed:
                    self._due[target] = None
            return False
        self.seen = max(self.seen, now)
        for target, followed in batch.items():
            if self._followed.get(target) is followed:
                self._conclude(target, followed, reads.get(target), waiting[target], now)
            followed.log = None
        return True

    async def _ask(self, asking: dict[Target, _Kept]) -> _Round | None:
        """One round trip for all of these, and the fence; None if it came to nothing."""
        self._fence += 1
        round_ = self._round = _Round(len(asking) + 4)
        piece = max(SMALLEST_PIECE, ROUND_BYTES // max(1, len(asking)))

        def read(kept: _Kept, answer: object) -> None:
            round_.step() if kept.take(answer) else round_.fail()

        def clock(answer: object) -> None:
            match answer:
                case [bytes(seconds), bytes(micros)]:
                    round_.now = int(seconds) * 1_000_000 + int(micros)
                    round_.step()
                case _:
                    round_.fail()

        def epoch(answer: object) -> None:
            round_.epoch = answer if isinstance(answer, bytes) else b""
            round_.fail() if isinstance(answer, Exception) else round_.step()

        def sent(answer: object) -> None:
            # Nobody hears it: this node's own channel isn't subscribed at the moment.
            round_.step() if answer else round_.fail()

        for target, kept in asking.items():
            stream = stream_of(target)
            READ.send(
                self._commands,
                (self._names.meta(stream), self._names.history(stream)),
                (kept.after, piece),
                partial(read, kept),
            )
        self._commands.send("TIME", done=clock)
        self._commands.send("HGET", self._names.epoch, "name", done=epoch)
        self._commands.send("PUBLISH", self._names.inbox(self.node), fence(self._fence), done=sent)
        with trio.move_on_after(PATIENCE):
            await round_.over.wait()
        self._round = None
        return None if round_.failed or round_.left else round_

    def _conclude(
        self,
        target: Target,
        followed: _Followed,
        kept: _Kept | None,
        joins: list[tuple[_Join, int | None]],
        now: int,
    ) -> None:
        """What was read, and heard meanwhile, is put together."""
        if followed.held is not None:
            self._catch_up(target, followed, kept, now)
        followed.epoch = self.epoch
        assert followed.position is not None
        position = followed.position
        stream = followed.stream
        for join, offset in joins:
            if join.finished:
                continue
            join.offsets[stream] = position
            if offset is not None:
                assert join.resume is not None
                if join.resume.epoch != self.epoch or kept is None or not kept.proves(offset, now, self._ttl):
                    join.lost.append(stream)
                else:
                    missed = self._between(followed, kept, offset, position)
                    if missed:
                        join.missed[stream] = missed
                    join.offsets[stream] = max(position, offset)
            join.settle(followed)
            self._found(join, stream)
        followed.forget_answered()

    def _catch_up(self, target: Target, followed: _Followed, kept: _Kept | None, now: int) -> None:
        """Bring what is held up to date: first what the history has, up to where what was held begins."""
        assert followed.held is not None
        first = next((held for held in followed.held if held.offset is not None), None)
        here = max(now - 1, kept.last or 0) if kept is not None else now - 1
        end = here if first is None else first.previous
        if followed.position is None:
            followed.position = end
        elif kept is None or followed.epoch != self.epoch or not kept.proves(followed.position, now, self._ttl):
            self._lose(target)
        else:
            recent = now - int(PATIENCE * 1e6)
            for event in self._events(kept, followed, followed.position, end):
                self.replayed += 1
                counts = self._advance(target, followed, event)
                if event.offset is not None and event.offset > recent:
                    followed.known[event.offset] = counts
        followed.position = max(followed.position, end)
        self._release(target, followed)

    def _between(self, followed: _Followed, kept: _Kept, after: int, end: int) -> list[Event]:
        """What happened after one offset and up to another, read or heard."""
        events = self._events(kept, followed, after, end)
        after = max(after, kept.after)
        events += (event for event in followed.log or () if event.offset is not None and after < event.offset <= end)
        return events

    def _events(self, kept: _Kept, followed: _Followed, after: int, end: int) -> list[Event]:
        events = []
        for offset, _, body in kept.entries:
            if after < offset <= end:
                push = read_kept(body)
                if push is None:
                    self.malformed += 1
                else:
                    events.append(event_of(push, followed.stream, offset))
        return events
