"""The queue: requests that wait for a worker with room, in lines, fairly taken and fairly let in.

It knows whose a request is, in which line it waits, and the order; not why it waits, nor for how long it may. A line is
a command's (any worker that serves it may take from it) or one worker's own (for requests that are bound to it).
Guests, which other nodes sent here, wait among the rest, but only for workers of this node.

Out of it: requests of callers that have shown a key come first, so that no back end waits behind a backlog of anonymous
callers. Among the callers of each kind a worker takes in turn, whatever they wait for, so neither one caller's backlog
nor one command's holds up another; of one caller it takes from the lines in turn, and within a line the oldest first.
Taking costs no more when many wait.

Into it: the number of requests is bounded, and their bytes. A caller's share is the bound divided by the callers that
wait. What is free is lent out to whoever asks; when the queue is full, a caller within its share takes it back from
the caller that has most, whose newest requests are refused. Callers with a key take the place of anonymous ones in any
case, anonymous ones that of callers with a key only while these have more than half.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Final

from .model import Caller, Request, Worker

Line = str | Worker

OVERHEAD: Final = 500
"""Bytes that a waiting request takes besides its parameters, about."""


class _Turnstile:
    """One caller's waiting requests: `length` of them, with so many `bytes`. `turn`: when it was last served, or came.
    All of a guest's are guests."""

    __slots__ = ("bytes", "caller", "guest", "length", "lines", "shared", "turn")

    def __init__(self, caller: Caller, guest: bool, turn: int) -> None:
        self.caller = caller
        self.guest = guest
        self.turn = turn
        self.lines: OrderedDict[Line, OrderedDict[Request, None]] = OrderedDict()
        self.shared = 0  # how many of the lines are commands'
        self.length = 0
        self.bytes = 0

    def newest(self) -> tuple[Request, Line] | None:
        """The request that came last to the line that came last, of those that were never sent to a worker: one that
        was is first in its line, and stays, since it was accepted once."""
        for line in reversed(self.lines):
            request = next(reversed(self.lines[line]))
            if not request.attempt:
                return request, line
        return None


_Ring = OrderedDict[_Turnstile, int]
"""Callers that wait in one line, and the turn by which each was put in its place."""


