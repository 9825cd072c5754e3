"""Reading: the history of many streams in one round trip, and which pushes were published before it.

Knows the scripts that read and Redis's order of doing things; not what a node follows. A round reads the streams, then
the moment (the epoch's name, and an offset that all later events will exceed), then sends a fence: a message of this
node to itself. Redis does one thing after the other, so

- when the fence is heard, everything that was published before the reading has come, if it comes at all;
- an epoch that still has its name means that nothing was wiped before the reading.

Absence proves nothing: what Redis has thrown away is told from what never was by an index of all streams, and a
deployment without its index has no epoch.

What one round brings is bounded, and shared by the streams. A stream with a longer history takes several rounds. Of
more than STREAM_BYTES the rest is read only where the node has room for it (`history_bytes`): otherwise nothing is
proved about that stream."""

from collections.abc import Collection
from functools import partial
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

import trio

from portico.wire.messages import Event
from service.core.cluster.backplane import PATIENCE
from service.redis.commands import Commands
from service.redis.faults import Refusal, Unreachable

from .names import Names
from .payloads import event_of, fence, read_kept
from .scripts import MOMENT, READ

NOT_NOW: Final = frozenset({"TRYAGAIN", "ASK", "MOVED", "CLUSTERDOWN", "READONLY", "LOADING", "MASTERDOWN", "BUSY"})
"""What Redis refuses with that says nothing of what is kept: a slot moves, or another server is to be asked."""
STREAM_BYTES: Final = 16 << 20
"""Bytes that are read of one stream's history in any case."""
ROUND_BYTES: Final = 16 << 20
SMALLEST_PIECE: Final = 32 << 10
"""What one round trip brings, shared by the streams that are read; each brings at least so much if it has it."""

TRUSTED: Final = 600.0
"""Seconds for which Redis's clock may be ahead, at least, before its time is taken for the time."""


class Moment(NamedTuple):
    """When something was read: the epoch's name (empty: it has none), the offset that later events exceed, and Redis's
    time in microseconds (where its clock seems to be ahead: what it would be). `gone`: spans of offsets that were given
    out by a Redis of which this one is an older state, restored."""

    epoch: str
    clock: int
    now: int
    gone: Collection[tuple[int, int]] = ()


Known = WeakValueDictionary[tuple[str, int], Event]
"""Events that somebody still has, by stream and offset: a thousand clients that come back at once and missed the same
events wait for the same objects."""


class Kept:
    """What was read of a stream's history, from `start` up to `after` (offsets). `limit`: how many bytes may be read;
    `size`: how many were, and `fresh` those of events that nobody here had. `beyond`: there is more than may be read,
    or it cannot be read; `evicted`: Redis has thrown some of it away."""

    __slots__ = (
        "after",
        "beyond",
        "dropped",
        "entries",
        "evicted",
        "fresh",
        "known",
        "last",
        "limit",
        "more",
        "size",
        "start",
        "stream",
    )

    def __init__(self, stream: str, after: int, known: Known | None = None) -> None:
        self.stream = stream
        self.known: Known = WeakValueDictionary() if known is None else known
        self.start = self.after = after
        self.limit = STREAM_BYTES
        self.last: int | None = None
        self.dropped = 0
        self.entries: list[tuple[int, int, bytes | Event]] = []
        self.size = 0
        self.fresh = 0
        self.more = False
        self.beyond = False
        self.evicted = False

    def take(self, answer: object) -> None:
        """What the script gave. What cannot be read proves nothing."""
        match answer:
            case [bytes(last), bytes(dropped), int(more), int(evicted), *rest]:
                words = [word for word in rest if isinstance(word, bytes)]
                try:
                    self.last = int(last) if last else None
                    gone = int(dropped or 0)
                    entries = list(zip(map(int, words[::3]), map(int, words[1::3]), words[2::3], strict=True))
                except ValueError:
                    self.beyond, self.more = True, False
                    return
                if not self.entries or gone > self.after:  # what was trimmed since it was read is here
                    self.dropped = gone
                self.evicted = bool(evicted)
                for offset, until, body in entries:
                    event = self.known.get((self.stream, offset))
                    self.entries.append((offset, until, body if event is None else event))
                    self.size += len(body)
                    self.fresh += len(body) if event is None else 0
                self.beyond = bool(more) and self.size >= self.limit
                self.more = bool(more) and not self.beyond
                if entries:
                    self.after = entries[-1][0]
            case _:
                self.beyond, self.more = True, False

    def proves(self, offset: int, moment: Moment, ttl: int) -> bool:
        """Whether nothing after this offset is lost. What its publisher let lapse is not lost, it is over."""
        if self.beyond or not 0 <= offset <= moment.clock:
            return False
        if any(after < offset < before for after, before in moment.gone):
            return False
        if self.evicted:
            return self.last is not None and offset >= self.last
        if self.last is None:
            # Of what was swept it is known up to which offset. (An older version kept no account of that.)
            return offset >= (self.dropped or moment.now - ttl)
        old = moment.now - ttl
        return offset >= self.dropped and not any(offset < entry < old for entry, _, _ in self.entries)

    def events(self, after: int, end: int, now: int) -> list[Event]:
        """Those after one offset and up to another which are worth something at this moment."""
        events = []
        for offset, until, body in self.entries:
            if not after < offset <= end or 0 < until <= now:
                continue
            event = body if isinstance(body, Event) else self.known.get((self.stream, offset))
            if event is None and not isinstance(body, Event) and (push := read_kept(body)) is not None:
                event = self.known[self.stream, offset] = event_of(push, self.stream, offset)
            if event is not None:
                events.append(event)
        return events


