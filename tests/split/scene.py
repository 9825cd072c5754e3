"""What the accounts of outages share: the crowd that resumes, the publishers, and what is asked of nodes meanwhile."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tests.adversity.crowd import Crowd
from tests.adversity.scene import sized

from .account import Account, PublishingThread, Resumer, draw_up, finish, publish, settled
from .deployment import NodeProcess, SplitDeployment
from .errands import CrowdRequester, CrowdWorker, Errands
from .errands import draw_up as draw_up_errands

CLIENTS: Final = sized(300, 2000)
USERS: Final = sized(61, 401)
"""An odd number: the clients of a user are on all nodes."""
RATE: Final = float(sized(100, 300))


class Scene:
    """A deployment with its clients, to whom is published all the time. `account` is there at the end."""

    def __init__(
        self, parts: SplitDeployment, crowd: Crowd, clients: Sequence[Resumer], publishers: Sequence[PublishingThread]
    ) -> None:
        self.parts = parts
        self.crowd = crowd
        self.clients = clients
        self.publishers = publishers
        self.account = Account()
        self.requests = Errands()
        self._asked: tuple[CrowdRequester, CrowdWorker, Counter[int]] | None = None
        self.forgotten = False
        """Set it where Redis was made to forget what it knew."""

    def ask(self) -> None:
        """A worker on a node, and a requester on the same that asks it ten times a second: every request has to be
        answered, and rightly, whatever happens to Redis."""
        address = self.parts.nodes[0].address
        given: Counter[int] = Counter()
        worker = CrowdWorker(self.crowd, lambda: [address], 1, given)
        worker.come()
        requester = self.crowd.join(CrowdRequester(self.crowd, 10), address=address)
        self.crowd.until(lambda: requester.let_in and worker.registered, 10, "worker and requester are there")
        requester.probe()
        self.crowd.until(lambda: requester.found, 10, "there is a worker")
        requester.begin()
        self._asked = (requester, worker, given)

    def finish_asking(self) -> None:
        """Ask no more, and draw up the account of `requests`."""
        if self._asked is not None:
            requester, worker, given = self._asked
            requester.stop()
            self.crowd.until(lambda: requester.settled, 40, "everything is answered")
            worker.stays = False
            self.requests = draw_up_errands(requester, [worker], given)

    @property
    def closed(self) -> int:
        """How often a client has lost its connection."""
        return sum(len(client.codes) for client in self.clients)

    @property
    def told(self) -> int:
        """How often a client was told of a loss."""
        return sum(len(client.told) for client in self.clients)

    def pump(self, seconds: float) -> None:
        """Let things happen for so long."""
        self.crowd.pump(seconds)

    def all_registered(self) -> None:
        """Until every client is there."""
        self.crowd.until(lambda: all(client.registered for client in self.clients), 30, "everybody is there")

    def until_probed(self, status: int, seconds: float, nodes: Sequence[NodeProcess] | None = None) -> float:
        """Until `/readyz` of these nodes (all) has this status. Returns how long it took."""
        waiting = list(self.parts.all if nodes is None else nodes)
        began = time.monotonic()
        while waiting:
            took = time.monotonic() - began
            assert took < seconds, f"{[node.name for node in waiting]} not {status} in {seconds} s"
            waiting = [node for node in waiting if node.probe() != status]
            self.crowd.pump(0.05)
        return time.monotonic() - began

    def until_accepted(self) -> float:
        """Until a push that is not one of the publishers' is accepted. Returns how long it took."""
        began = time.monotonic()
        while push(self.parts.api, {"client_id": "nobody"})[0] != 202:
            assert time.monotonic() - began < 60, "nothing is accepted"
            self.crowd.pump(0.05)
        return time.monotonic() - began


@contextmanager
def scene(
    parts: SplitDeployment,
    *,
    clients: int = CLIENTS,
    users: int = USERS,
    rate: float = RATE,
    requests: bool = False,
    hasty: bool = False,
) -> Iterator[Scene]:
    """Clients on all nodes, and publishing, while the block runs. Then whatever was accepted has to be with everybody
    that it was for, once, or they were told: AssertionError if not.

    `hasty`: every client registers twice in one segment, each time that it comes. `requests`: a worker and a requester
    on the first node, which is not to be killed: each request has to succeed.
    """
    for node in parts.all:
        node.wait_ready(20)
    names = [f"u{number}" for number in range(users)]
    with Crowd(parts.nodes[0].address) as crowd:
        resumers = [
            Resumer(crowd, lambda: [node.address for node in parts.nodes], number, names[number % users], hasty=hasty)
            for number in range(clients)
        ]
        for resumer in resumers:
            resumer.come()
        here = Scene(parts, crowd, resumers, [])
        here.all_registered()
        here.publishers = publish(parts.api.address, names, rate)
        crowd.pump(0.5)
        if requests:
            here.ask()
        yield here
        finish(crowd, here.publishers)
        here.finish_asking()
        crowd.until(lambda: settled(resumers, here.publishers), 20, f"everybody has everything: {_behind(here)}")
        crowd.pump(0.5)
        for resumer in resumers:
            resumer.stays = False
        here.account = draw_up(resumers, here.publishers, forgotten=here.forgotten)
        assert here.account.clean, f"\n{here.account}\n{here.account.examples}"
        assert here.account.sent > 0
        assert here.requests.clean, f"\n{here.requests}\n{here.requests.examples[:5]}"
        assert here.requests.given_up == 0
        assert not requests or here.requests.answered > 0


def _behind(here: Scene) -> str:
    return f"{sum(client.registered for client in here.clients)} of {len(here.clients)} are there"


def push(node: NodeProcess, target: object, **fields: object) -> tuple[int, Any, float]:
    """POST /api/notifications: the status, what was answered, and the seconds that it took."""
    return call(node, "POST", "/api/notifications", {"target": target, "type": "ping", "data": {}, **fields})


def call(node: NodeProcess, method: str, path: str, body: object = None) -> tuple[int, Any, float]:
    """A call of a node's HTTP API: the status, the JSON that was answered, and the seconds that it took."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(*node.address, timeout=60)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
    finally:
        connection.close()
    return answer.status, json.loads(said), time.monotonic() - began
