"""Requests across nodes against chance: nodes die, messages take their time, are lost or out of date, and the promises
hold all the same."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from msgspec import Raw

from service.core.dispatch.dispatcher import Outcome, OutcomeKind, Request, Worker

from .remote_bench import Deployment, Node

MAX_ATTEMPTS = 3
QUEUE_LIMIT = 4
COMMANDS = ["echo", "sum"]

some = st.integers(0, 1000)


class Checking:
    """A worker's link, which checks what it is sent. Requests are known by their data, on whatever node."""

    def __init__(self, machine: "Crossing", node: Node) -> None:
        self.machine = machine
        self.node = node

    def send_request(self, request: Request, deadline_ms: int) -> None:
        machine = self.machine
        worker = request.worker
        assert worker is not None
        assert worker.alive
        assert worker.serves(request.command)
        assert worker.outstanding <= worker.capacity
        number = int(bytes(request.data))
        machine.sends[number] = machine.sends.get(number, 0) + 1
        assert machine.sends[number] <= (MAX_ATTEMPTS if machine.idempotent[number] else 1)
        assert request.attempt <= MAX_ATTEMPTS
        assert deadline_ms <= 10_001

    def send_cancel(self, request: Request) -> None:
        pass


class Counting:
    """A caller, which checks that nothing follows a final answer."""

    trusted = False

    def __init__(self, machine: "Crossing", node: Node, party: str) -> None:
        self.machine = machine
        self.node = node
        self.party = party

    def on_answer(self, request: Request, outcome: Outcome) -> None:
        machine = self.machine
        number = int(bytes(request.data))
        assert number not in machine.finals
        assert number not in machine.cancelled
        assert not request.guest
        if outcome.partial:
            assert request.stream
            return
        machine.finals[number] = outcome.kind
        if outcome.kind is OutcomeKind.OK:
            assert machine.sends[number] > 0
            assert outcome.processed_by is not None
            assert outcome.data is not None
            assert bytes(outcome.data) == bytes(request.data)
        if outcome.kind in (OutcomeKind.NO_WORKERS, OutcomeKind.BUSY):
            assert number not in machine.sends
        if outcome.kind is OutcomeKind.NO_WORKERS and not request.affinity:  # a node that drains refuses no sooner
            assert not self.node.dispatcher.scheduler.pools.serves(request.command)
        if outcome.kind is OutcomeKind.LOST and machine.calm:
            sends = machine.sends.get(number, 0)
            once_only = request.partial_sent or not request.idempotent
            nobody_left = not self.node.dispatcher.scheduler.pools.serves(request.command)  # as far as it knows
            assert sends == MAX_ATTEMPTS or (sends and (once_only or nobody_left))
        if outcome.kind is OutcomeKind.TIMEOUT:
            assert self.node.time >= request.deadline