class _Tier:
    """The requests of callers of one kind: `length` of them, with so many `bytes`."""

    __slots__ = ("_rings", "_shared", "_turn", "bytes", "callers", "length")

    def __init__(self) -> None:
        self.callers: dict[Caller, _Turnstile] = {}
        self._rings: dict[Line, _Ring] = {}
        self._shared: _Ring = OrderedDict()  # everybody who waits in any command's line
        self._turn = 0
        self.length = 0
        self.bytes = 0

    def lines(self) -> Iterable[Line]:
        """All lines that requests wait in."""
        return self._rings.keys()

    def add_request(self, request: Request, line: Line, *, front: bool = False) -> None:
        """See FairQueue."""
        caller = self.callers.get(request.caller)
        if caller is None:
            self._turn += 1
            caller = self.callers[request.caller] = _Turnstile(request.caller, request.guest is not None, self._turn)
        waiting = caller.lines.get(line)
        if waiting is None:
            waiting = caller.lines[line] = OrderedDict()
            self._rings.setdefault(line, OrderedDict())[caller] = caller.turn
            if isinstance(line, str):
                caller.shared += 1
                if caller.shared == 1:
                    self._shared[caller] = caller.turn
        waiting[request] = None
        if front:
            waiting.move_to_end(request, last=False)
        request.line = line
        size = size_of(request)
        self.length += 1
        self.bytes += size
        caller.length += 1
        caller.bytes += size

    def take_for_worker(self, worker: Worker) -> Request | None:
        """See FairQueue."""
        caller = self._next_caller(worker)
        if caller is None:
            return None
        commands = worker.commands
        for line in caller.lines:
            if line is worker or (isinstance(line, str) and (commands is None or line in commands)):
                return self._take(caller, line)
        raise AssertionError("a caller in the ring of a line waits in that line")

    def take_for_other_node(self, lines: Collection[Line]) -> Request | None:
        """See FairQueue."""
        best: _Turnstile | None = None
        for line in lines:
            ring = self._rings.get(line)
            caller = None if ring is None else _front_own(ring)
            if caller is not None and (best is None or caller.turn < best.turn):
                best = caller
        if best is None:
            return None
        return self._take(best, next(line for line in best.lines if line in lines))

    def _take(self, caller: _Turnstile, line: Line) -> Request:
        request = next(iter(caller.lines[line]))
        caller.lines.move_to_end(line)
        self._turn += 1
        caller.turn = self._turn
        _to_the_end(self._rings[line], caller)
        if isinstance(line, str):
            _to_the_end(self._shared, caller)
        # Its other lines learn of it when it comes to the front there.
        self.remove_request(request)
        return request

    def remove_request(self, request: Request) -> None:
        """See FairQueue."""
        line = request.line
        assert isinstance(line, (str, Worker))  # it waits in that line
        request.line = None
        caller = self.callers[request.caller]
        self._count_out(caller, request)
        waiting = caller.lines[line]
        del waiting[request]
        if not waiting:
            self._close(caller, line)

    def guests_in(self, line: Line) -> list[Request]:
        """See FairQueue."""
        ring = self._rings.get(line, ())
        return [request for caller in ring if caller.guest for request in caller.lines[line]]

    def drop_line(self, line: Line) -> list[Request]:
        """See FairQueue."""
        dropped: list[Request] = []
        for caller in list(self._rings.get(line, ())):
            requests = list(caller.lines[line])
            for request in requests:
                self._count_out(caller, request)
            self._close(caller, line)
            dropped.extend(requests)
        for request in dropped:
            request.line = None
        return dropped

    def _count_out(self, caller: _Turnstile, request: Request) -> None:
        size = size_of(request)
        self.length -= 1
        self.bytes -= size
        caller.length -= 1
        caller.bytes -= size

    def _next_caller(self, worker: Worker) -> _Turnstile | None:
        best: _Turnstile | None = None
        for ring in self._rings_of(worker):
            caller = _front(ring)
            if best is None or caller.turn < best.turn:
                best = caller
        return best

    def _rings_of(self, worker: Worker) -> Iterable[_Ring]:
        rings = self._rings
        own = rings.get(worker)
        if own is not None:
            yield own
        commands = worker.commands
        if commands is None:
            if self._shared:
                yield self._shared
        elif len(commands) <= len(rings):
            for command in commands:
                if (ring := rings.get(command)) is not None:
                    yield ring
        else:
            for line, ring in rings.items():
                if line in commands:
                    yield ring

    def _close(self, caller: _Turnstile, line: Line) -> None:
        del caller.lines[line]
        ring = self._rings[line]
        del ring[caller]
        if not ring:
            del self._rings[line]
        if isinstance(line, str):
            caller.shared -= 1
            if not caller.shared:
                del self._shared[caller]
        if not caller.lines:
            del self.callers[caller.caller]


def size_of(request: Request) -> int:
    """Bytes that a waiting request takes."""
    return OVERHEAD + len(request.data)


def _front(ring: _Ring) -> _Turnstile:
    """The caller whose turn it is. One that was served by way of another line since goes to the end first."""
    while True:
        caller, turn = next(iter(ring.items()))
        if turn == caller.turn:
            return caller
        _to_the_end(ring, caller)


def _front_own(ring: _Ring) -> _Turnstile | None:
    """Like `_front`, with the guests passed over. (There are never many: other nodes keep what has to wait long.)"""
    while True:
        caller = next((caller for caller in ring if not caller.guest), None)
        if caller is None or caller.turn == ring[caller]:
            return caller
        _to_the_end(ring, caller)


def _to_the_end(ring: _Ring, caller: _Turnstile) -> None:
    ring[caller] = caller.turn
    ring.move_to_end(caller)


