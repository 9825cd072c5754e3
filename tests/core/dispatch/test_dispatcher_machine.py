"""Dispatch against chance: whatever comes and goes in whatever order, the promises hold."""

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from msgspec import Raw

from service.core.counters import Counters
from service.core.dispatch.dispatcher import Dispatcher, DispatchRules, Outcome, OutcomeKind, Request, Verdict, Worker
from service.core.dispatch.pools import STRATEGIES

from .dispatch_bench import NULL

QUEUE_LIMIT = 6
MAX_ATTEMPTS = 3
COMMANDS = ["echo", "sum", "slow"]


class Checking:
    """A worker's link that checks each request as it is sent."""

    def __init__(self, machine: "Dispatching") -> None:
        self.machine = machine
        self.worker: Worker | None = None
        self.sent: list[Request] = []
        self.cancelled: list[Request] = []

    def send_request(self, request: Request, deadline_ms: int) -> None:
        worker = request.worker
        assert worker is not None
        assert worker.alive
        assert worker.link is self
        assert request.direct or worker.serves(request.command)
        assert worker.outstanding <= worker.capacity
        assert request not in self.sent
        assert 1 <= deadline_ms <= request.timeout * 1000 + 1
        assert request.attempt <= MAX_ATTEMPTS
        assert request not in self.machine.finals
        self.sent.append(request)
        self.machine.sends[request] = self.machine.sends.get(request, 0) + 1
        assert self.machine.sends[request] == request.attempt
        if not request.idempotent or request.partial_sent:
            assert request.attempt == 1

    def send_cancel(self, request: Request) -> None:
        assert request in self.sent
        assert request not in self.cancelled
        self.cancelled.append(request)


class Counting:
    """A caller that checks that nothing follows a final answer."""

    trusted = False

    def __init__(self, machine: "Dispatching", party: str) -> None:
        self.machine = machine
        self.party = party

    def on_answer(self, request: Request, outcome: Outcome) -> None:
        machine = self.machine
        assert request.caller is self
        assert request not in machine.finals
        assert request not in machine.cancelled
        if outcome.partial:
            assert request.stream
            return
        machine.finals[request] = outcome
        sends = machine.sends.get(request, 0)
        if outcome.kind in (OutcomeKind.NO_WORKERS, OutcomeKind.BUSY):
            assert sends == 0
        if outcome.kind is OutcomeKind.LOST:
            assert sends > 0
        if outcome.kind is OutcomeKind.TIMEOUT:
            assert machine.time >= request.deadline