class Crossing(RuleBasedStateMachine):
    @initialize(count=st.integers(2, 4), rooms=st.lists(st.integers(1, 3), min_size=1, max_size=4))
    def begin(self, count: int, rooms: list[int]) -> None:
        self.deployment = Deployment(count, max_attempts=MAX_ATTEMPTS, queue_limit=QUEUE_LIMIT)
        self.nodes = self.deployment.nodes
        for node in self.nodes:
            node.cable.slow = True
        self.callers = [Counting(self, node, f"10.0.0.{number}") for node in self.nodes for number in range(2)]
        self.workers: list[tuple[Node, Worker]] = []
        self.requests: list[tuple[Node, Request]] = []
        self.idempotent: dict[int, bool] = {}
        self.sends: dict[int, int] = {}
        self.finals: dict[int, OutcomeKind] = {}
        self.cancelled: set[int] = set()
        self.calm = True  # no node has gone so far, and no message
        self.drained: set[Node] = set()
        for number, room in enumerate(rooms):  # the first node has none at first
            self.join(1 + number % (count - 1), f"w{number}", None, room)
        self.all_messages_arrive()

    @rule(
        at=some,
        name=st.sampled_from(["w1", "w2", "w3"]),
        commands=st.none() | st.lists(st.sampled_from(COMMANDS), max_size=2),
        capacity=st.integers(0, 3),
    )
    def join(self, at: int, name: str, commands: list[str] | None, capacity: int) -> None:
        node = self.nodes[at % len(self.nodes)]
        self.workers.append((node, node.dispatcher.add_worker(Checking(self, node), name, commands, capacity)))

    @precondition(lambda self: len(self.workers) > 2)
    @rule()
    def the_busiest_worker_leaves(self) -> None:
        one = max(self.workers, key=lambda one: len(one[1].requests))
        node, worker = one
        self.workers.remove(one)
        node.dispatcher.remove_worker(worker)

    @precondition(lambda self: self.workers)
    @rule(
        which=some,
        capacity=st.integers(0, 3),
        commands=st.just(False) | st.none() | st.lists(st.sampled_from(COMMANDS), max_size=2),
    )
    def change(self, which: int, capacity: int, commands: list[str] | bool | None) -> None:
        node, worker = self.workers[which % len(self.workers)]
        if isinstance(commands, bool):
            node.dispatcher.change_worker(worker, capacity=capacity)
        else:
            node.dispatcher.change_worker(worker, capacity=capacity, commands=commands)

    @rule(
        who=some,
        command=st.sampled_from(COMMANDS),
        many=st.integers(1, 5),
        timeout=st.sampled_from([0.3, 10.0, 10.0]),
        stream=st.booleans(),
        affinity=st.sampled_from([None, None, "k1", "k2"]),
        idempotent=st.booleans(),
    )
    def submit(
        self, who: int, command: str, many: int, timeout: float, stream: bool, affinity: str | None, idempotent: bool
    ) -> None:
        caller = self.callers[who % len(self.callers)]
        for _ in range(many):
            number = len(self.idempotent)
            self.idempotent[number] = idempotent
            request = caller.node.dispatcher.submit(
                caller,
                None,
                command,
                Raw(b"%d" % number),
                timeout=timeout,
                stream=stream,
                affinity=affinity,
                idempotent=idempotent,
            )
            self.requests.append((caller.node, request))

    @precondition(lambda self: any(worker.requests for _, worker in self.workers))
    @rule(which=some, success=st.booleans(), partial=st.booleans(), many=st.integers(1, 3))
    def answer(self, which: int, success: bool, partial: bool, many: int) -> None:
        for number in range(many):
            busy = [(node, worker) for node, worker in self.workers if worker.requests]
            if busy:
                node, worker = busy[(which + number) % len(busy)]
                request = next(iter(worker.requests.values()))
                node.dispatcher.on_answer(worker, request.id, success=success, result=request.data, partial=partial)

    @precondition(lambda self: self.requests)
    @rule(which=some)
    def cancel(self, which: int) -> None:
        node, request = self.requests[which % len(self.requests)]
        if not request.over:
            self.cancelled.add(int(bytes(request.data)))
        node.dispatcher.cancel_request(request)

    @rule(who=some)
    def caller_goes(self, who: int) -> None:
        caller = self.callers[who % len(self.callers)]
        for _, request in self.requests:
            if request.caller is caller and not request.over:
                self.cancelled.add(int(bytes(request.data)))
        caller.node.dispatcher.cancel_requests_of(caller)

    @rule(which=some, many=st.integers(1, 4))
    def a_message_arrives(self, which: int, many: int) -> None:
        for _ in range(many):
            self.run_deferred()
            ways = [(node, to) for node in self.nodes for to in node.cable.on_their_way]
            if ways:
                node, to = ways[which % len(ways)]
                node.cable.deliver(to)

    @rule()
    def all_messages_arrive(self) -> None:
        self.run_deferred()
        while ways := [(node, to) for node in self.nodes for to in node.cable.on_their_way]:
            for node, to in ways:
                node.cable.deliver(to)
            self.run_deferred()

    @rule(which=some)
    def a_message_is_lost(self, which: int) -> None:
        ways = [(node, to) for node in self.nodes for to in node.cable.on_their_way]
        if ways:
            self.calm = False
            node, to = ways[which % len(ways)]
            node.cable.on_their_way[to].popleft()
            if not node.cable.on_their_way[to]:
                del node.cable.on_their_way[to]

    @rule(
        how=st.sampled_from(["fine", "fine", "fine", "dies", "unseen", "unseen", "leaves", "leaves", "drains"]),
        which=some,
        other=st.integers(0, 3),
    )
    def something_happens_to_a_node(self, how: str, which: int, other: int) -> None:
        if how == "dies" and len(self.nodes) > 1:
            self.a_node_dies(which)
        elif how == "unseen":
            self.a_node_is_out_of_sight(which, other)
        elif how == "leaves":
            self.a_node_leaves(which, other)
        elif how == "drains":
            self.a_node_drains(which)

    def a_node_dies(self, which: int) -> None:
        self.calm = False
        dead = self.nodes.pop(which % len(self.nodes))
        dead.dies()
        self.workers = [(node, worker) for node, worker in self.workers if node is not dead]
        self.callers = [caller for caller in self.callers if caller.node is not dead]
        self.requests = [(node, request) for node, request in self.requests if node is not dead]
        # What it said last may arrive after it.
        for to in dead.cable.on_their_way:
            for receiver in self.nodes:
                while receiver.name == to and dead.cable.on_their_way[to]:
                    kind, body = dead.cable.on_their_way[to].popleft()
                    receiver.cluster_messages.on_message(dead.name, kind, body)

    def a_node_is_out_of_sight(self, which: int, other: int) -> None:
        self.calm = False
        node = self.nodes[which % len(self.nodes)]
        lost = self.nodes[other % len(self.nodes)]
        if node is not lost:
            node.cluster_messages.on_node_left(lost.name)

    def a_node_leaves(self, which: int, worker: int) -> None:
        node = self.nodes[which % len(self.nodes)]
        (state,) = (state for state in node.cable.nodes() if state.node == node.name)
        if not state.draining:
            node.cable.announce(state._replace(draining=True))
            node.dispatcher.leave()
            return
        of_it = [released for there, released in self.workers if there is node and released.alive]
        if of_it:
            node.dispatcher.release_worker(of_it[worker % len(of_it)])

    def a_node_drains(self, which: int) -> None:
        node = self.nodes[which % len(self.nodes)]
        self.drained.add(node)
        node.dispatcher.drain()

    @rule(seconds=st.sampled_from([0.02, 0.1, 0.1, 2.0, 9.0]))
    def time_passes(self, seconds: float) -> None:
        for node in self.nodes:
            node.time += seconds
            node.dispatcher.expire_requests(node.time)
            node.remote.tick()

    def run_deferred(self) -> None:
        for node in self.nodes:
            node.defer.run()
            assert node.broken == []

    def teardown(self) -> None:
        if not hasattr(self, "deployment"):
            return
        # Once everybody knows how things are, nobody waits while somebody could serve him.
        for _ in range(4):
            self.time_passes(2.0)
            self.all_messages_arrive()
        for _, request in self.requests:
            if not request.over and request.worker is None and request.affinity is None:
                for there, worker in self.workers:
                    if there not in self.drained and worker not in there.dispatcher.scheduler.stepped_back:
                        assert not (worker.serves(request.command) and worker.outstanding < worker.capacity)
        for _ in range(3):
            self.time_passes(20.0)
            self.all_messages_arrive()
        numbers = {int(bytes(request.data)) for _, request in self.requests}
        assert numbers <= set(self.finals) | self.cancelled
        for node in self.nodes:
            assert node.is_empty(), (node.name, node.tables(), node.remote.sent, len(node.remote.guests))
            assert sum(node.counters.requests.values()) == sum(there is node for there, _ in self.requests)


Crossing.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCrossing = Crossing.TestCase
