"""Whatever happens in whatever order, nothing is missed in silence: of the Python client, and of one to the letter.

A model of a gateway that keeps the contract ("Durable events" of the protocol reference) publishes, loses its Redis,
loses its history, and cuts connections between any two messages, as hypothesis has it. Whenever a client gets an event,
all that was published on that stream before must have come before it, each once and in order, or a gap of the stream
must have been told since. Once all is well again, no gap is told any more.
"""

from collections import deque
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.client.positions import Positions
from tests.portico.client.letter import LetterClient

STREAMS = ("all", "user:u1")


class Follower(Protocol):
    """A client: what it resumes from, and what its program gets of a message: `("gap", streams)`, `("event", push)`."""

    def resume(self) -> dict[str, Any] | None: ...

    def on_message(self, message: dict[str, Any]) -> list[tuple[str, Any]]: ...


class Letter:
    """The client to the letter."""

    def __init__(self) -> None:
        self._client = LetterClient(user_id="u1")

    def resume(self) -> dict[str, Any] | None:
        return self._client.first_message().get("resume")

    def on_message(self, message: dict[str, Any]) -> list[tuple[str, Any]]:
        before = len(self._client.handled)
        self._client.on_message(message)
        return [("gap" if isinstance(what, list) else "event", what) for what in self._client.handled[before:]]


class Python:
    """What the Python client does with its Positions."""

    def __init__(self) -> None:
        self._positions = Positions()
        self._resumed = False

    def resume(self) -> dict[str, Any] | None:
        resume = self._positions.resume
        self._resumed = resume is not None
        return resume

    def on_message(self, message: dict[str, Any]) -> list[tuple[str, Any]]:
        if message["type"] == "registration_success":
            missing = self._positions.registered(message, STREAMS, resumed=self._resumed)
            return [("gap", missing)] if missing else []
        if message["type"] == "stream_gap":
            self._positions.gap(message)
            return [("gap", message["streams"])]
        if not self._positions.is_new(message):
            return []
        got: list[tuple[str, Any]] = []
        if self._positions.is_in_doubt(message):
            got.append(("gap", [message["stream"]]))
        self._positions.took(message)
        return [*got, ("event", message)]


