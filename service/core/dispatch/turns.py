"""Turns: members that wait in lines, and which of them is next.

It knows who waits in which line, and the order of their turns; not what they wait with. A member that was served goes
to the end in every line that it waits in, so nobody gains turns by waiting in several. For example, the queue has turns
of parties (`fair_queue`), and within each party turns of its connections.

A line is a command's (any worker that serves it may take from it) or one worker's own. Finding the next member costs no
more when many wait: one that was served by way of another line is put in its place when it comes to the front.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, KeysView
from typing import Generic, Protocol, TypeVar

from .model import Worker

Line = str | Worker


class Member(Protocol):
    """Waits in lines. `turn`: when it was last served, or came; `commands`: in how many commands' lines it waits. Only
    Turns writes these."""

    turn: int
    commands: int

    def has_own(self, line: Line) -> bool:
        """Whether it waits in a line with something that other nodes may be sent."""


M = TypeVar("M", bound=Member)
_Ring = OrderedDict[M, int]
"""Members that wait in one line, and the turn by which each was put in its place."""


class Turns(Generic[M]):
    """The members of one group. A member joins each of its lines, and leaves each."""

    __slots__ = ("_any_command", "_rings", "_turn")

    def __init__(self) -> None:
        self._rings: dict[Line, _Ring[M]] = {}
        self._any_command: _Ring[M] = OrderedDict()  # everybody who waits in any command's line
        self._turn = 0

    def lines(self) -> KeysView[Line]:
        """All lines that members wait in."""
        return self._rings.keys()

    def members(self, line: Line) -> Collection[M]:
        """Those that wait in a line, about in the order of their turns."""
        return self._rings.get(line, ())

    def next_turn(self) -> int:
        """The turn of who comes now."""
        self._turn += 1
        return self._turn

    def join(self, member: M, line: Line) -> bool:
        """It waits in this line, too. Returns whether it is the first there."""
        ring = self._rings.get(line)
        first = ring is None
        if ring is None:
            ring = self._rings[line] = OrderedDict()
        ring[member] = member.turn
        if isinstance(line, str):
            member.commands += 1
            if member.commands == 1:
                self._any_command[member] = member.turn
        return first

    def leave(self, member: M, line: Line) -> bool:
        """It doesn't wait in this line any more. Returns whether nobody does."""
        ring = self._rings[line]
        del ring[member]
        if isinstance(line, str):
            member.commands -= 1
            if not member.commands:
                del self._any_command[member]
        if ring:
            return False
        del self._rings[line]
        return True

    def on_served(self, member: M, line: Line) -> None:
        """It had its turn in this line."""
        member.turn = self.next_turn()
        _to_the_end(self._rings[line], member)
        if isinstance(line, str):
            _to_the_end(self._any_command, member)
        # Its other lines learn of it when it comes to the front there.

    def next_for(self, worker: Worker) -> M | None:
        """Whose turn it is to be served by a worker."""
        best: M | None = None
        for ring in self._rings_of(worker):
            member = _front(ring)
            if best is None or member.turn < best.turn:
                best = member
        return best

    def next_own(self, lines: Iterable[Line]) -> M | None:
        """Whose turn it is in any of these lines, of those with something that other nodes may be sent."""
        best: M | None = None
        for line in lines:
            ring = self._rings.get(line)
            member = None if ring is None else _front_own(ring, line)
            if member is not None and (best is None or member.turn < best.turn):
                best = member
        return best

    def _rings_of(self, worker: Worker) -> Iterable["_Ring[M]"]:
        rings = self._rings
        own = rings.get(worker)
        if own is not None:
            yield own
        commands = worker.commands
        if commands is None:
            if self._any_command:
                yield self._any_command
        elif len(commands) <= len(rings):
            for command in commands:
                if (ring := rings.get(command)) is not None:
                    yield ring
        else:
            for line, ring in rings.items():
                if line in commands:
                    yield ring


def _front(ring: "_Ring[M]") -> M:
    """The member whose turn it is. One that was served by way of another line since goes to the end first."""
    while True:
        member, turn = next(iter(ring.items()))
        if turn == member.turn:
            return member
        _to_the_end(ring, member)


def _front_own(ring: "_Ring[M]", line: Line) -> M | None:
    """Like `_front`, with those passed over that have only guests. (There are never many: other nodes keep what has to
    wait long.)"""
    while True:
        member = next((member for member in ring if member.has_own(line)), None)
        if member is None or member.turn == ring[member]:
            return member
        _to_the_end(ring, member)


def _to_the_end(ring: "_Ring[M]", member: M) -> None:
    ring[member] = member.turn
    ring.move_to_end(member)
