"""A deployment that loses a node and its Redis while everybody goes on, and the accounts of what became of it all.

One API node, three WebSocket nodes, a Redis that keeps an append-only file: real processes. Clients resume, a publisher
pushes durable events to them by the API node, workers answer on two of the nodes what a requester asks on the third. In
the middle a node with clients and workers is killed and started again, and then Redis. What stays is to be counted.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.adversity.crowd import Crowd

from . import errands
from .account import Account, Resumer, draw_up, finish, publish, settled
from .deployment import deployment
from .errands import CrowdRequester, CrowdWorker, Errands


@dataclass
class Accounts:
    """Both accounts."""

    events: Account
    requests: Errands
    refused_without_node: int
    """Pushes that were refused while one of the nodes was dead."""
    unready_without_node: int
    """How often another node was found not to be ready meanwhile."""

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing doubled, nothing that should not be."""
        return self.events.clean and self.requests.clean

    def __str__(self) -> str:
        examples = [f"  ! {example}" for example in (*self.events.examples, *self.requests.examples[:5])]
        return "\n".join(["events", str(self.events), "", "requests", str(self.requests), *examples])


def demonstrate(
    folder: Path,
    *,
    clients: int = 300,
    users: int = 50,
    rate: float = 200.0,
    leg: float = 4.0,
    say: Callable[[str], None] = lambda line: None,
) -> Accounts:
    """Run it: five legs of `leg` seconds each, with `rate` events a second. `say` is told what happens."""
    names = [f"u{number}" for number in range(users)]
    say("starting redis-server, an API node and three WebSocket nodes …")
    with deployment(folder) as parts, Crowd(parts.nodes[0].address) as crowd:
        killed, _, asked = parts.nodes
        given: Counter[int] = Counter()

        def doors() -> list[tuple[str, int]]:
            return [node.address for node in parts.nodes]

        resumers = [Resumer(crowd, doors, number, names[number % users]) for number in range(clients)]
        workers = [CrowdWorker(crowd, lambda: doors()[:2], number, given) for number in range(4)]
        requester = crowd.join(CrowdRequester(crowd, rate / 2), address=asked.address)
        everybody: list[Resumer | CrowdWorker] = [*resumers, *workers]
        for member in everybody:
            member.come()
        crowd.until(lambda: requester.let_in and all(one.registered for one in everybody), 30, "everybody is there")
        requester.probe()
        crowd.until(lambda: requester.found, 10, "the requester has found a worker")
        say(f"{clients} clients, {len(workers)} workers on two nodes, a requester on the third")
        publishers = publish(parts.api.address, names, rate)
        requester.begin()
        say(f"publishing {rate:g} durable events a second, asking {rate / 2:g} requests a second")
        crowd.pump(leg)

        say(f"kill -9 of {killed.name}, with a third of the clients and half of the workers on it")
        killed.kill()
        unready = 0
        for _ in range(4):
            crowd.pump(leg / 4)
            unready += sum(node.probe() != 200 for node in parts.all if node is not killed)
        refused = sum(publisher.refused for publisher in publishers)
        killed.start()
        crowd.until(lambda: killed.probe() == 200, 30, "the node is ready again")
        say(f"{killed.name} is back")
        crowd.pump(leg)

        say("kill -9 of redis-server")
        parts.redis.kill()
        crowd.pump(leg / 2)
        parts.redis.start()
        say(f"redis-server is back after {leg / 2:g} s")
        crowd.pump(leg)

        for resumer in resumers[::3]:
            resumer.leave()
        say("every third client was cut off")
        crowd.pump(leg / 2)

        say("no more is sent; what is under way arrives …")
        requester.stop()
        finish(crowd, publishers)
        crowd.until(lambda: settled(resumers, publishers), 20, "everybody has everything")
        crowd.until(lambda: requester.settled, 40, "everything is answered")
        for member in everybody:
            member.stays = False
        accounts = draw_up(resumers, publishers), errands.draw_up(requester, workers, given)
        return Accounts(*accounts, refused, unready)
