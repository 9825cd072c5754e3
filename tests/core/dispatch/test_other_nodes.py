"""What is known of other nodes: who is in the table, and which callers there have guests here."""

from msgspec import Raw

from service.core.dispatch.model import Outcome, OutcomeKind, Request
from service.core.dispatch.other_nodes import OtherNode, OtherNodes
from tests.fakes import ManualClock


class Observer:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[OtherNode, Request]] = []

    def on_guest_answered(self, node: OtherNode, request: Request, outcome: Outcome) -> None:
        self.told.append((node, request))


def guest(
    node: OtherNode, name: str, key: int = 1, trusted: bool = False, party: str = "10.0.0.1"
) -> tuple[Request, Observer]:
    observer = Observer()
    caller = node.caller(key, party, trusted, observer)
    request = Request("r", caller, name, "add", Raw(b"{}"), 1.0, False, None, False, 0.0, 1.0, 0.0)
    node.add_guest(name, request, caller)
    return request, observer


def test_a_node_is_known_from_its_first_word() -> None:
    clock = ManualClock()
    nodes = OtherNodes(clock.now)
    assert (nodes.get("b"), list(nodes)) == (None, [])
    node = nodes.known("b")
    assert node.heard_at == clock.now()
    clock.move(1)
    assert nodes.known("b") is nodes["b"] is node


def test_callers_there_take_turns_by_themselves_and_are_kept_while_they_have_guests() -> None:
    node = OtherNode("b", 0.0)
    assert node.is_idle
    one, observer = guest(node, "r1")
    two, _ = guest(node, "r2")
    other, _ = guest(node, "r3", key=2)
    assert one.caller is two.caller is not other.caller
    assert not node.is_idle
    one.caller.on_answer(one, Outcome(OutcomeKind.OK, True, None, None, None))
    assert observer.told == [(node, one)]
    assert node.forget_guest("r1") is one
    assert node.forget_guest("r1") is None
    assert set(node.callers) == {1, 2}
    node.forget_guest("r2")
    assert set(node.callers) == {2}
    node.forget_guest("r3")
    assert node.is_idle


def test_one_that_is_trusted_now_or_counts_for_another_party_is_another_caller() -> None:
    node = OtherNode("b", 0.0)
    stranger, _ = guest(node, "r1")
    friend, _ = guest(node, "r2", trusted=True)
    assert (stranger.caller.trusted, friend.caller.trusted) == (False, True)
    other, _ = guest(node, "r3", trusted=True, party="10.0.0.2")
    assert (friend.caller.party, other.caller.party) == ("10.0.0.1", "10.0.0.2")
    node.forget_guest("r2")
    node.forget_guest("r1")
    assert node.callers[1] is other.caller, "the older one's end doesn't forget it"
