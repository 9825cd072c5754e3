"""What nodes say to, ask and answer one another, over a World of several."""

from collections.abc import Callable
from itertools import count

import pytest

from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target
from service.backplane.memory import MemoryBackplane, World
from service.core.cluster.cluster_messages import ClusterMessages
from service.core.cluster.survey import ANSWER, ASK, NodeAnswer, SurveyResult
from service.core.reply import Reply
from tests.fakes import ManualClock, RecordingJournal

U1 = Target("user_id", "u1")


class Listening:
    """The observer of a node that passes on what other nodes say."""

    def __init__(self, cluster_messages: ClusterMessages) -> None:
        self.cluster_messages = cluster_messages
        self.deaf = False
        self.kept: list[tuple[str, str, bytes]] = []

    def refusal(self, target: Target) -> PeerFault | None:
        """No pushes here."""
        return None

    def on_push(self, target: Target, event: Event) -> tuple[int, int]:
        """No pushes here."""
        return 0, 0

    def on_gap(self, target: Target, epoch: str, offset: int) -> None:
        """No streams here."""

    def on_message(self, sender: str, kind: str, body: bytes) -> None:
        """Passed on, unless it is deaf: then kept."""
        if self.deaf:
            self.kept.append((sender, kind, body))
        else:
            self.cluster_messages.on_message(sender, kind, body)

    def on_node_left(self, node: str) -> None:
        """Passed on."""
        self.cluster_messages.on_node_left(node)

    def on_nodes_changed(self) -> None:
        """Of no interest."""

    def on_joined(self) -> None:
        """Of no interest."""


class Watching:
    """A MembershipObserver, which may fail."""

    def __init__(self, do: Callable[[str], object] = str) -> None:
        self._do = do
        self.left: list[str] = []

    def on_node_left(self, node: str) -> None:
        """Kept."""
        self._do(node)
        self.left.append(node)

    def on_nodes_changed(self) -> None:
        """Of no interest."""

    def on_joined(self) -> None:
        """Of no interest."""


class Town:
    """Some nodes, named a, b, c, …; each answers `name` with its name."""

    def __init__(self, names: str) -> None:
        self.clock = ManualClock()
        self.world = World(now=self.clock.now)
        ids = count(1)

        def make_id() -> str:
            return f"q{next(ids)}"

        self.planes: dict[str, MemoryBackplane] = {}
        self.nodes: dict[str, ClusterMessages] = {}
        self.inbound: dict[str, Listening] = {}
        self.errors = RecordingJournal()
        for name in names:
            plane = self.planes[name] = MemoryBackplane(self.world, name, make_id)
            node = self.nodes[name] = ClusterMessages(plane, self.errors, now=self.clock.now, make_id=make_id)
            inbound = Listening(node)
            plane.attach(inbound, inbound)
            self.inbound[name] = inbound
            node.answer_to("name", lambda body, name=name: name.encode() + body)  # type: ignore[misc]
        self.got: list[SurveyResult] = []

    def done(self, result: SurveyResult) -> None:
        """A question is over."""
        self.got.append(result)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, then tick all nodes."""
        self.clock.move(seconds)
        for node in self.nodes.values():
            node.tick()


def test_messages_are_handled_by_kind() -> None:
    town = Town("abc")
    heard: list[tuple[str, str, bytes]] = []
    for name in "bc":
        town.nodes[name].on("hello", lambda sender, body, name=name: heard.append((name, sender, body)))  # type: ignore[misc]
    town.planes["a"].tell_all("hello", b"all")
    town.nodes["a"].tell("c", "hello", b"c")
    town.planes["a"].tell_all("unheard-of", b"x")
    assert heard == [("b", "a", b"all"), ("c", "a", b"all"), ("c", "a", b"c")]
    assert [town.nodes[name].unknown for name in "abc"] == [0, 1, 1]


def test_a_kind_has_one_handler_and_one_answer() -> None:
    node = Town("a").nodes["a"]
    node.on("hello", lambda sender, body: None)
    for kind in ("hello", ASK, ANSWER):
        with pytest.raises(ValueError, match=kind):
            node.on(kind, lambda sender, body: None)
    for kind in ("name", "two words", "näme", "a\n"):
        with pytest.raises(ValueError, match="question"):
            node.answer_to(kind, lambda body: body)


@pytest.mark.parametrize("message", [b"", b"\n", b"id\n", b"id kind", b"\xff kind\n", b"id unheard-of\n"])
def test_a_question_that_makes_no_sense_is_not_answered(message: bytes) -> None:
    town = Town("ab")
    town.nodes["b"].on_message("a", ASK, message)
    town.nodes["b"].on_message("a", ANSWER, message)
    assert len(town.errors.broken) + town.nodes["b"].unknown == 1


def test_what_goes_wrong_in_one_place_stays_there() -> None:
    town = Town("abc")

    def fail(*_: object) -> bytes:
        raise RuntimeError("a bug")

    town.nodes["b"].answer_to("broken", fail)
    town.nodes["c"].answer_to("broken", lambda body: b"fine")
    town.nodes["b"].on("broken", fail)  # type: ignore[arg-type]
    watching, broken = Watching(), Watching(fail)
    town.nodes["b"].watch(broken)
    town.nodes["b"].watch(watching)
    town.planes["a"].tell_all("broken", b"")
    town.nodes["a"].ask_all("broken", b"", Reply(town.done))
    town.pass_time(2)
    assert town.got == [([NodeAnswer("c", b"fine")], False)]
    town.planes["c"].leave_world()
    assert watching.left == ["c"]
    assert len(town.errors.broken) == 3
