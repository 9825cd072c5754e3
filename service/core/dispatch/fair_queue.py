"""The queue: requests that wait for a worker with room, in lines, fairly taken and fairly let in.

It knows whose a request is, in which line it waits, and the order; not why it waits, nor for how long it may. A line is
a command's (any worker that serves it may take from it) or one worker's own (for requests that are bound to it).
Guests, which other nodes sent here, wait among the rest, but only for workers of this node.

A party is whom callers count for: an address, a user that is proven, a key. All that is fair is fair between parties
first, and then between the callers of each, so nobody gains anything by opening more connections.

Out of it: requests of callers that have shown a key come first, so that no back end waits behind a backlog of anonymous
callers. Among the parties of each kind a worker takes in turn, and of each party from its callers in turn, whatever
they wait for, so neither one caller's backlog nor one command's holds up another; of one caller it takes from the lines
in turn, and within a line the oldest first. Taking costs no more when many wait.

Into it: the number of requests is bounded, and their bytes. A party's share is the bound divided by the parties that
wait; a caller's is what its party has, divided by the callers of the party that wait. What is free is lent out to
whoever asks; when the queue is full, a party within its share takes it back from the party that has most, and a caller
within its share from the caller of its party that has most: their newest requests are refused. Callers with a key take
the place of anonymous ones in any case, anonymous ones that of callers with a key only while these have more than half.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Final

from .model import Caller, Request, Worker
from .turns import Line, Turns

OVERHEAD: Final = 500
"""Bytes that a waiting request takes besides its parameters, about."""


class _Waiting:
    """Whoever waits: with `length` requests of so many `bytes`. For `turn` and `commands` see `turns.Member`."""

    __slots__ = ("bytes", "commands", "length", "turn")

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.commands = 0
        self.length = 0
        self.bytes = 0

    def newest(self, by_length: bool) -> tuple[Request, Line] | None:
        """The request that is refused first; None if none may be."""
        raise NotImplementedError


class _Turnstile(_Waiting):
    """One caller's waiting requests. All of a guest's are guests. The party stays the same while any waits."""

    __slots__ = ("caller", "guest", "lines", "party")

    def __init__(self, caller: Caller, party: "_Party", guest: bool) -> None:
        super().__init__(0)
        self.caller = caller
        self.party = party
        self.guest = guest
        self.lines: OrderedDict[Line, OrderedDict[Request, None]] = OrderedDict()

    def has_own(self, line: Line) -> bool:
        """See Member."""
        return not self.guest

    def newest(self, by_length: bool) -> tuple[Request, Line] | None:
        """The request that came last to the line that came last, of those that were never sent to a worker: one that
        was is first in its line, and stays, since it was accepted once."""
        for line in reversed(self.lines):
            request = next(reversed(self.lines[line]))
            if not request.attempt:
                return request, line
        return None


class _Party(_Waiting):
    """The callers of one party that wait. Most have one connection; turns are kept from the second on."""

    __slots__ = ("_turns", "callers", "name")

    def __init__(self, name: str, turn: int) -> None:
        super().__init__(turn)
        self.name = name
        self.callers: dict[_Turnstile, None] = {}
        self._turns: Turns[_Turnstile] | None = None

    def add(self, caller: _Turnstile) -> None:
        """One more waits, in no line yet."""
        if self.callers and self._turns is None:
            (first,) = self.callers
            self._turns = Turns()
            for line in first.lines:
                self._turns.join(first, line)
        self.callers[caller] = None
        if self._turns is not None:
            caller.turn = self._turns.next_turn()

    def join(self, caller: _Turnstile, line: Line) -> bool:
        """See Turns."""
        return self._turns is None or self._turns.join(caller, line)

    def leave(self, caller: _Turnstile, line: Line) -> bool:
        """See Turns."""
        return self._turns is None or self._turns.leave(caller, line)

    def on_served(self, caller: _Turnstile, line: Line) -> None:
        """See Turns."""
        if self._turns is not None:
            self._turns.on_served(caller, line)

    def next_for(self, worker: Worker) -> _Turnstile | None:
        """See Turns. For a party that waits for this worker."""
        return next(iter(self.callers)) if self._turns is None else self._turns.next_for(worker)

    def next_own(self, lines: Collection[Line]) -> _Turnstile | None:
        """See Turns. For a party that has its own in these lines."""
        return next(iter(self.callers)) if self._turns is None else self._turns.next_own(lines)

    def members(self, line: Line) -> Collection[_Turnstile]:
        """See Turns. For a party that waits in this line."""
        return self.callers if self._turns is None else self._turns.members(line)

    def has_own(self, line: Line) -> bool:
        """See Member."""
        return any(not caller.guest for caller in self.members(line))

    def newest(self, by_length: bool) -> tuple[Request, Line] | None:
        """The newest request of the caller that has most, of those that may be refused."""
        return _newest_of(dict.fromkeys(self.callers), by_length)


class _Tier:
    """The requests of callers of one kind: `length` of them, with so many `bytes`."""

    __slots__ = ("bytes", "callers", "length", "parties", "turns")

    def __init__(self) -> None:
        self.callers: dict[Caller, _Turnstile] = {}
        self.parties: dict[str, _Party] = {}
        self.turns: Turns[_Party] = Turns()
        self.length = 0
        self.bytes = 0

    @property
    def is_used(self) -> bool:
        """True if anything is in any table."""
        return bool(self.callers or self.parties or self.length or self.bytes or self.turns.lines())

    def party_of(self, caller: Caller) -> _Party | None:
        """The party that a caller counts for, if that waits."""
        turnstile = self.callers.get(caller)
        return self.parties.get(caller.party) if turnstile is None else turnstile.party

    def add_request(self, request: Request, line: Line, *, front: bool = False) -> None:
        """See FairQueue."""
        caller = self.callers.get(request.caller) or self._add_caller(request)
        party = caller.party
        waiting = caller.lines.get(line)
        if waiting is None:
            waiting = caller.lines[line] = OrderedDict()
            if party.join(caller, line):
                self.turns.join(party, line)
        waiting[request] = None
        if front:
            waiting.move_to_end(request, last=False)
        request.line = line
        self._count(caller, 1, size_of(request))

    def _add_caller(self, request: Request) -> _Turnstile:
        name = request.caller.party
        party = self.parties.get(name)
        if party is None:
            party = self.parties[name] = _Party(name, self.turns.next_turn())
        caller = self.callers[request.caller] = _Turnstile(request.caller, party, request.guest is not None)
        party.add(caller)
        return caller

    def take_for_worker(self, worker: Worker) -> Request | None:
        """See FairQueue."""
        party = self.turns.next_for(worker)
        if party is None:
            return None
        caller = party.next_for(worker)
        assert caller is not None  # a party in the ring of a line has a caller there
        commands = worker.commands
        for line in caller.lines:
            if line is worker or (isinstance(line, str) and (commands is None or line in commands)):
                return self._take(caller, line)
        raise AssertionError("a caller in the ring of a line waits in that line")

    def take_for_other_node(self, lines: Collection[Line]) -> Request | None:
        """See FairQueue."""
        party = self.turns.next_own(lines)
        caller = None if party is None else party.next_own(lines)
        if caller is None:
            return None
        return self._take(caller, next(line for line in caller.lines if line in lines))

    def _take(self, caller: _Turnstile, line: Line) -> Request:
        request = next(iter(caller.lines[line]))
        caller.lines.move_to_end(line)
        caller.party.on_served(caller, line)
        self.turns.on_served(caller.party, line)
        self.remove_request(request)
        return request

    def remove_request(self, request: Request) -> None:
        """See FairQueue."""
        line = request.line
        assert isinstance(line, (str, Worker))  # it waits in that line
        request.line = None
        caller = self.callers[request.caller]
        self._count(caller, -1, -size_of(request))
        waiting = caller.lines[line]
        del waiting[request]
        if not waiting:
            self._close(caller, line)

    def guests_in(self, line: Line) -> list[Request]:
        """See FairQueue."""
        return [request for caller in self._callers_in(line) if caller.guest for request in caller.lines[line]]

    def drop_line(self, line: Line) -> list[Request]:
        """See FairQueue."""
        dropped: list[Request] = []
        for caller in self._callers_in(line):
            requests = list(caller.lines[line])
            for request in requests:
                self._count(caller, -1, -size_of(request))
            self._close(caller, line)
            dropped.extend(requests)
        for request in dropped:
            request.line = None
        return dropped

    def _callers_in(self, line: Line) -> list[_Turnstile]:
        return [caller for party in self.turns.members(line) for caller in party.members(line)]

    def _count(self, caller: _Turnstile, number: int, size: int) -> None:
        party = caller.party
        self.length += number
        self.bytes += size
        party.length += number
        party.bytes += size
        caller.length += number
        caller.bytes += size

    def _close(self, caller: _Turnstile, line: Line) -> None:
        party = caller.party
        del caller.lines[line]
        if party.leave(caller, line):
            self.turns.leave(party, line)
        if not caller.lines:
            del self.callers[caller.caller]
            del party.callers[caller]
            if not party.callers:
                del self.parties[party.name]


def size_of(request: Request) -> int:
    """Bytes that a waiting request takes."""
    return OVERHEAD + len(request.data)


def _is_within(waiting: _Waiting, size: int, share: int, share_bytes: int) -> bool:
    """Whether one request more is still within a share."""
    return waiting.length < share and waiting.bytes + size <= share_bytes


def _newest_of(givers: dict[_Waiting, None], by_length: bool) -> tuple[Request, Line] | None:
    """The newest request of the one that has most, of those that may be refused. Who has none leaves `givers`."""
    while givers:
        giver = max(givers, key=_length if by_length else _bytes)
        newest = giver.newest(by_length) if giver.length else None
        if newest is not None:
            return newest
        del givers[giver]
    return None


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
        return not any(tier.is_used for tier in self._tiers)

    def commands(self) -> list[str]:
        """The commands that requests wait for."""
        return [line for line in self.lines() if isinstance(line, str)]

    def lines(self) -> list[Line]:
        """All lines that requests wait in."""
        return list(dict.fromkeys([*self._trusted.turns.lines(), *self._others.turns.lines()]))

    # In

    def make_room(self, request: Request) -> list[Request] | None:
        """Take out what has to go so that this request can wait: mostly nothing. None: it can't wait."""
        size = size_of(request)
        if self._has_room(size):
            return []
        if not self._limit or size > self._limit_bytes:
            return None
        givers = dict.fromkeys(self._givers(request, size))
        missing = self.bytes + size - self._limit_bytes
        if sum(giver.bytes for giver in givers) < max(missing, 1):
            return None
        out: list[tuple[Request, Line]] = []
        while not self._has_room(size):
            newest = _newest_of(givers, self.length >= self._limit)
            if newest is None:
                break
            out.append(newest)
            self.remove_request(newest[0])
        if self._has_room(size):
            return [request for request, _ in out]
        for other, line in reversed(out):
            self.add_request(other, line)
        return None

    def _has_room(self, size: int) -> bool:
        return self.length < self._limit and self.bytes + size <= self._limit_bytes

    def _givers(self, request: Request, size: int) -> list[_Waiting]:
        """Who has to make room for a request: the parties that have more than their share, for a caller with a key all
        that have shown none, and if its own party has its share, those callers of it that have more than theirs."""
        trusted = request.caller.trusted
        tier = self._trusted if trusted else self._others
        if trusted and self._others.length:
            return list(self._others.parties.values())
        mine = tier.party_of(request.caller)
        parties = len(self._trusted.parties) + len(self._others.parties) + (mine is None)
        share, share_bytes = max(1, self._limit // parties), self._limit_bytes // parties
        if mine is None or _is_within(mine, size, share, share_bytes):
            others = list(tier.parties.values())
            much = self._trusted.length > self._limit // 2 or self._trusted.bytes > self._limit_bytes // 2
            if not trusted and much:
                others += self._trusted.parties.values()
            return self._above(others, mine, share, share_bytes)
        caller = tier.callers.get(request.caller)
        callers = len(mine.callers) + (caller is None)
        share, share_bytes = max(share, mine.length) // callers, max(share_bytes, mine.bytes) // callers
        if caller is None or _is_within(caller, size, max(1, share), share_bytes):
            return self._above(mine.callers, caller, max(1, share), share_bytes)
        return []

    def _above(
        self, members: Iterable[_Waiting], mine: _Waiting | None, share: int, share_bytes: int
    ) -> list[_Waiting]:
        """Those that have more than a share of what there is too much of."""
        if self.length >= self._limit:
            return [member for member in members if member is not mine and member.length > share]
        return [member for member in members if member is not mine and member.bytes > share_bytes]

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


def _length(caller: _Waiting) -> int:
    return caller.length


def _bytes(caller: _Waiting) -> int:
    return caller.bytes
