"""Survey: questions to other nodes, and their answers.

A question is a few bytes to all nodes, to one, or to those that hold a target. Its Reply is given when all of them have
answered, or at the timeout; a node that dies meanwhile is not waited for. At most MAX_QUESTIONS may be open; one more
is answered at once, with nothing.

A result is *complete* if every node that was asked, and still lives, has answered. A node that is cut off from the
others cannot know, so its results are never complete. What a question means, only the asking module knows.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from portico.wire.messages import Target

from ..deadlines import DeadlineWheel
from ..ports import Monotonic
from ..reply import Reply
from .backplane import Backplane

TIMEOUT: Final = 1.0
"""Seconds that the others have for their answers."""
MAX_QUESTIONS: Final = 1000

ASK: Final = "ask"
"""A message with a question: its id, a space, its kind, a line feed, and what is asked."""
ANSWER: Final = "answer"
"""A message with an answer: the question's id, a line feed, and what is answered."""


class NodeAnswer(NamedTuple):
    """What one node answered."""

    node: str
    body: bytes


class SurveyResult(NamedTuple):
    """The answers, by the names of the nodes, and whether they are complete."""

    answers: list[NodeAnswer]
    complete: bool


class _Question:
    __slots__ = ("answers", "awaited", "count", "reply")

    def __init__(self, reply: Reply[SurveyResult], awaited: set[str] | None) -> None:
        self.reply = reply
        self.awaited = awaited  # who still has to answer; None: whoever holds the target
        self.count: int | None = None  # how many hold it, as soon as that is known
        self.answers: dict[str, bytes] = {}


class Survey:
    """The questions of one node that are open."""

    def __init__(self, backplane: Backplane, *, now: Monotonic, make_id: Callable[[], str]) -> None:
        self._backplane = backplane
        self._now = now
        self._make_id = make_id
        self._open: dict[str, _Question] = {}
        self._deadlines: DeadlineWheel[str] = DeadlineWheel(0.1)
        self.incomplete = 0
        """Questions that somebody did not answer in time, or that could not be asked."""

    def __len__(self) -> int:
        return len(self._open)

    def ask_all(self, kind: str, body: bytes, reply: Reply[SurveyResult], timeout: float = TIMEOUT) -> None:
        """Ask every other node. With none there is nothing to wait for."""
        others = set(self._others())
        if not others and self._backplane.trouble is None:
            reply(SurveyResult([], True))
        elif (message := self._question(kind, body, reply, others, timeout)) is not None:
            self._backplane.tell_all(ASK, message[1])

    def ask_holders(
        self, target: Target, kind: str, body: bytes, reply: Reply[SurveyResult], timeout: float = TIMEOUT
    ) -> None:
        """Ask every other node that has connections which a target means."""
        message = self._question(kind, body, reply, None, timeout)
        if message is not None:
            name, text = message
            self._backplane.tell_holders(target, ASK, text, Reply(lambda count: self._counted(name, count)))

    def ask(self, node: str, kind: str, body: bytes, reply: Reply[SurveyResult], timeout: float = TIMEOUT) -> None:
        """Ask one other node. If it leaves before it answers, the result is empty and complete."""
        message = self._question(kind, body, reply, {node}, timeout)
        if message is not None:
            self._backplane.tell(node, ASK, message[1])

    def answered(self, sender: str, message: bytes) -> None:
        """An ANSWER came. One to a question that is over is dropped."""
        name, _, body = message.partition(b"\n")
        key = name.decode("ascii", "replace")
        question = self._open.get(key)
        if question is None:
            return
        question.answers.setdefault(sender, body)
        if question.awaited is not None:
            question.awaited.discard(sender)
        self._finish_if_all(key, question)

    def on_node_left(self, node: str) -> None:
        """Wait for a node no longer. (What it has answered already stays.)"""
        for name, question in list(self._open.items()):
            if question.awaited is not None:
                question.awaited.discard(node)
            self._finish_if_all(name, question)

    def on_nodes_changed(self) -> None:
        """Does nothing: `on_node_left` tells of the nodes that go."""

    def on_joined(self) -> None:
        """Does nothing: what was asked meanwhile has its timeout."""

    def tick(self) -> None:
        """Give up what is past its time. To be called every 100 ms or so."""
        for name in self._deadlines.expire(self._now()):
            self._finish(name, complete=False)

    def end(self) -> None:
        """This node ends: every open question is answered with what there is."""
        for name in list(self._open):
            self._finish(name, complete=False)

    def _question(
        self, kind: str, body: bytes, reply: Reply[SurveyResult], awaited: set[str] | None, timeout: float
    ) -> tuple[str, bytes] | None:
        if self._backplane.trouble is not None or len(self._open) >= MAX_QUESTIONS:
            self.incomplete += 1
            reply(SurveyResult([], False))
            return None
        name = self._make_id()
        self._open[name] = _Question(reply, awaited)
        self._deadlines.add(name, self._now() + timeout)
        return name, f"{name} {kind}\n".encode() + body

    def _counted(self, name: str, count: int) -> None:
        question = self._open.get(name)
        if question is None:
            return
        question.count = count
        if count == 0 and self._backplane.trouble is not None:
            self._finish(name, complete=False)
        else:
            self._finish_if_all(name, question)

    def _finish_if_all(self, name: str, question: _Question) -> None:
        if question.awaited is not None:
            if not question.awaited:
                self._finish(name, complete=True)
        elif question.count is not None:
            # Only the number of the target's holders is known, not their names; those that still live are no more than
            # all nodes that live.
            gone = question.answers.keys() - set(others := self._others())
            if len(question.answers) >= min(question.count, len(others) + len(gone)):
                self._finish(name, complete=True)

    def _finish(self, name: str, *, complete: bool) -> None:
        question = self._open.pop(name)
        self._deadlines.discard(name)
        if not complete:
            self.incomplete += 1
        answers = [NodeAnswer(node, body) for node, body in sorted(question.answers.items())]
        question.reply(SurveyResult(answers, complete))

    def _others(self) -> list[str]:
        own = self._backplane.node
        return [state.node for state in self._backplane.nodes() if state.node != own]


def parse(message: bytes) -> tuple[str, str, bytes]:
    """A question's id, its kind, and what is asked. Raises ValueError for what is no ASK."""
    head, line_feed, body = message.partition(b"\n")
    name, space, kind = head.decode("ascii").partition(" ")
    if not (line_feed and space):
        raise ValueError("a question has an id, a kind and a body")
    return name, kind, body


def answer_message(name: str, body: bytes) -> bytes:
    """The ANSWER to the question of this id."""
    return name.encode() + b"\n" + body
