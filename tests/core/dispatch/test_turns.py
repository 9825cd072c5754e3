"""Turns, by themselves: who is next of those that wait in several lines."""

from service.core.dispatch.model import GONE, Statistics, Worker
from service.core.dispatch.turns import Line, Turns


class Someone:
    """A member with a name; `own`: it waits with something that other nodes may be sent."""

    def __init__(self, name: str, *, own: bool = True) -> None:
        self.name = name
        self.turn = 0
        self.commands = 0
        self.own = own

    def has_own(self, line: Line) -> bool:
        return self.own


def group(*members: Someone) -> Turns[Someone]:
    turns: Turns[Someone] = Turns()
    for member in members:
        member.turn = turns.next_turn()
    return turns


def worker(*commands: str) -> Worker:
    return Worker(GONE, "w", frozenset(commands) or None, 1, 1.0, Statistics())


def served(turns: Turns[Someone], by: Worker, line: Line, times: int) -> str:
    names = ""
    for _ in range(times):
        member = turns.next_for(by)
        assert member is not None
        turns.on_served(member, line)
        names += member.name
    return names


def test_each_in_turn() -> None:
    a, b, c = Someone("a"), Someone("b"), Someone("c")
    turns = group(a, b, c)
    assert turns.next_for(worker()) is None
    assert [turns.join(member, "echo") for member in (a, b, c)] == [True, False, False]
    assert served(turns, worker(), "echo", 5) == "abcab"
    assert [turns.leave(member, "echo") for member in (a, b, c)] == [False, False, True]
    assert turns.next_for(worker()) is None
    assert not turns.lines()


def test_who_was_served_in_one_line_has_had_its_turn_in_the_others() -> None:
    a, b = Someone("a"), Someone("b")
    turns = group(a, b)
    for member in (a, b):
        for line in ("echo", "sum"):
            turns.join(member, line)
    assert served(turns, worker("echo"), "echo", 1) == "a"
    assert served(turns, worker("sum"), "sum", 2) == "ba"
    assert served(turns, worker("echo", "sum", "more", "than", "lines"), "echo", 2) == "ba"


def test_a_workers_own_line_is_nobody_elses() -> None:
    mine, other = worker(), worker()
    a = Someone("a")
    turns = group(a)
    turns.join(a, mine)
    assert turns.next_for(mine) is a
    assert turns.next_for(other) is None
    assert a.commands == 0
    assert turns.leave(a, mine)


def test_who_has_only_guests_is_passed_over_for_other_nodes_and_keeps_its_place() -> None:
    guest, a, b = Someone("g", own=False), Someone("a"), Someone("b")
    turns = group(guest, a, b)
    for member in (guest, a, b):
        turns.join(member, "echo")
    turns.join(a, "sum")
    assert turns.next_own(["echo"]) is a
    turns.on_served(a, "sum")
    assert turns.next_own(["echo", "none waits here"]) is b
    assert turns.next_own(["sum"]) is a
    assert turns.next_own(["nobody's"]) is None
    assert next(iter(turns.members("echo"))) is guest
    assert turns.next_for(worker()) is guest
