"""The account: what was accepted, and what of it each client got, live or replayed, once, in order.

Publishers push durable events with ids, and push again under the same id whatever was not accepted. Clients come back
to another node as soon as they lose theirs, and say where they left off. At the end everything that was accepted must
be with everybody that it was for: what is missing without the client having been told so is *lost*, what came a second
time is *doubled*, what came before something older is *out of order*. (Events are numbered by their publisher, so a
user has one publisher only.)
"""

import http.client
import json
import queue
import random
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any, Final

from tests.adversity.crowd import Client, Crowd
from tests.transports.raw import TEXT, Address, frame

_COME_BACK: Final = (0.05, 0.5)
_RETRY: Final = 0.1
_publishers: Final = count()


@dataclass
class Account:
    """The figures. `sent` events were accepted, each for one user; `expected` deliveries follow from them."""

    sent: int = 0
    refused: int = 0
    expected: int = 0
    delivered: int = 0
    replayed: int = 0
    lost: int = 0
    doubled: int = 0
    forgotten: int = 0
    disordered: int = 0
    told_lost: int = 0
    reconnected: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing lost in silence, nothing doubled, nothing out of order."""
        return not (self.lost or self.doubled or self.disordered)

    def __str__(self) -> str:
        rows = (
            ("events sent (accepted)", self.sent),
            ("refused with 503, and sent again", self.refused),
            ("deliveries expected", self.expected),
            ("delivered live", self.delivered - self.replayed),
            ("replayed to clients that came back", self.replayed),
            ("clients told that something is lost", self.told_lost),
            ("clients that came back", self.reconnected),
            ("sent twice, since Redis forgot the first", self.forgotten),
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("out of order", self.disordered),
        )
        return "\n".join(f"  {name:<40}{number:>10,}" for name, number in rows)


class Resumer:
    """A client that comes back: to the next of `addresses`, from where it left off.

    `hasty`: it registers a second time before the first is answered, with a user name that it loaded late.
    """

    def __init__(
        self, crowd: Crowd, addresses: Callable[[], Sequence[Address]], number: int, user: str, *, hasty: bool = False
    ) -> None:
        self._crowd = crowd
        self._addresses = addresses
        self._client: _Connection | None = None
        self._turn = number
        self.number = number
        self.hasty = hasty
        self.user = user
        self.stream = f"user:{user}"
        self.registered = False
        self.stays = True
        self.epoch: str | None = None
        self.offset = 0
        self.got: list[tuple[int, int, int]] = []  # offset, event, registration after which it came
        self.registered_at: list[float] = []  # by registration
        self.answers = 0  # to what it said on its connection
        self.told: list[tuple[int, float]] = []  # each time that it was told of a loss: how much it had got, and when
        self.codes: list[int] = []

    def come(self) -> None:
        """Connect, to another node than the last time."""
        self._turn += 1
        self.answers = 0
        addresses = self._addresses()
        self._client = self._crowd.join(_Connection(self._crowd, self), address=addresses[self._turn % len(addresses)])

    def leave(self) -> None:
        """Hang up, rudely, and come back."""
        if self._client is not None:
            self._client.hang_up(reset=True)

    def first(self) -> dict[str, Any]:
        """What it says first."""
        message: dict[str, Any] = {
            "type": "c_client_register",
            "client_id": f"c{self.number}",
            "user_id": self.user,
        }
        if self.epoch is not None:
            message["resume"] = {"epoch": self.epoch, "offsets": {self.stream: self.offset}}
        return message

    def second(self) -> dict[str, Any]:
        """What it says in the same segment, if it is hasty."""
        return {"type": "c_client_register", "client_id": f"c{self.number}", "user_id": self.user, "username": "ann"}

    def heard(self, message: dict[str, Any]) -> None:
        """One message of the gateway's."""
        kind = message.get("type")
        if kind == "registration_success":
            self.registered = True
            self.registered_at.append(time.monotonic())
            self.answers += 1
            resume = message["resume"]
            if not resume["recovered"] and self.epoch is not None:
                self.told.append((len(self.got), time.monotonic()))
            if self.stream in resume["offsets"]:
                if self.epoch != resume["epoch"] or not resume["recovered"]:
                    self.offset = resume["offsets"][self.stream]
                self.epoch = resume["epoch"]
        elif kind == "stream_gap":
            self.told.append((len(self.got), time.monotonic()))
            # From here on it goes on, and this is what it keeps.
            self.epoch = message.get("epoch", self.epoch)
            self.offset = message.get("offsets", {}).get(self.stream, self.offset)
        elif message.get("stream") == self.stream:
            offset = message["offset"]
            self.got.append((offset, message["n"], len(self.registered_at) - 1))
            self.offset = max(self.offset, offset)

    def gone(self, code: int) -> None:
        """Its connection is over."""
        self.codes.append(code)
        self.registered = False
        if self.stays:
            self._crowd.later(random.uniform(*_COME_BACK), self.come)


