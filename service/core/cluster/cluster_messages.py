"""ClusterMessages: what nodes say to one another, by kind, and what they ask one another.

All messages of other nodes come in here. For example, a node that is asked to kick a client asks all others by a
question of the kind `kick`, and each answers how many connections it closed. Knows kinds, never what is in a message.
Whatever another node sends, and whatever goes wrong in handling it, nothing raises: it may run another version.
"""

from collections.abc import Callable
from typing import Final, Protocol

from portico.wire.messages import Target

from ..ports import Monotonic
from ..reply import Reply
from .backplane import Backplane
from .survey import ANSWER, ASK, TIMEOUT, NodeAnswer, Survey, SurveyResult, answer_message, parse

MessageHandler = Callable[[str, bytes], None]
"""Gets a message: the node that sent it, and its body. Must not wait."""
Answerer = Callable[[bytes], bytes]
"""Answers a question at once."""


class ErrorObserver(Protocol):
    """Who is told of bugs of ours."""

    def on_error(self, session: None, error: Exception) -> None:
        """A bug of ours came up while another node's message, question or answer was handled."""


class MembershipObserver(Protocol):
    """A part of the core that is told when nodes come and go."""

    def on_node_left(self, node: str) -> None:
        """A node is gone."""

    def on_nodes_changed(self) -> None:
        """Nodes came, went, or tell something else of themselves."""

    def on_joined(self) -> None:
        """This node hears the others from now on, and may have missed what they said before."""


class ClusterMessages:
    """What this node hears of the others, and asks them."""

    def __init__(
        self, backplane: Backplane, errors: ErrorObserver, *, now: Monotonic, make_id: Callable[[], str]
    ) -> None:
        """`errors` is told of every exception that a handler, or an answer, raised."""
        self.backplane: Final = backplane
        self.survey: Final = Survey(backplane, now=now, make_id=make_id)
        self.unknown = 0
        """Messages and questions of a kind that nothing here handles; they are dropped."""
        self._errors = errors
        self._on: dict[str, MessageHandler] = {ASK: self._asked, ANSWER: self.survey.answered}
        self._answers: dict[str, Answerer] = {}
        self._watching: list[MembershipObserver] = [self.survey]

    # What is heard

    def on(self, kind: str, handle: MessageHandler) -> None:
        """Have messages of a kind handled. ValueError where the kind is taken."""
        if kind in self._on:
            raise ValueError(f"messages of kind {kind!r} are handled already; choose another name")
        self._on[kind] = handle

    def watch(self, observer: MembershipObserver) -> None:
        """Have somebody told when nodes come and go; in the order of adding, after their questions were given up."""
        self._watching.append(observer)

    def answer_to(self, kind: str, answer: Answerer) -> None:
        """What this node answers when asked. ValueError where the kind is taken."""
        if kind in self._answers:
            raise ValueError(f"questions of kind {kind!r} are answered already; choose another name")
        if " " in kind or "\n" in kind or not kind.isascii():
            raise ValueError(f"the kind of a question is one word of ASCII, not {kind!r}")
        self._answers[kind] = answer

    # The backplane's NodeObserver

    def on_message(self, sender: str, kind: str, body: bytes) -> None:
        """A message of another node's. Never raises."""
        handle = self._on.get(kind)
        if handle is None:
            self.unknown += 1
            return
        try:
            handle(sender, body)
        except Exception as error:
            self._failed(error)

    def on_node_left(self, node: str) -> None:
        """A node is gone. Never raises."""
        for observer in self._watching:
            try:
                observer.on_node_left(node)
            except Exception as error:
                self._failed(error)

    def on_nodes_changed(self) -> None:
        """The nodes are others than before, or tell something else of themselves. Never raises."""
        for observer in self._watching:
            try:
                observer.on_nodes_changed()
            except Exception as error:
                self._failed(error)

    def on_joined(self) -> None:
        """This node hears the others from now on, and may have missed what they said before. Never raises."""
        for observer in self._watching:
            try:
                observer.on_joined()
            except Exception as error:
                self._failed(error)

    def tick(self) -> None:
        """Give up what is past its time. To be called every 100 ms or so."""
        self.survey.tick()

    # What is asked

    def tell(self, node: str, kind: str, body: bytes) -> None:
        """Send a message to one node (to this one too)."""
        if node == self.backplane.node:
            self.on_message(node, kind, body)
        else:
            self.backplane.tell(node, kind, body)

    def ask_all(self, kind: str, body: bytes, reply: Reply[SurveyResult], timeout: float = TIMEOUT) -> None:
        """Ask every other node. See `survey`."""
        self.survey.ask_all(kind, body, reply, timeout)

    def ask_holders(
        self, target: Target, kind: str, body: bytes, reply: Reply[SurveyResult], timeout: float = TIMEOUT
    ) -> None:
        """Ask every other node that has connections which a target means. See `survey`."""
        self.survey.ask_holders(target, kind, body, reply, timeout)

    def ask(self, node: str, kind: str, body: bytes, reply: Reply[SurveyResult], timeout: float = TIMEOUT) -> None:
        """Ask one node; this one answers itself at once."""
        if node == self.backplane.node:
            answer = self._answer(kind, body)
            reply(SurveyResult([] if answer is None else [NodeAnswer(node, answer)], answer is not None))
        else:
            self.survey.ask(node, kind, body, reply, timeout)

    def _asked(self, sender: str, message: bytes) -> None:
        name, kind, body = parse(message)
        answer = self._answer(kind, body)
        # Without an answer the other gives up at its timeout, and knows that this node is missing.
        if answer is not None:
            self.backplane.tell(sender, ANSWER, answer_message(name, answer))

    def _answer(self, kind: str, body: bytes) -> bytes | None:
        answer = self._answers.get(kind)
        if answer is None:
            self.unknown += 1
            return None
        try:
            return answer(body)
        except Exception as error:
            self._failed(error)
            return None

    def _failed(self, error: Exception) -> None:
        self._errors.on_error(None, error)