class FairQueue:
    """The requests that wait: `length` of them, with so many `bytes`. At most `limit` and `limit_bytes` are let in."""

    __slots__ = ("_limit", "_limit_bytes", "_others", "_tiers", "_trusted", "length")

    def __init__(self, limit: int = 1000, limit_bytes: int = 1 << 26) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._trusted = _Tier()
        self._others = _Tier()
        self._tiers: Final = (self._trusted, self._others)
        self.length = 0

    def __len__(self) -> int:
        return self.length

    @property
    def bytes(self) -> int:
        """How many bytes the waiting requests take."""
        return self._trusted.bytes + self._others.bytes

    @property
    def is_empty(self) -> bool:
        """True if nothing is in any table."""
        return not any(tier.callers or tier.length or tier.bytes or list(tier.lines()) for tier in self._tiers)

    def commands(self) -> list[str]:
        """The commands that requests wait for."""
        return [line for line in self.lines() if isinstance(line, str)]

    def lines(self) -> list[Line]:
        """All lines that requests wait in."""
        return list(dict.fromkeys([*self._trusted.lines(), *self._others.lines()]))

    # In

    def make_room(self, request: Request) -> list[Request] | None:
        """Take out what has to go so that this request can wait: mostly nothing. None: it can't wait."""
        size = size_of(request)
        if self._has_room(size):
            return []
        if not self._limit or size > self._limit_bytes:
            return None
        givers = self._givers(request, size)
        missing = self.bytes + size - self._limit_bytes
        if sum(caller.bytes for caller in givers) < max(missing, 1):
            return None
        out: list[tuple[Request, Line]] = []
        while not self._has_room(size) and givers:
            giver = max(givers, key=_length if self.length >= self._limit else _bytes)
            newest = giver.newest() if giver.length else None
            if newest is None:
                givers.remove(giver)
                continue
            out.append(newest)
            self.remove_request(newest[0])
        if self._has_room(size):
            return [request for request, _ in out]
        for other, line in reversed(out):
            self.add_request(other, line)
        return None

    def _has_room(self, size: int) -> bool:
        return self.length < self._limit and self.bytes + size <= self._limit_bytes

    def _givers(self, request: Request, size: int) -> list[_Turnstile]:
        """The callers that have to make room for a request: those that have more than their share, and for a caller
        with a key all that have shown none."""
        trusted = request.caller.trusted
        mine = (self._trusted if trusted else self._others).callers.get(request.caller)
        callers = len(self._trusted.callers) + len(self._others.callers) + (mine is None)
        share, share_bytes = max(1, self._limit // callers), self._limit_bytes // callers
        givers = list(self._others.callers.values()) if trusted else []
        within = mine is None or (mine.length < share and mine.bytes + size <= share_bytes)
        if givers or not within:
            return givers
        tiers = [self._trusted] if trusted else [self._others]
        much = self._trusted.length > self._limit // 2 or self._trusted.bytes > self._limit_bytes // 2
        if not trusted and much:
            tiers.append(self._trusted)
        full = self.length >= self._limit
        return [
            caller
            for tier in tiers
            for caller in tier.callers.values()
            if caller is not mine and (caller.length > share if full else caller.bytes > share_bytes)
        ]

    def add_request(self, request: Request, line: Line, *, front: bool = False) -> None:
        """Let a request wait at the end of its caller's part of the line, or at its front."""
        (self._trusted if request.caller.trusted else self._others).add_request(request, line, front=front)
        self.length += 1

    # Out

    def take_for_worker(self, worker: Worker) -> Request | None:
        """The next request for a worker that has room: of a line of its commands, or of its own."""
        for tier in self._tiers:
            if tier.length and (request := tier.take_for_worker(worker)) is not None:
                self.length -= 1
                return request
        return None

    def take_for_other_node(self, lines: Collection[Line]) -> Request | None:
        """The next request in any of these lines that is no guest: those may not be sent on."""
        for tier in self._tiers:
            if tier.length and (request := tier.take_for_other_node(lines)) is not None:
                self.length -= 1
                return request
        return None

    def remove_request(self, request: Request) -> None:
        """It waits no more. One that doesn't wait is ignored."""
        if request.line is not None:
            (self._trusted if request.caller.trusted else self._others).remove_request(request)
            self.length -= 1

    def guests_in(self, line: Line) -> list[Request]:
        """The guests that wait in a line."""
        return [request for tier in self._tiers for request in tier.guests_in(line)]

    def drop_line(self, line: Line) -> list[Request]:
        """Take out a whole line, in the order in which its callers would have had their turns."""
        dropped = [request for tier in self._tiers for request in tier.drop_line(line)]
        self.length -= len(dropped)
        return dropped


def _length(caller: _Turnstile) -> int:
    return caller.length


def _bytes(caller: _Turnstile) -> int:
    return caller.bytes