class _Connection(Client):
    """One connection of a Resumer's."""

    __slots__ = ("_of",)

    def __init__(self, crowd: Crowd, of: Resumer) -> None:
        super().__init__(crowd, path="/ws")
        self._of = of

    def on_let_in(self) -> None:
        """Register, once or twice."""
        messages = [self._of.first(), *([self._of.second()] if self._of.hasty else [])]
        self.send(b"".join(frame(TEXT, json.dumps(message).encode()) for message in messages))

    def on_text(self, payload: bytes) -> None:
        """One message."""
        super().on_text(payload)
        self._of.heard(json.loads(payload))

    def on_end(self) -> None:
        """It is over."""
        super().on_end()
        self._of.gone(self.code)


class PublishingThread(threading.Thread):
    """Pushes durable events to users in turn, `rate` a second, until it is told to stop; each until it is accepted."""

    def __init__(self, address: Address, users: Sequence[str], rate: float, prefix: str = "e") -> None:
        super().__init__(daemon=True)
        self._address = address
        self._users = users
        self._pause = 1 / rate
        self._prefix = prefix
        self._enough = threading.Event()
        self._faults: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.accepted: dict[str, list[int]] = {user: [] for user in users}
        self.refused = 0
        self.tried_again: set[int] = set()
        self.began: dict[int, float] = {}  # when each was sent first
        self.slowest = 0.0

    def stop(self) -> None:
        """Send no more, once what is under way was accepted."""
        self._enough.set()

    def finish(self, seconds: float = 60.0) -> None:
        """Stop, and wait for it. AssertionError if something was answered that should not be."""
        self.stop()
        self.join(seconds)
        assert not self.is_alive(), "the publisher does not get its last event accepted"
        assert self._faults.empty(), self._faults.get()

    def run(self) -> None:
        """The thread's work."""
        connection: http.client.HTTPConnection | None = None
        number = 0
        while not self._enough.is_set():
            user = self._users[number % len(self._users)]
            number += 1
            body = json.dumps(
                {
                    "target": {"user_id": user},
                    "type": "counted",
                    "data": {"n": number},
                    "id": f"{self._prefix}-{number}",
                    "durable": True,
                }
            )
            began = self.began[number] = time.monotonic()
            while True:
                try:
                    if connection is None:
                        connection = http.client.HTTPConnection(*self._address, timeout=60)
                    connection.request("POST", "/api/notifications", body, {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    said = answer.read()
                except (OSError, http.client.HTTPException):
                    if connection is not None:
                        connection.close()
                    connection = None
                    self.refused += 1
                else:
                    if answer.status == 202:
                        break
                    self.refused += 1
                    if answer.status != 503:
                        self._faults.put(f"{answer.status}: {said[:300]!r}")
                        return
                self.tried_again.add(number)
                time.sleep(_RETRY)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.accepted[user].append(number)
            time.sleep(self._pause)
        if connection is not None:
            connection.close()


def settled(clients: Sequence[Resumer], publishers: Sequence[PublishingThread]) -> bool:
    """Whether everybody has the last event of its user, or was told of a loss after everything that it has."""
    last = {user: (numbers[-1], one) for one in publishers for user, numbers in one.accepted.items() if numbers}
    for client in clients:
        if not client.registered:
            return False
        if client.user not in last:
            continue
        event, publisher = last[client.user]
        if any(event == got for _, got, _ in client.got[-3:]):
            continue
        if not _excused(client, len(client.got), publisher.began[event]):
            return False
    return True


def _excused(client: Resumer, place: int, began: float) -> bool:
    """Whether a client was told that something is lost where it misses an event, and after that was sent first: what
    is lost later is not what it was told of."""
    return any(there == place and at >= began for there, at in client.told)


def publish(address: Address, users: Sequence[str], rate: float, threads: int = 4) -> list[PublishingThread]:
    """Publishers that are at work, each for a part of the users; `rate` events a second of all of them, if they can."""
    parts = [part for number in range(threads) if (part := users[number::threads])]
    # What was published before under the same ids would not be published again.
    publishers = [PublishingThread(address, part, rate / threads, f"{next(_publishers)}-e") for part in parts]
    for publisher in publishers:
        publisher.start()
    return publishers


def finish(crowd: Crowd, publishers: Sequence[PublishingThread]) -> None:
    """Let everything that is under way be accepted, and nothing more be sent. The crowd goes on meanwhile."""
    for publisher in publishers:
        publisher.stop()
    crowd.until(lambda: not any(publisher.is_alive() for publisher in publishers), 60, "all of it is accepted")
    for publisher in publishers:
        publisher.finish()


def draw_up(clients: Sequence[Resumer], publishers: Sequence[PublishingThread], *, forgotten: bool = False) -> Account:
    """The account of what these publishers sent and these clients got. `forgotten`: Redis has lost what it knew, ids
    too, so what was tried again then may have come twice."""
    account = Account()
    again = {(user, n) for one in publishers for user in one.accepted for n in one.tried_again} if forgotten else ()
    account.sent = sum(len(numbers) for publisher in publishers for numbers in publisher.accepted.values())
    account.refused = sum(publisher.refused for publisher in publishers)
    for client in clients:
        began = {n: one.began[n] for one in publishers for n in one.accepted.get(client.user, [])}
        accepted = list(began)
        account.expected += len(accepted)
        account.delivered += len(client.got)
        account.replayed += sum(began[n] < client.registered_at[turn] for _, n, turn in client.got if n in began)
        account.told_lost += len(client.told)
        account.reconnected += max(0, len(client.registered_at) - 1)
        offsets = [offset for offset, _, _ in client.got]
        events = [event for _, event, _ in client.got]
        doubled = [n for n, times in Counter(events).items() if times > 1]
        excused = [n for n in doubled if (client.user, n) in again]
        account.doubled += len(doubled) - len(excused)
        account.forgotten += len(excused)
        account.disordered += sum(later <= earlier for earlier, later in pairwise(offsets))
        # A loss excuses what is missing at the place where the client was told of it, and nothing else.
        missing = [
            n for n in sorted(set(accepted) - set(events)) if not _excused(client, bisect_left(events, n), began[n])
        ]
        account.lost += len(missing)
        if (len(doubled) > len(excused) or missing) and len(account.examples) < 5:
            account.examples.append(
                f"{client.stream}: missing {missing[:10]}, doubled {doubled[:10]}, "
                f"told {[place for place, _ in client.told]}, "
                f"closed with {client.codes[-10:]}, of what is doubled (offset, number, registration): "
                f"{[one for one in client.got if one[1] in doubled[:10]]}, around it {_around(client, doubled[:1])}"
            )
    return account


def _around(client: Resumer, doubled: Sequence[int]) -> list[tuple[int, int, int]]:
    places = [place for place, one in enumerate(client.got) if one[1] in doubled]
    return client.got[max(0, places[0] - 3) : places[-1] + 4] if places else []
