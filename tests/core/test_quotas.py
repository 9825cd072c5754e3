"""Quotas: the rules for rates and for connections, on one node and on several that settle, and their gate."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.wire.faults import PeerFault
from service.core.connections.session import Session
from service.core.hosts import network
from service.core.quotas import BURST_SECONDS, REMEMBERED, Quota, Quotas, Share, Who
from tests.fakes import ManualClock, Stage, stage


class Together:
    """Nodes that settle with one another, as over Redis."""

    def __init__(self, *quotas: Quota, nodes: int = 2) -> None:
        self.clock = ManualClock()
        self.nodes = [Quotas(quotas, self.clock.now) for _ in range(nodes)]
        self.levels: dict[tuple[str, str, str], tuple[float, float]] = {}
        self.open: dict[tuple[str, str], dict[int, int]] = {}

    def settle(self) -> list[Session]:
        """Every node in turn; what they are to close."""
        surplus = []
        for number, node in enumerate(self.nodes):
            shares = node.due(1000)
            surplus += node.settled(shares, [self._total(number, share) for share in shares])
        return surplus

    def _total(self, node: int, share: Share) -> float:
        if share.kind == "connections":
            counts = self.open.setdefault((share.holder, share.name), {})
            counts[node] = int(share.used)
            return sum(count for other, count in counts.items() if other != node)
        key, now = (share.kind, share.holder, share.name), self.clock.now()
        level, at = self.levels.get(key, (0.0, now))
        level = max(0.0, level - (now - at) * share.amount) + share.used
        self.levels[key] = (level, now)
        return level


ANN = Who("192.0.2.1", "ann", "shop")


def test_a_burst_of_two_seconds_then_the_rate() -> None:
    (node,) = Together(Quota("messages", "user", 10), nodes=1).nodes
    clock = ManualClock()
    node = Quotas([Quota("messages", "user", 10)], clock.now)
    assert [node.take("messages", ANN) for _ in range(20)] == [0.0] * 20
    assert node.take("messages", ANN) == pytest.approx(0.1)
    assert node.refused == {("messages", "user"): 1}
    assert node.take("messages", Who("192.0.2.1", "bob")) == 0.0, "another's"
    assert node.take("messages", Who("192.0.2.1")) == 0.0, "nobody's"
    assert node.take("bytes", ANN, 1 << 20) == 0.0, "no quota of these"
    clock.move(0.11)
    assert node.take("messages", ANN) == 0.0
    assert node.take("messages", ANN) > 0.0


def test_what_is_large_passes_once_and_is_owed() -> None:
    clock = ManualClock()
    node = Quotas([Quota("bytes", "address", 1000)], clock.now)
    assert node.take("bytes", ANN, 10_000) == 0.0
    assert node.take("bytes", ANN) == pytest.approx(8.001, abs=0.01)
    clock.move(8.1)
    assert node.take("bytes", ANN) == 0.0


def test_one_who_has_none_left_takes_from_nobody_else() -> None:
    clock = ManualClock()
    node = Quotas([Quota("pushes", "address", 100), Quota("pushes", "user", 1)], clock.now)
    for _ in range(50):
        node.take("pushes", ANN)
    assert [node.take("pushes", Who("192.0.2.1", f"u{n}")) for n in range(198)] == [0.0] * 198
    assert node.take("pushes", Who("192.0.2.1", "one more")) > 0.0


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 0.3), st.booleans()), max_size=300))
def test_over_time_no_more_than_the_rate_passes_on_all_nodes_together(steps: list[tuple[int, float, bool]]) -> None:
    rate, nodes = 5, 3
    together = Together(Quota("messages", "user", rate), nodes=nodes)
    start, passed = together.clock.now(), 0
    for number, pause, settles in steps:
        together.clock.move(pause)
        passed += together.nodes[number].take("messages", ANN) == 0.0
        if settles:
            together.settle()
        seconds = together.clock.now() - start
        assert passed <= rate * seconds + nodes * BURST_SECONDS * rate + 1e-6


def test_what_others_have_taken_is_known_once_settled() -> None:
    together = Together(Quota("messages", "user", 10))
    one, other = together.nodes
    for _ in range(20):
        assert one.take("messages", ANN) == 0.0
    together.settle()
    assert other.take("messages", ANN) == 0.0, "who has not asked here yet is not known here"
    together.settle()
    assert other.take("messages", ANN) > 0.0
    together.clock.move(3)
    assert other.take("messages", ANN) == 0.0


def test_what_could_not_be_told_is_told_later() -> None:
    together = Together(Quota("messages", "user", 10))
    one, other = together.nodes
    for _ in range(20):
        one.take("messages", ANN)
    one.kept(one.due(1000))
    assert one.alone
    assert one.take("messages", ANN) > 0.0, "it keeps the quota by itself"
    other.take("messages", ANN)
    together.settle()
    assert not one.alone
    assert other.take("messages", ANN) > 0.0


def test_what_is_remembered_is_bounded() -> None:
    clock = ManualClock()
    node = Quotas([Quota("requests", "address", 1)], clock.now)
    for number in range(REMEMBERED + 10):
        node.take("requests", Who(f"a{number}"))
    assert node.remembered == REMEMBERED


def test_a_household_has_one_address() -> None:
    assert network("2001:db8:1:2:3::9") == network("2001:db8:1:2:ffff::1%eth0") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::1") != network("2001:db8:1:2::1")
    assert network("192.0.2.1") == "192.0.2.1"
    assert network("::ffff:192.0.2.1") == "::ffff:192.0.2.1"
    assert network("unix:") == "unix:"


# The gate


def test_the_newest_go_where_two_nodes_together_have_too_many() -> None:
    together = Together(Quota("connections", "tenant", 3))
    sessions = [at_come(stage()) for _ in range(5)]
    for number, session in enumerate(sessions):
        assert together.nodes[number % 2].opened(session, ANN)
    assert together.settle() == sessions[1:4:2][-2:], "those of the node that settles last, down to three in all"
    assert together.settle() == [], "nobody twice"
    assert not together.nodes[0].has_room(ANN)


@pytest.mark.parametrize("fails", [False, True], ids=["told", "told in vain first"])
def test_one_that_comes_while_the_others_are_told_is_counted_the_next_time(fails: bool) -> None:
    node = Quotas([Quota("connections", "tenant", 3)], ManualClock().now)
    early, amid, late = (at_come(stage()) for _ in range(3))
    assert node.opened(early, ANN)
    shares = node.due(10)
    assert node.opened(amid, ANN)
    if fails:
        node.kept(shares)
        shares = node.due(10)
    assert node.opened(late, ANN)
    turned_away: list[list[Session]] = []
    for _ in range(3):
        surplus = node.settled(shares, [2] * len(shares))  # which the other nodes have had for a while
        for session in surplus:
            node.closed(session, ANN)
        turned_away.append(surplus)
        shares = node.due(10)
    assert turned_away == ([[amid], [late], []] if fails else [[], [amid, late], []])


def test_one_that_leaves_while_the_others_are_told_is_none_too_many() -> None:
    node = Quotas([Quota("connections", "tenant", 3)], ManualClock().now)
    first, second = (at_come(stage()) for _ in range(2))
    assert node.opened(first, ANN)
    assert node.opened(second, ANN)
    shares = node.due(10)
    node.closed(first, ANN)
    assert node.settled(shares, [2]) == []


def at_come(at: Stage) -> Session:
    return at.connect()[0]


def test_the_fault_says_when() -> None:
    node = Quotas([Quota("pushes", "user", 1)], ManualClock().now)
    check: Callable[[], None] = lambda: node.check("pushes", ANN)  # noqa: E731
    check()
    check()
    with pytest.raises(PeerFault) as told:
        check()
    assert told.value.retry_after == pytest.approx(1.0)
