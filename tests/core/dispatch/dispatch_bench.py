"""A dispatcher with everything around it in sight: a clock to be moved, links and callers that write down."""

from collections.abc import Iterable
from random import Random

from msgspec import Raw

from service.core.counters import Counters
from service.core.dispatch.dispatcher import Dispatcher, DispatchRules, Outcome, Request, Verdict, Worker

NULL = Raw(b"null")


class Link:
    """A worker's connection: what it was sent, in order."""

    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.deadlines: list[int] = []
        self.attempts: list[int] = []
        self.cancelled: list[Request] = []

    def send_request(self, request: Request, deadline_ms: int) -> None:
        self.sent.append(request)
        self.deadlines.append(deadline_ms)
        self.attempts.append(request.attempt)

    def send_cancel(self, request: Request) -> None:
        self.cancelled.append(request)

    @property
    def tokens(self) -> list[str | None]:
        return [request.token for request in self.sent]


class Someone:
    """A caller: the answers it got, in order. `party`: whom it counts for; a party of its own, if none is given."""

    def __init__(self, party: str | None = None) -> None:
        self.party = f"somebody {id(self)}" if party is None else party
        self.trusted = False
        self.answers: list[tuple[Request, Outcome]] = []

    def on_answer(self, request: Request, outcome: Outcome) -> None:
        self.answers.append((request, outcome))

    @property
    def told(self) -> list[tuple[str | None, str]]:
        """Token, and the error or the data's JSON text, of each answer."""
        return [
            (request.token, outcome.error if outcome.error is not None else bytes(outcome.data or b"").decode())
            for request, outcome in self.answers
        ]


class Bench:
    """A dispatcher and its clock."""

    def __init__(
        self,
        strategy: str = "round_robin",
        queue_limit: int = 1000,
        max_attempts: int = 3,
        affinity_limit: int = 100_000,
        queue_bytes: int = 1 << 30,
        max_timeout: float = 1e9,
    ) -> None:
        self.time = 1000.0
        self.counters = Counters()
        self.dispatcher = Dispatcher(
            DispatchRules(
                strategy=strategy,
                queue_limit=queue_limit,
                max_attempts=max_attempts,
                affinity_limit=affinity_limit,
                queue_bytes=queue_bytes,
                max_timeout=max_timeout,
            ),
            now=lambda: self.time,
            random=Random(5),
            counters=self.counters,
        )

    def worker(
        self,
        name: str,
        commands: Iterable[str] | None = None,
        capacity: int | None = None,
        weight: float | None = None,
    ) -> tuple[Worker, Link]:
        link = Link()
        return self.dispatcher.add_worker(link, name, commands, capacity, weight), link

    def submit(
        self,
        caller: Someone,
        token: str,
        command: str = "echo",
        timeout: float | None = None,
        stream: bool = False,
        affinity: str | None = None,
        idempotent: bool = True,
    ) -> Request:
        return self.dispatcher.submit(
            caller,
            token,
            command,
            NULL,
            timeout=timeout,
            stream=stream,
            affinity=affinity,
            idempotent=idempotent,
        )

    def done(self, worker: Worker, request: Request, result: bytes = b'"done"') -> Verdict:
        return self.dispatcher.on_answer(worker, request.id, success=True, result=Raw(result))

    def part(self, worker: Worker, request: Request, result: bytes = b'"part"') -> Verdict:
        return self.dispatcher.on_answer(worker, request.id, success=True, result=Raw(result), partial=True)

    def passes(self, seconds: float) -> None:
        self.time += seconds
        self.dispatcher.expire_requests(self.time)

    def tables(self) -> dict[str, int]:
        """How much is in the tables that must be empty when nothing is under way."""
        d = self.dispatcher
        return {
            "asked": len(d._asked),
            "by caller": len(d._requests._by_caller),
            "queue": len(d._queue),
            "queue's tables": not d._queue.is_empty,
            "deadlines": len(d._requests._deadlines),
            "at workers": sum(worker.outstanding for worker in d._workers),
        }

    def is_empty(self) -> bool:
        return not any(self.tables().values())


def serve(bench: Bench, worker: Worker, link: Link, number: int) -> list[str | None]:
    """Let the worker answer what it has, one after the other; the tokens it is sent meanwhile."""
    before = len(link.sent)
    for _ in range(number):
        request = next(iter(worker.requests.values()), None)
        if request is None:
            break
        bench.done(worker, request)
    return link.tokens[before:]
