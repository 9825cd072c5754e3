"""The account of requests: what requesters asked, what they were answered, and how often workers were given it.

Workers come back to another of their nodes when they lose theirs. Requesters stay with one. A request that may be sent
again (`idempotent`) has to be answered, whatever happens to the node of its worker; one that may not is answered too,
maybe by `Worker lost`, and is given to a worker once at most.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.adversity.crowd import Client, Crowd
from tests.transports.raw import Address

_COME_BACK: Final = (0.05, 0.3)
_ONCE: Final = 10
"""Of so many requests one may not be sent again."""


@dataclass
class Errands:
    """The figures. `failed` are idempotent requests that were answered by an error; `wrong`, answers that belong to
    something else, or came twice."""

    asked: int = 0
    answered: int = 0
    failed: int = 0
    given_up: int = 0
    moved: int = 0
    repeated: int = 0
    wrong: int = 0
    unanswered: int = 0
    slowest: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Every request was answered once, and what may not be done twice was not."""
        return not (self.failed or self.repeated or self.wrong or self.unanswered)

    def __str__(self) -> str:
        rows = (
            ("requests asked", self.asked),
            ("answered", self.answered),
            ("moved to another worker", self.moved),
            ("not idempotent, and lost with a worker", self.given_up),
            ("not idempotent, and done twice", self.repeated),
            ("idempotent, and failed", self.failed),
            ("answered wrongly, or twice", self.wrong),
            ("not answered", self.unanswered),
        )
        lines = [f"  {name:<40}{number:>10,}" for name, number in rows]
        return "\n".join([*lines, f"  {'slowest answer, seconds':<40}{self.slowest:>10.2f}"])


class CrowdWorker:
    """A worker that answers `echo`, after some tenths of a second. `given`: how often which request came."""

    def __init__(
        self, crowd: Crowd, addresses: Callable[[], Sequence[Address]], number: int, given: Counter[int]
    ) -> None:
        self._crowd = crowd
        self._addresses = addresses
        self._turn = number
        self._link: _WorkerLink | None = None
        self.number = number
        self.given = given
        self.moved = 0
        self.stays = True

    @property
    def registered(self) -> bool:
        """Whether it is at work."""
        return self._link is not None and self._link.registered and not self._link.ended

    def come(self) -> None:
        """Connect, to the next of its nodes."""
        addresses = self._addresses()
        address = addresses[self._turn % len(addresses)]
        self._turn += 1
        self._link = self._crowd.join(_WorkerLink(self._crowd, self), address=address)

    def asked(self, link: "_WorkerLink", message: dict[str, Any]) -> None:
        """Do what is asked."""
        number = message["data"]["params"]["n"]
        request = message["data"]["request"]
        self.given[number] += 1
        self.moved += request["attempt"] == 2
        answer = {"request_id": request["id"], "success": True, "result": number, "error": None}
        said = {"type": "response", "msg_id": message["msg_id"], "timestamp": time.time(), "data": answer}
        self._crowd.later(random.uniform(0.1, 0.4), lambda: link.say(said))

    def gone(self) -> None:
        """Its connection is over."""
        if self.stays:
            self._crowd.later(random.uniform(*_COME_BACK), self.come)


class _WorkerLink(Client):
    """One connection of a CrowdWorker's."""

    __slots__ = ("_of",)

    def __init__(self, crowd: Crowd, of: CrowdWorker) -> None:
        data = {"client_id": f"w{of.number}", "role": "worker", "commands": ["echo"], "capacity": 16}
        super().__init__(crowd, json.dumps({"type": "connect", "msg_id": "m1", "data": data}), "/worker")
        self._of = of

    def on_text(self, payload: bytes) -> None:
        """One message."""
        super().on_text(payload)
        message = json.loads(payload)
        if message["type"] == "request":
            self._of.asked(self, message)

    def on_end(self) -> None:
        """It is over."""
        super().on_end()
        self._of.gone()


class CrowdRequester(Client):
    """Asks `rate` times a second from `begin` until `stop`; `probe` finds out whether there are workers."""

    __slots__ = ("_number", "_pause", "answers", "asked_at", "found", "moments", "stopped")

    def __init__(self, crowd: Crowd, rate: float) -> None:
        super().__init__(crowd, path="/requester")
        self._pause = 1 / rate
        self._number = 0
        self.asked_at: dict[int, float] = {}
        self.answers: dict[int, list[dict[str, Any]]] = {}
        self.moments: dict[int, float] = {}
        self.found = False
        self.stopped = False

    def probe(self) -> None:
        """Ask until a worker answers: then `found` is set. What is asked so is in no account."""
        if not self.found and not self.ended:
            self.say({"request_id": "0", "command": "echo", "data": {"n": 0}})
            self.crowd.later(0.1, self.probe)

    def begin(self) -> None:
        """Ask, and go on asking."""
        if self.stopped or self.ended:
            return
        self._number += 1
        number = self._number
        self.asked_at[number] = time.monotonic()
        question = {"request_id": str(number), "command": "echo", "data": {"n": number}}
        self.say(question if _may_repeat(number) else {**question, "idempotent": False})
        self.crowd.later(self._pause, self.begin)

    def stop(self) -> None:
        """Ask no more."""
        self.stopped = True

    @property
    def settled(self) -> bool:
        """Whether everything is answered."""
        return len(self.answers) == len(self.asked_at)

    def on_text(self, payload: bytes) -> None:
        """An answer."""
        super().on_text(payload)
        answer = json.loads(payload)
        number = int(answer["request_id"])
        if not number:
            self.found = self.found or answer["success"]
            return
        self.moments[number] = time.monotonic()
        self.answers.setdefault(number, []).append(answer)


def _may_repeat(number: int) -> bool:
    return bool(number % _ONCE)


def draw_up(requester: CrowdRequester, workers: Sequence[CrowdWorker], given: Counter[int]) -> Errands:
    """The account of one requester's requests; `given` says how often each reached a worker."""
    account = Errands(asked=len(requester.asked_at), moved=sum(worker.moved for worker in workers))
    for number, at in requester.asked_at.items():
        answers = requester.answers.get(number, [])
        account.unanswered += not answers
        account.wrong += max(0, len(answers) - 1)
        for answer in answers[:1]:
            account.slowest = max(account.slowest, requester.moments[number] - at)
            if answer["success"]:
                account.answered += 1
                account.wrong += answer["data"] != number
            elif _may_repeat(number):
                account.failed += 1
                account.examples.append(f"{number}: {answer['error']}")
            else:
                account.given_up += 1
        account.repeated += not _may_repeat(number) and given[number] > 1
    return account