class Deployment:
    """A gateway that keeps the contract, one client of it, and the account of what that client missed."""

    def __init__(self, client: Follower) -> None:
        self.client = client
        self.epoch = 1
        self.away = False  # Redis is
        self.history: dict[str, list[dict[str, Any]]] = {stream: [] for stream in STREAMS}
        self.ends = dict.fromkeys(STREAMS, 0)
        self.connected = False
        self.wire: deque[dict[str, Any]] = deque()  # sent, and not read by the client yet
        self.unsettled = False  # the client's positions are not known to this node
        self.numbers = dict.fromkeys(STREAMS, 0)
        self.owed: dict[str, list[int]] = {stream: [] for stream in STREAMS}  # published since it registered, not had
        self.gaps = 0  # that its program was told of
        self.had = dict.fromkeys(STREAMS, 0)  # the last that the client got
        self.registered = False

    # What happens

    def publish(self, stream: str) -> None:
        """By another node: this one hears of it unless its Redis is away."""
        self.ends[stream] += 1
        self.numbers[stream] += 1
        n = self.numbers[stream]
        event = {"type": "e", "stream": stream, "offset": self.ends[stream], "n": n}
        self.history[stream].append(event)
        if self.registered:
            self.owed[stream].append(n)
        if self.connected and not self.away:
            self.wire.append(event)

    def redis_goes(self) -> None:
        if not self.away:
            self.away = True
            self.unsettled = self.connected

    def redis_comes_back(self) -> None:
        if self.away:
            self.away = False
            if self.connected and self.unsettled:
                self._tell_of_gaps()

    def history_is_lost(self) -> None:
        if self.away:
            return
        self.epoch += 1
        self.history = {stream: [] for stream in STREAMS}
        self.ends = dict.fromkeys(STREAMS, 0)
        if self.connected:
            self._tell_of_gaps()

    def history_is_trimmed(self) -> None:
        for events in self.history.values():
            del events[:-1]

    def cut(self) -> None:
        self.connected = False
        self.wire.clear()

    def connect(self) -> None:
        if self.connected:
            return
        resume = self.client.resume()
        self.connected = True
        self.unsettled = self.away
        named = {} if resume is None else resume["offsets"]
        answer: dict[str, Any] = {"epoch": f"e{self.epoch}", "offsets": {}, "recovered": True}
        replay: list[dict[str, Any]] = []
        lost = []
        if self.away:
            answer["epoch"] = ""
        for stream in STREAMS:
            at = named.get(stream)
            if self.away:
                answer["offsets"][stream] = -1
                lost += [stream] if at is not None else []
            elif at is None:
                answer["offsets"][stream] = self.ends[stream]
            elif resume is not None and resume["epoch"] == answer["epoch"] and self._keeps(stream, at):
                answer["offsets"][stream] = at
                replay += [event for event in self.history[stream] if event["offset"] > at]
            else:
                answer["offsets"][stream] = self.ends[stream]
                lost.append(stream)
        answer["recovered"] = not lost and not (self.away and resume is None)
        if lost:
            answer["lost"] = lost
        self.wire.append({"type": "registration_success", "resume": answer})
        self.wire.extend(replay)

    def read(self) -> None:
        """The client reads one message."""
        if not self.wire:
            return
        message = self.wire.popleft()
        if message["type"] == "registration_success":
            self.registered = True
        for kind, what in self.client.on_message(message):
            if kind == "gap":
                self.gaps += 1
                for stream in what:
                    self.owed[stream].clear()
            else:
                self._account(what)

    def _account(self, event: dict[str, Any]) -> None:
        owed = self.owed[event["stream"]]
        assert event["n"] > self.had[event["stream"]], "it came twice, or after a later one"
        self.had[event["stream"]] = event["n"]
        if event["n"] in owed:
            assert owed[0] == event["n"], f"{owed[0]} was missed in silence before {event}"
            owed.pop(0)

    def _keeps(self, stream: str, at: int) -> bool:
        return 0 <= at <= self.ends[stream] and (
            at == self.ends[stream]
            or any(event["offset"] == at for event in self.history[stream])
            or (bool(self.history[stream]) and self.history[stream][0]["offset"] == at + 1)
        )

    def _tell_of_gaps(self) -> None:
        self.unsettled = False
        for stream in STREAMS:
            offsets = {stream: self.ends[stream]}
            gap = {"type": "stream_gap", "streams": [stream], "epoch": f"e{self.epoch}", "offsets": offsets}
            self.wire.append(gap)


CALM = (
    lambda world: world.publish("all"),
    lambda world: world.publish("user:u1"),
    Deployment.read,
    Deployment.read,
    Deployment.connect,
    Deployment.cut,
)
ACTIONS = (
    *CALM,
    Deployment.redis_goes,
    Deployment.redis_comes_back,
    Deployment.history_is_lost,
    Deployment.history_is_trimmed,
)
TROUBLE = st.lists(st.integers(0, len(ACTIONS) - 1), max_size=60)
THEN_CALM = st.lists(st.integers(0, len(CALM) - 1), max_size=30)


def live(client: Follower, trouble: list[int], then: list[int]) -> None:
    """Go through trouble, and then let everything be well: from there on everything comes, and no gap is told."""
    world = Deployment(client)
    for number in trouble:
        ACTIONS[number](world)
    world.redis_comes_back()
    world.connect()
    while world.wire:
        world.read()
    assert world.owed == {stream: [] for stream in STREAMS}
    told = world.gaps
    for number in then:
        CALM[number](world)
    for stream in STREAMS:
        world.publish(stream)
    world.connect()
    while world.wire:
        world.read()
    assert world.owed == {stream: [] for stream in STREAMS}
    assert world.gaps == told


@pytest.mark.shows("nothing is missed in silence, and no gap is told once all is well")
@given(TROUBLE, THEN_CALM)
@settings(max_examples=500, deadline=None)
def test_the_python_client_misses_nothing_in_silence(trouble: list[int], then: list[int]) -> None:
    live(Python(), trouble, then)


@pytest.mark.shows("nothing is missed in silence, and no gap is told once all is well")
@given(TROUBLE, THEN_CALM)
@settings(max_examples=500, deadline=None)
def test_a_client_to_the_letter_misses_nothing_in_silence(trouble: list[int], then: list[int]) -> None:
    live(Letter(), trouble, then)
