"""Clients to the letter, of two nodes' cores that share a real Redis, and the account of what each of them got.

A traveller connects, is cut, registers again and again, as this user and as that one, and reads what it was sent when
it comes to it. By `docs/reference/protocol.md` it knows what it has had; the account knows what was published, and says
what was lost without a word, what came twice, and what came out of order.
"""

import json
import random
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from msgspec import Raw

from portico.wire.faults import PeerFault
from portico.wire.messages import EVERYBODY, Event, Identity, Target, stream_of, targets_of
from service.core.cluster.backplane import Publication
from service.core.connections.session import Session
from service.core.reply import Reply
from tests.fakes import MemoryPeer, Stage
from tests.portico.client.letter import LetterClient

from .cores import shared_core

USERS: Final = ("u1", "u2")
CHANNEL: Final = "ch"
TARGETS: Final = (*(Target("user_id", user) for user in USERS), Target("channel_id", CHANNEL), EVERYBODY)
LAPSES: Final = 0.3
"""Seconds that some events are worth something."""
_TICK: Final = 0.02
_PREFIX: Final = "letters:"


@asynccontextmanager
async def core(url: str, name: str) -> AsyncIterator[Stage]:
    """One node's core, joined to the others; it ticks by itself."""
    house, plane, _ = shared_core(url, name, _PREFIX)

    async def tick() -> None:
        while True:
            await trio.sleep(_TICK)
            house.pass_time(0.1)
            house.defer.run()

    async with trio.open_nursery() as nursery:
        await nursery.start(plane.run)
        nursery.start_soon(tick)
        yield house
        nursery.cancel_scope.cancel()


class Published:
    """What is published, by stream: one event after the other, each until it is accepted, by any node. `mortal`: some
    lapse soon. `forgotten`: those that may come twice, since Redis lost what it knew while they were on their way."""

    def __init__(self, houses: Sequence[Stage], chance: random.Random, *, mortal: bool) -> None:
        self._houses = houses
        self._chance = chance
        self.mortal = mortal
        self.began: dict[str, list[int]] = {stream_of(target): [] for target in TARGETS}
        self.forgotten: set[int] = set()
        self.lapsing: set[int] = set()
        self._number = 0
        self._waiting: dict[Target, deque[int]] = {target: deque() for target in TARGETS}

    def publish(self, target: Target) -> int:
        """One event more; its number."""
        self._number += 1
        if self.mortal and self._chance.random() < 0.4:
            self.lapsing.add(self._number)
        self._waiting[target].append(self._number)
        return self._number

    @property
    def busy(self) -> bool:
        """Whether something is not accepted yet."""
        return any(self._waiting.values())

    def forget(self, *, all_of_it: bool = False) -> None:
        """Redis loses what it knew. `all_of_it`: of what it had accepted, too."""
        self.forgotten.update(waiting[0] for waiting in self._waiting.values() if waiting)
        if all_of_it:
            for numbers in self.began.values():
                self.forgotten.update(numbers)

    async def run(self, target: Target) -> None:
        """Publish what there is for one target, until cancelled."""
        chance = random.Random(self._chance.random())
        while True:
            if waiting := self._waiting[target]:
                self.began[stream_of(target)].append(waiting[0])
                answer: object = None
                while answer is None or isinstance(answer, PeerFault):
                    answer = await self._ask(target, waiting[0], chance.choice(self._houses))
                waiting.popleft()
            else:
                await trio.sleep(_TICK / 4)

    async def _ask(self, target: Target, n: int, house: Stage) -> object:
        answers: list[object] = []
        done = trio.Event()

        def answered(answer: object) -> None:
            answers.append(answer)
            done.set()

        ttl = LAPSES if n in self.lapsing else None
        event = Event("e", Raw(b'{"n":%d}' % n))
        publication = Publication(target, event, f"id-{n}", durable=True, ttl=ttl)
        house.gateway.backplane.publish(publication, Reply(answered))
        await done.wait()
        await trio.sleep(_TICK / 4)
        return answers[0]