class Dispatching(RuleBasedStateMachine):
    workers = Bundle("workers")
    callers = Bundle("callers")
    requests = Bundle("requests")
    clients = Bundle("clients")

    @initialize(strategy=st.sampled_from(sorted(STRATEGIES)), seed=st.integers(0, 3))
    def begin(self, strategy: str, seed: int) -> None:
        self.time = 50.0
        self.counters = Counters()
        self.dispatcher = Dispatcher(
            DispatchRules(
                strategy=strategy,
                worker_timeout=10.0,
                queue_limit=QUEUE_LIMIT,
                max_attempts=MAX_ATTEMPTS,
                affinity_limit=3,
            ),
            now=lambda: self.time,
            random=Random(seed),
            counters=self.counters,
        )
        self.alive: list[Worker] = []
        self.submitted: list[Request] = []
        self.finals: dict[Request, Outcome] = {}
        self.cancelled: set[Request] = set()
        self.sends: dict[Request, int] = {}
        self.room_ever = 0

    @rule(target=callers, party=st.sampled_from(["10.0.0.1", "10.0.0.2"]))
    def caller_comes(self, party: str) -> Counting:
        return Counting(self, party)

    @rule(target=clients)
    def client_comes(self) -> Checking:
        return Checking(self)

    @rule(
        target=workers,
        name=st.sampled_from(["w1", "w2", "w3", None]),
        commands=st.none() | st.lists(st.sampled_from(COMMANDS), max_size=2),
        capacity=st.integers(0, 3),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
    )
    def join(self, name: str | None, commands: list[str] | None, capacity: int, weight: float) -> Worker:
        self.room_ever += capacity
        link = Checking(self)
        worker = self.dispatcher.add_worker(link, name, commands, capacity, weight)
        self.alive.append(worker)
        return worker

    @rule(worker=consumes(workers))
    def leave(self, worker: Worker) -> None:
        self.dispatcher.remove_worker(worker)
        self.alive.remove(worker)
        assert not worker.requests

    @rule(worker=workers, capacity=st.integers(0, 4))
    def change_capacity(self, worker: Worker, capacity: int) -> None:
        self.room_ever += capacity
        self.dispatcher.change_worker(worker, capacity=capacity)

    @rule(
        worker=workers,
        commands=st.none() | st.lists(st.sampled_from(COMMANDS), max_size=2),
        weight=st.sampled_from([None, 0.5, 2.0]),
    )
    def change_commands(self, worker: Worker, commands: list[str] | None, weight: float | None) -> None:
        self.dispatcher.change_worker(worker, commands=commands, weight=weight)

    @rule(
        target=requests,
        caller=callers,
        commands=st.lists(st.sampled_from(COMMANDS), min_size=1, max_size=5),
        timeout=st.sampled_from([None, 0.05, 1.0, 5.0]),
        stream=st.booleans(),
        affinity=st.sampled_from([None, None, "k1", "k2", "k3", "k4"]),
        idempotent=st.booleans(),
    )
    def submit(
        self,
        caller: Counting,
        commands: list[str],
        timeout: float | None,
        stream: bool,
        affinity: str | None,
        idempotent: bool,
    ) -> object:
        made = []
        for command in commands:
            waited = self.dispatcher.queue_length
            request = self.dispatcher.submit(
                caller,
                None,
                command,
                NULL,
                timeout=timeout,
                stream=stream,
                affinity=affinity,
                idempotent=idempotent,
            )
            made.append(request)
            self.submitted.append(request)
            assert self.dispatcher.queue_length <= max(waited, QUEUE_LIMIT)
        return multiple(*made)

    @rule(target=requests, caller=callers, client=clients, timeout=st.sampled_from([1.0, 5.0]))
    def ask(self, caller: Counting, client: Checking, timeout: float) -> Request:
        self.room_ever += 1
        request = self.dispatcher.ask_client(client, caller, None, "beep", NULL, timeout)
        self.submitted.append(request)
        return request

    @rule(client=consumes(clients))
    def abandon(self, client: Checking) -> None:
        self.dispatcher.forget_client(client)

    @rule(request=requests, success=st.booleans(), partial=st.booleans())
    def answer(self, request: Request, success: bool, partial: bool) -> None:
        worker = request.worker
        if worker is None:
            return
        sender = worker.link if request.direct else worker
        verdict = self.dispatcher.on_answer(
            sender, request.id, success=success or partial, result=Raw(b"1"), error=None, partial=partial
        )
        assert verdict is Verdict.ACCEPTED
        assert (request in self.finals) is not partial

    @rule(worker=workers, request=requests)
    def answer_anything(self, worker: Worker, request: Request) -> None:
        if request.worker is worker:
            return
        link = worker.link
        assert isinstance(link, Checking)
        verdict = self.dispatcher.on_answer(worker, request.id, success=True, result=NULL)
        assert verdict is not Verdict.ACCEPTED
        assert verdict is Verdict.UNKNOWN or request in link.sent

    @rule(request=requests)
    def cancel(self, request: Request) -> None:
        if request not in self.finals:
            self.cancelled.add(request)
        self.dispatcher.cancel_request(request)

    @rule(caller=consumes(callers))
    def caller_goes(self, caller: Counting) -> None:
        self.cancelled.update(
            request for request in self.submitted if request.caller is caller and request not in self.finals
        )
        self.dispatcher.cancel_requests_of(caller)

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.2, 6.0, 200.0]), tick=st.booleans())
    def time_passes(self, seconds: float, tick: bool) -> None:
        self.time += seconds
        if tick:
            self.dispatcher.expire_requests(self.time)
            for request in self.open():
                assert request.deadline > self.time - 0.11

    @rule()
    def clean_up(self) -> None:
        self.dispatcher.drop_statistics()

    def open(self) -> list[Request]:
        return [request for request in self.submitted if request not in self.finals and request not in self.cancelled]

    @invariant()
    def every_request_is_in_one_place(self) -> None:
        open_ones = self.open()
        waiting = [request for request in open_ones if request.worker is None]
        dispatcher = self.dispatcher
        assert len(waiting) == len(dispatcher._queue) == dispatcher.queue_length
        assert dispatcher.outstanding == len(open_ones) - len(waiting)
        assert len(dispatcher._requests._deadlines) == len(open_ones)
        for request in open_ones:
            assert not request.over
            assert (request.line is None) is (request.worker is not None)
            if request.worker is not None:
                assert request.worker.requests[request.id] is request
            else:
                assert any(worker.serves(request.command) for worker in self.alive)
        assert sum(map(len, dispatcher._requests._by_caller.values())) == len(open_ones)

    @invariant()
    def nobody_waits_for_a_worker_with_room(self) -> None:
        for request in self.open():
            if request.worker is None:
                for worker in self.alive:
                    if worker.outstanding < worker.capacity and worker.serves(request.command):
                        # Only those bound to another worker do.
                        assert isinstance(request.line, Worker)
                        assert request.line is not worker

    @invariant()
    def the_queue_is_bounded(self) -> None:
        assert self.dispatcher.queue_length <= QUEUE_LIMIT + self.room_ever
        assert len(self.dispatcher._affinity) <= 3

    @invariant()
    def what_is_counted_is_what_happened(self) -> None:
        assert sum(self.counters.requests.values()) == len(self.finals) + len(self.cancelled)
        assert self.counters.requests_retried == sum(number - 1 for number in self.sends.values())

    def teardown(self) -> None:
        if not hasattr(self, "dispatcher"):
            return
        self.time += 1000.0
        self.dispatcher.expire_requests(self.time)
        assert set(self.submitted) == set(self.finals) | self.cancelled
        dispatcher = self.dispatcher
        for table in (
            dispatcher._requests._by_caller,
            dispatcher._asked,
            dispatcher._requests._deadlines,
            dispatcher._queue,
        ):
            assert len(table) == 0
        for worker in self.alive:
            assert worker.outstanding == 0
            dispatcher.remove_worker(worker)
        dispatcher.drop_statistics()
        assert not dispatcher.worker_statuses()
        assert not dispatcher._gone
        assert len(dispatcher._affinity) == 0
        for name in ("_groups", "_by_command", "_for_all"):
            assert not getattr(dispatcher._pools, name)


Dispatching.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestDispatching = Dispatching.TestCase