class RedisClock:
    """What time it is at Redis, for a node that has a clock which nobody puts: Redis's may be ahead for a while, and an
    event must not be over because of that. It is believed to be ahead where it was less so within the last TRUSTED
    seconds; after twice that its time is the time."""

    __slots__ = ("_before", "_least", "_turn")

    def __init__(self) -> None:
        self._before: int | None = None
        self._least: int | None = None  # how far Redis's time is from ours, in microseconds
        self._turn = 0.0

    def see(self, now: int, asked: float) -> None:
        """Redis has said that it is `now`, when it was asked at this time of ours."""
        ahead = now - int(asked * 1e6)
        if asked >= self._turn:
            # What nobody looked at for so long says nothing.
            self._before = self._least if asked < self._turn + TRUSTED else None
            self._least, self._turn = ahead, asked + TRUSTED
        elif self._least is None or ahead < self._least:
            self._least = ahead

    def now(self, ours: float) -> int:
        """Redis's time at this time of ours, or a little later; 0 where it has said none yet."""
        known = [ahead for ahead in (self._before, self._least) if ahead is not None]
        return int(ours * 1e6) + min(known) if known else 0


class Reader:
    """One node's way to read. `node` is whose own channel the fence goes to; `history_bytes`: so many of events that
    were missed may be in memory before streams of more than STREAM_BYTES are not read to their end."""

    def __init__(self, commands: Commands, names: Names, node: str, history_bytes: int) -> None:
        self._history_bytes = history_bytes
        self._commands = commands
        self._names = names
        self.node = node
        self._fence = 0
        self._round: _Round | None = None
        self.known: Known = WeakValueDictionary()
        self.clock: Final = RedisClock()

    def on_fence(self, number: int) -> None:
        """The fence came."""
        if self._round is not None and number == self._fence:
            self._round.step()

    def give_up(self) -> None:
        """The fence may not come, or what it stands for isn't so."""
        if self._round is not None:
            self._round.fail()

    async def read(self, what: Collection[Kept]) -> Moment | None:
        """Read a piece of all of these: those of which there is `more` want another round. Returns the moment; None: it
        came to nothing, within PATIENCE. One at a time."""
        piece = max(SMALLEST_PIECE, ROUND_BYTES // max(1, len(what)))
        large = [kept for kept in what if kept.size + 2 * piece > STREAM_BYTES]
        if large:
            room = self._history_bytes - self._in_memory() - sum(kept.fresh for kept in what)
            for kept in large:
                kept.limit = max(STREAM_BYTES, kept.size + room)
        return await self._ask(what, piece)

    def _in_memory(self) -> int:
        """Bytes of the events that were read, and that somebody still has."""
        return sum(memoryview(event.data).nbytes for event in self.known.values())

    async def _ask(self, asking: Collection[Kept], piece: int) -> Moment | None:
        self._fence += 1
        asked = trio.current_time()
        round_ = self._round = _Round(len(asking) + 3)
        for kept in asking:
            names = self._names
            keys = (names.meta(kept.stream), names.history(kept.stream), names.streams, names.epoch)
            READ.send(self._commands.send, keys, (kept.after, piece, kept.stream), partial(round_.read, kept))
        MOMENT.send(self._commands.send, (self._names.epoch, self._names.streams), (), round_.at)
        self._commands.send(self._names.publish, self._names.inbox(self.node), fence(self._fence), done=round_.sent)
        with trio.move_on_after(PATIENCE):
            await round_.over.wait()
        self._round = None
        if round_.failed or round_.left:
            return None
        moment = round_.moment
        if moment.now:
            self.clock.see(moment.now, asked)
            moment = moment._replace(now=min(moment.now, self.clock.now(trio.current_time())))
        return moment


class _Round:
    """The answers to one batch of commands, as they come. `left`: how many are to come, the fence among them."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.failed = False
        self.over = trio.Event()
        self.moment = Moment("", 0, 0)

    def step(self) -> None:
        self.left -= 1
        if not self.left:
            self.over.set()

    def fail(self) -> None:
        self.failed = True
        self.over.set()

    def read(self, kept: Kept, answer: object) -> None:
        if isinstance(answer, Unreachable) or (isinstance(answer, Refusal) and answer.word in NOT_NOW):
            self.fail()
        else:
            kept.take(answer)
            self.step()

    def at(self, answer: object) -> None:
        match answer:
            case [bytes(epoch), bytes(clock), bytes(now), bytes(gone)]:
                self.moment = Moment(epoch.decode(), int(clock), int(now), _spans(gone))
                self.step()
            case _:
                self.fail()

    def sent(self, answer: object) -> None:
        # 0: this node's own channel isn't subscribed at the moment, and nobody will hear it.
        if isinstance(answer, int) and answer:
            self.step()
        else:
            self.fail()


def _spans(words: bytes) -> list[tuple[int, int]]:
    ends = [word.split(b"-") for word in words.split()]
    return [(int(after), int(before)) for after, before in ends]
