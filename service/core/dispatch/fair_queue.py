"""Requests that wait for a worker with room, in lines, fairly taken.

Knows who asked, in which line a request waits, and the order; not why it waits, nor for how long it may.
A line is a command's (anybody who serves it may take from it) or one worker's own (for requests that are bound
to it). Guests, which other nodes sent here, wait among the rest, but only for workers of this node. Promises: a worker
takes from the callers in turn, whatever they wait for, so neither one caller's backlog nor one command's holds up
another; of one caller it takes from the lines in turn, and within a line the oldest first. Taking costs no more when
many wait. The bound on how many may wait is the dispatcher's.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable

from .model import Caller, Request, Worker

Line = str | Worker


class _Turnstile:
    """One caller's waiting requests. `turn`: when it was last served, or came. All of a guest's are guests."""

    __slots__ = ("caller", "guest", "lines", "shared", "turn")

    def __init__(self, caller: Caller, guest: bool, turn: int) -> None:
        self.caller = caller
        self.guest = guest
        self.turn = turn
        self.lines: OrderedDict[Line, OrderedDict[Request, None]] = OrderedDict()
        self.shared = 0  # how many of the lines are commands'


_Ring = OrderedDict[_Turnstile, int]
"""Callers that wait in one line, and the turn by which each was put in its place."""


class FairQueue:
    """Who waits, and who is next. `length`: how many wait."""

    __slots__ = ("_callers", "_rings", "_shared", "_turn", "length")

    def __init__(self) -> None:
        self._callers: dict[Caller, _Turnstile] = {}
        self._rings: dict[Line, _Ring] = {}
        self._shared: _Ring = OrderedDict()  # everybody who waits in any command's line
        self._turn = 0
        self.length = 0

    def __len__(self) -> int:
        return self.length

    def commands(self) -> list[str]:
        """The commands that somebody waits for."""
        return [line for line in self._rings if isinstance(line, str)]

    def lines(self) -> list[Line]:
        """All lines that somebody waits in."""
        return list(self._rings)

    def add_request(self, request: Request, line: Line, *, front: bool = False) -> None:
        """Let a request wait at the end of its caller's part of the line, or at its front."""
        caller = self._callers.get(request.caller)
        if caller is None:
            self._turn += 1
            caller = self._callers[request.caller] = _Turnstile(request.caller, request.guest is not None, self._turn)
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
        self.length += 1

    def take_for_worker(self, worker: Worker) -> Request | None:
        """The next request for a worker that has room: of a line of its commands, or of its own."""
        caller = self._next_caller(worker)
        if caller is None:
            return None
        commands = worker.commands
        for line in caller.lines:
            if line is worker or (isinstance(line, str) and (commands is None or line in commands)):
                return self._take(caller, line)
        raise AssertionError("a caller in the ring of a line waits in that line")

    def take_for_other_node(self, lines: Collection[Line]) -> Request | None:
        """The next request in any of these lines that is no guest: those may not be sent on."""
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
        """It waits no more. One that doesn't wait is left alone."""
        line = request.line
        if not isinstance(line, (str, Worker)):
            return
        request.line = None
        self.length -= 1
        caller = self._callers[request.caller]
        waiting = caller.lines[line]
        del waiting[request]
        if not waiting:
            self._close(caller, line)

    def guests_in(self, line: Line) -> list[Request]:
        """The guests that wait in a line."""
        ring = self._rings.get(line, ())
        return [request for caller in ring if caller.guest for request in caller.lines[line]]

    def drop_line(self, line: Line) -> list[Request]:
        """Take out a whole line, in the order in which its callers would have had their turns."""
        dropped: list[Request] = []
        for caller in list(self._rings.get(line, ())):
            requests = list(caller.lines[line])
            self._close(caller, line)
            self.length -= len(requests)
            dropped.extend(requests)
        for request in dropped:
            request.line = None
        return dropped

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
            del self._callers[caller.caller]


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