class LetterTraveller:
    """One client. `since`: its streams, and of each the first event that it is owed; `faults`: what went wrong; `told`:
    how often it was told that something may be lost; `lines`: its story."""

    def __init__(self, name: str, published: Published, chance: random.Random) -> None:
        self.name = name
        self._published = published
        self._chance = chance
        self._letter = LetterClient(client_id=name, user_id=USERS[0], channel_id=CHANNEL)
        self._session: Session | None = None
        self._house: Stage
        self._peer: MemoryPeer
        self._read = 0
        self._asked = self._answers = 0
        self._connection = 0
        self._belonged: dict[str, int] = {}  # on which connection, last
        self._excused: dict[str, set[int]] = {stream: set() for stream in published.began}
        self.had: dict[str, list[int]] = {stream: [] for stream in published.began}
        self.since: dict[str, int] = {}
        self.told = 0
        self.faults: list[str] = []
        self.lines: list[str] = []

    @property
    def registered(self) -> bool:
        """Whether everything that it has asked for on its connection was answered."""
        return self._session is not None and 0 < self._asked == self._answers

    def connect(self, house: Stage, messages: int = 1, *, each_resumes: bool = False) -> None:
        """Come, and register so often in one segment; `each_resumes`: not the first alone says where it left off."""
        if self._session is not None:
            return
        self._house = house
        self._session, self._peer = house.connect("/ws")
        self._read = self._asked = self._answers = 0
        self._connection += 1
        first = self._letter.first_message()
        self.lines.append(f"connects to {house.gateway.backplane.node}")
        self._say(first)
        for _ in range(messages - 1):
            if self._chance.random() < 0.5:
                self._letter.identity["user_id"] = self._chance.choice(USERS)
            self._say(self._again() | ({"resume": first["resume"]} if each_resumes and "resume" in first else {}))

    def register(self, *, as_another: bool) -> None:
        """Register again, under another name or as another user."""
        if self._session is None or self._session.over:
            return
        if as_another:
            now = self._letter.identity["user_id"]
            self._letter.identity["user_id"] = USERS[now == USERS[0]]
        self._say(self._again())

    def cut(self) -> None:
        """What was not read is gone."""
        if self._session is not None:
            self.lines.append("is cut")
            self._house.close(self._session, 1006)
            self._session = None

    def read(self, messages: int) -> None:
        """Read so many messages, if there are."""
        while self._session is not None and messages and self._read < len(self._peer.frames):
            messages -= 1
            frame = self._peer.frames[self._read]
            self._read += 1
            self._on_message(json.loads(frame.payload))
        if self._session is not None and self._peer.closes and self._read == len(self._peer.frames):
            self.cut()

    def _again(self) -> dict[str, Any]:
        self._letter.identity["username"] = f"n{self._asked}"
        return {"type": "c_client_register", **self._letter.identity}

    def _say(self, message: dict[str, Any]) -> None:
        assert self._session is not None
        self.lines.append(f"says {json.dumps(message)}")
        self._asked += 1
        self._house.say(self._session, message)

    def _on_message(self, message: dict[str, Any]) -> None:
        self.lines.append(f"reads {json.dumps(message)}")
        before = len(self._letter.handled)
        self._letter.on_message(message)
        handled = self._letter.handled[before:]
        match message["type"]:
            case "registration_success":
                self._answers += 1
                self._on_registered(message["user_id"])
                self._on_told(handled)
            case "stream_gap":
                self._on_told(handled)
            case "e":
                if handled:
                    self._on_event(message["stream"], message["n"])
            case other:
                self.faults.append(f"{other}: {message}")

    def _on_registered(self, user_id: str) -> None:
        identity = Identity(self.name, user_id=user_id, channel_id=CHANNEL)
        began = self._published.began
        streams = [stream for target in targets_of(identity) if (stream := stream_of(target)) in began]
        for stream in streams:
            if stream not in self.since and self._belonged.get(stream, self._connection) != self._connection:
                # A stream that it left, and comes to on another connection, begins where that node is.
                self._excused[stream].update(self.had[stream])
            self._belonged[stream] = self._connection
        self.since = {stream: self.since.get(stream, len(began[stream])) for stream in streams}

    def _on_told(self, handled: Sequence[Any]) -> None:
        for streams in handled:
            self.told += 1
            for stream in set(streams) & set(self.since):
                self.since[stream] = len(self._published.began[stream])

    def _on_event(self, stream: str, n: int) -> None:
        had, forgotten = self.had[stream], self._published.forgotten
        if n in had:
            if n not in self._excused[stream] and n not in forgotten:
                self.faults.append(f"{n} came twice in {stream}")
            return
        if had and n < had[-1] and not {n, had[-1]} & forgotten:
            self.faults.append(f"{n} came after {had[-1]} in {stream}")
        for missing in self._published.began[stream][self.since.get(stream, 1 << 60) :]:
            if missing >= n:
                break
            if missing not in had and missing not in self._published.lapsing:
                self.faults.append(f"{missing} was lost in silence in {stream}, before {n}")
                had.append(missing)
        had.append(n)
