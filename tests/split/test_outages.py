"""What becomes of clients, events and readiness when something happens to Redis: accounts over real processes.

Publishing goes on throughout, and at the end of each account everything that was accepted is with everybody that it was
for, once and in order, or they were told that something is lost.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from service.core.cluster.backplane import PATIENCE
from tests.adversity.crowd import Client, Crowd, register
from tests.adversity.scene import metric, sized
from tests.backplane.redis_server import redis_server
from tests.transports.raw import TEXT, frame

from .deployment import NodeProcess, SplitDeployment, deployment
from .errands import CrowdRequester, CrowdWorker
from .proxy import proxied
from .scene import Scene, call, push, scene

pytestmark = pytest.mark.live

BACK: Final = 2.0
"""Seconds after which everything is as before, once Redis is."""
BUSY: Final = 10.0
"""Seconds more for a machine that has other things to do."""
AT_ONCE: Final = 0.5
NOT_READY: Final = 10.0
"""Seconds within which a node knows that it is cut off."""
LIMIT: Final = "client-output-buffer-limit"
RECONNECTS: Final = "redis_subscription_reconnects_total"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitDeployment]:
    """One deployment for the accounts of this file: each leaves it as it was."""
    with deployment(tmp_path_factory.mktemp("split"), nodes=2) as made:
        yield made


def refused(parts: SplitDeployment) -> None:
    """A push is refused, soon, and with what is to be said."""
    status, said, took = push(parts.api, {"user_id": "nobody"}, durable=True)
    assert (status, said["error"]["code"]) == (503, "unavailable")
    assert took < PATIENCE + BUSY


@contextmanager
def silences(parts: SplitDeployment) -> Iterator[list[float]]:
    """How long Redis takes to answer, in seconds, asked all the time while the block runs."""
    taken: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.02):
            began = time.monotonic()
            parts.redis.command("PING")
            taken.append(time.monotonic() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield taken
    finally:
        over.set()
        asking.join()


def number(node: NodeProcess, name: str) -> float:
    """A number of a node's /metrics."""
    return metric(node, name)  # type: ignore[arg-type]  # it has a base_url, too


def reconnected(here: Scene, before: dict[str, float], times: int) -> None:
    """Each node has noticed that its link was cut, so many times since, and has another one."""
    until = time.monotonic() + BACK + BUSY
    while any(number(node, RECONNECTS) < before[node.name] + times for node in here.parts.nodes):
        assert time.monotonic() < until, f"not every node has reconnected {times} times"
        here.pump(0.05)


def subscribed_as_wanted(node: NodeProcess) -> None:
    """It is subscribed to what it wants, no less and no more: soon, as those who left are let go of behind them."""
    until = time.monotonic() + BACK + BUSY
    while True:
        wanted, subscribed = number(node, "redis_channels_wanted"), number(node, "redis_channels_subscribed")
        if wanted == subscribed:
            return
        assert time.monotonic() < until, f"{subscribed:g} subscribed, {wanted:g} wanted"
        time.sleep(0.05)


@pytest.mark.shows(
    "stay",
    "none lost, none doubled",
    "503 meanwhile",
    "go on",
    "503 at once, 200 within 2 s",
)
def test_redis_is_killed_again_and_again(parts: SplitDeployment) -> None:
    with scene(parts, requests=True) as here:
        returns = []
        # The last time long enough for the longest pauses between two tries to connect.
        for down in [1] * sized(3, 9) + [sized(5, 15)]:
            here.parts.redis.kill()
            here.until_probed(503, AT_ONCE + BUSY)
            refused(parts)
            assert {node.probe("/livez") for node in parts.all} == {200}
            here.pump(down)
            parts.redis.start()
            began = time.monotonic()
            here.until_probed(200, BACK + BUSY)
            here.until_accepted()
            returns.append(time.monotonic() - began)
            here.pump(1)
        assert max(returns) < BACK + BUSY, returns
        assert here.closed == 0
    assert here.account.told_lost == 0


@pytest.mark.shows(
    "stay",
    "none lost, none doubled; what it took before it froze arrives afterwards",
    "503 after 2 s",
    "go on",
    "503 within 10 s, 200 within 2 s",
)
def test_redis_freezes(parts: SplitDeployment) -> None:
    with scene(parts, requests=True) as here:
        parts.redis.stop()
        frozen = time.monotonic()
        here.until_probed(503, NOT_READY)
        assert {node.probe("/livez") for node in parts.all} == {200}
        refused(parts)
        here.pump(max(0.0, sized(8, 40) - (time.monotonic() - frozen)))
        parts.redis.cont()
        here.until_probed(200, BACK + BUSY)
        here.until_accepted()
        here.pump(2)
        assert here.closed == 0
    assert here.account.told_lost == 0
    assert here.account.refused > 0


@pytest.mark.shows(
    "stay",
    "what was missed is read from the history, in its place",
    "durable ones as usual",
    "go on",
    "200 within 2 s",
)
def test_the_links_are_cut_by_redis(parts: SplitDeployment) -> None:
    before = {node.name: number(node, RECONNECTS) for node in parts.nodes}
    with scene(parts, requests=True) as here:
        for cut in (1, 2, 3):
            parts.redis.command("CLIENT", "KILL", "TYPE", "pubsub")
            here.pump(0.5)
            reconnected(here, before, cut)
            here.until_probed(200, BACK + BUSY)
            here.pump(0.5)
        assert here.closed == 0
    assert here.account.told_lost == here.account.refused == 0
    for node in parts.nodes:
        assert number(node, RECONNECTS) == before[node.name] + 3
        subscribed_as_wanted(node)


@pytest.mark.shows(
    "stay",
    "what was missed is read from the history, in its place",
    "durable ones as usual",
    "go on",
    "200 within 2 s",
)
def test_redis_cuts_off_who_does_not_keep_up(parts: SplitDeployment) -> None:
    before = {node.name: number(node, RECONNECTS) for node in parts.nodes}
    parts.redis.command("CONFIG", "SET", LIMIT, "pubsub 1mb 1mb 60")
    burst = "for n = 1, 4000 do redis.call('PUBLISH', KEYS[1], ARGV[1]) end"
    message = json.dumps({"type": "flood", "text": "x" * 1000})
    with scene(parts, requests=True) as here:
        for cut in (1, 2, 3):
            parts.redis.command("EVAL", burst, "1", "notifications:u0", message)
            here.pump(1)
            reconnected(here, before, cut)
            here.until_probed(200, BACK + BUSY)
        assert here.closed == 0
    parts.redis.command("CONFIG", "SET", LIMIT, "pubsub 32mb 8mb 60")
    assert here.account.told_lost == here.account.refused == 0
    for node in parts.nodes:
        assert number(node, RECONNECTS) >= before[node.name] + 3


@pytest.mark.shows(
    "stay, and are told (`stream_gap`) which epoch it is",
    "a new epoch; connected clients miss nothing; who resumes with the old one is told",
    "accepted; ids and login sessions are forgotten",
    "go on",
    "stays 200",
)
def test_redis_is_emptied(parts: SplitDeployment) -> None:
    with scene(parts, requests=True) as here:
        for _ in range(3):
            first, login = what_redis_knows(parts)
            parts.redis.command("FLUSHALL")
            here.pump(2)
            assert {node.probe() for node in parts.all} == {200}
            again, _ = what_redis_knows(parts)
            assert again["offset"] > first["offset"], "its id was forgotten"
            assert call(parts.api, "GET", f"/api/logins/{login}")[0] == 404
            for client in here.clients[::3]:
                client.leave()
            here.pump(1)
        here.all_registered()
        # A third came back each time, and was told then or before that the epoch is over.
        assert here.told >= len(here.clients[::3])
        here.crowd.until(lambda: len({client.epoch for client in here.clients}) == 1, 10, "all know the new epoch")
        stayed = [client for n, client in enumerate(here.clients) if n % 3]
        assert sum(len(client.codes) for client in stayed) == 0
    assert here.account.refused == 0
    last = {user: numbers for one in here.publishers for user, numbers in one.accepted.items()}
    assert all([event for _, event, _ in client.got] == last[client.user] for client in stayed)


@pytest.mark.shows(
    "stay, and are told (`stream_gap`)",
    'a new epoch; who resumes with the old one gets `"recovered": false`',
    "503 meanwhile; an `id` used before counts as new; login sessions are over",
    "go on",
    "503 at once, 200 within 2 s",
)
def test_redis_is_killed_and_comes_back_with_nothing(parts: SplitDeployment) -> None:
    with scene(parts, requests=True) as here:
        epochs = {client.epoch for client in here.clients}
        first, login = what_redis_knows(parts)
        parts.redis.kill()
        here.until_probed(503, AT_ONCE + BUSY)
        refused(parts)
        parts.redis.start(emptied=True)
        here.forgotten = True
        here.until_probed(200, BACK + BUSY)
        here.until_accepted()
        # Whether they missed something cannot be known: everybody is told.
        here.crowd.until(lambda: here.told >= len(here.clients), 10, "everybody is told")
        here.pump(1)
        assert here.closed == 0
        again, _ = what_redis_knows(parts)
        assert again["offset"] > first["offset"], "its id counts as new"
        assert call(parts.api, "GET", f"/api/logins/{login}")[0] == 404
        client = here.clients[0]
        told, answers = len(client.told), len(client.registered_at)
        assert client.epoch not in epochs, "it was told by stream_gap"
        client.leave()
        here.crowd.until(lambda: len(client.registered_at) > answers, 10, "it is back")
        assert len(client.told) == told, "what it was told is a position to come back from"
        [client.epoch] = epochs
        answers = len(client.registered_at)
        client.leave()
        here.crowd.until(lambda: len(client.registered_at) > answers, 10, "it is back")
        assert client.epoch not in epochs
        assert len(client.told) == told + 1


@pytest.mark.shows(
    "are let in again",
    "replayed",
    "accepted",
    "go on",
    "stays 200",
)
def test_everybody_is_cut_off_at_once(parts: SplitDeployment) -> None:
    with scene(parts, requests=True) as here:
        for _ in range(sized(3, 10)):
            for client in here.clients:
                client.leave()
            here.pump(0.2)
            assert {node.probe() for node in parts.all} == {200}
            here.all_registered()
            here.pump(0.5)
    assert here.account.told_lost == here.account.refused == 0
    assert here.account.replayed > 0


@pytest.mark.shows(
    "get it once",
    "one event, one offset",
    "both get 202 and the same receipt",
)
def test_one_key_on_two_nodes_at_once(parts: SplitDeployment, tmp_path: Path) -> None:
    second = NodeProcess(tmp_path, "api-2", "api", {"REDIS_URL": parts.redis.url})
    second.start()
    try:
        second.wait_ready()
        with scene(parts, clients=20, users=10) as here, ThreadPoolExecutor(2) as pool:
            listener = here.crowd.join(ListeningClient(here.crowd, "asked-twice"))
            here.crowd.until(lambda: listener.registered, 10, "the listener is there")
            count = sized(40, 500)
            pairs = []
            for n in range(count):
                both = threading.Barrier(2)

                def at_once(node: NodeProcess, n: int = n, both: threading.Barrier = both) -> tuple[int, Any, float]:
                    both.wait(10)
                    order = {"id": f"key-{n}", "durable": True, "data": {"n": n}}
                    return push(node, {"user_id": "asked-twice"}, **order)

                pairs.append([pool.submit(at_once, node) for node in (parts.api, second)])
                here.crowd.until(lambda: all(asked.done() for asked in pairs[-1]), 10, "both were answered")
            here.crowd.until(lambda: len(listener.heard) >= count, 10, "every event came")
            here.pump(0.5)
            assert [event["n"] for event in listener.heard] == list(range(count))
            for first, other in pairs:
                assert first.result()[0] == other.result()[0] == 202
                assert first.result()[1] == other.result()[1]
                assert first.result()[1]["matched"] == 1
    finally:
        second.kill()


@pytest.mark.shows(
    "notice nothing",
    "none lost, none doubled",
    "accepted",
    "go on",
    "stays 200, or is again within 2 s",
)
def test_what_makes_no_sense_on_a_channel_harms_nothing(parts: SplitDeployment) -> None:
    node = parts.nodes[0]
    names = ("redis_messages_too_large_total", "redis_messages_malformed_total", "redis_ordinary_dropped_total")
    before = [number(node, name) for name in names]
    with silences(parts) as silent, scene(parts, requests=True) as here:
        for channel in ("portico:@0:t:user_id:u0", "notifications:u0", "portico:@0:nodes"):
            # More than Redis keeps for a subscriber, which cuts the link; and what the link passes over.
            parts.redis.command("PUBLISH", channel, "x" * (33 << 20))
            here.pump(0.2)
            here.until_probed(200, BACK + BUSY)
            parts.redis.command("PUBLISH", channel, "x" * (9 << 20))
            here.pump(0.2)
            for nonsense in ("", "\1", "\2nothing", "\3\3", "\4{", "\5", "{}", "[" * 10_000, '{"type": NaN}'):
                parts.redis.command("PUBLISH", channel, nonsense)
        here.pump(1)
        assert here.closed == 0
        assert {node.probe() for node in parts.all} == {200}
    assert here.account.told_lost == 0
    # Only what Redis has not answered for PATIENCE is refused, as when it freezes; here it is asked from outside.
    assert here.account.refused == 0 or max(silent) > PATIENCE - AT_ONCE, max(silent)
    after = [number(node, name) for name in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [3, 18, 8]


@pytest.mark.shows(
    'clients register as usual, within two and a half seconds, with `"recovered": false` if they wanted to resume',
    "text on `/ws/{user_id}` is echoed to the user's connections on the same node",
    "requests reach the workers of the same node",
    "discovery goes on naming the nodes that were there last",
    "`POST /api/notifications` and `POST /api/logins` answer 503 within 3 seconds",
)
def test_everything_that_needs_no_redis_goes_on_without_it(parts: SplitDeployment) -> None:
    api, node = parts.api, parts.nodes[0]
    given: Counter[int] = Counter()
    with scene(parts, clients=20, users=7) as here:
        crowd = here.crowd
        worker = CrowdWorker(crowd, lambda: [node.address], 1, given)
        worker.come()
        requester = crowd.join(CrowdRequester(crowd, 20), address=node.address)
        echoed = [crowd.join(Client(crowd, None, "/ws/ann"), address=node.address) for _ in range(2)]
        crowd.until(lambda: all(one.let_in for one in (requester, *echoed)), 10, "all are there")
        requester.probe()
        crowd.until(lambda: requester.found, 10, "there is a worker")
        parts.redis.kill()
        here.until_probed(503, NOT_READY)
        # Whoever comes is let in, and told that it may have missed something.
        late, new = here.clients[0], crowd.join(Client(crowd, register("new"), "/ws"), address=node.address)
        began, told = time.monotonic(), len(late.told)
        late.leave()
        crowd.until(lambda: not late.registered, 1, "it is gone")
        crowd.until(lambda: late.registered and new.registered, 5, "they are let in without Redis")
        assert time.monotonic() - began < 0.5 + PATIENCE + BUSY
        assert len(late.told) == told + 1
        # What stays on the node goes on.
        echoed[0].send(frame(TEXT, b"hello"))
        crowd.until(lambda: all(one.texts for one in echoed), 3, "the echo to both")
        requester.begin()
        crowd.pump(1)
        requester.stop()
        crowd.until(lambda: requester.settled, 5, "all is answered")
        assert all(answers[0]["success"] for answers in requester.answers.values())
        # What needs it is refused, soon, and with what is to be said.
        for path, body in (
            ("/api/notifications", {"target": {"user_id": "nobody"}, "type": "ping", "data": {}}),
            ("/api/logins", {"user_id": "ann", "username": "Ann"}),
        ):
            status, said, took = call(api, "POST", path, body)
            assert (path, status, said["error"]["code"]) == (path, 503, "unavailable")
            assert took < PATIENCE + BUSY
        # Clients are still sent to the nodes that were there.
        status, said, _ = call(api, "GET", "/api/b-client/websocket-info")
        assert status == 200
        assert said["websocket_port"] in {node.port for node in parts.nodes}
        assert {node.probe("/livez") for node in parts.all} == {200}
        parts.redis.start()
        here.until_probed(200, BACK + BUSY)
        worker.stays = False


@pytest.mark.shows(
    "stay",
    "none lost, none doubled",
    "503 after 2 s",
    "go on",
    "503 within 10 s, 200 within 2 s",
)
def test_the_way_to_redis_is_cut_and_stalls(tmp_path: Path) -> None:
    with redis_server(tmp_path / "behind", aof=True) as redis, proxied(redis.port) as proxy:
        with (
            deployment(tmp_path, nodes=2, redis_url=proxy.url) as parts,
            scene(parts, clients=100, users=21, requests=True) as here,
        ):
            for _ in range(sized(2, 10)):
                proxy.cut()
                here.pump(0.5)
                here.until_probed(200, BACK + BUSY)
            proxy.stall()
            here.until_probed(503, NOT_READY)
            refused(parts)
            here.pump(sized(3, 20))
            proxy.resume()
            here.until_probed(200, BACK + BUSY)
            here.until_accepted()
            assert here.closed == 0
        assert here.account.told_lost == 0


def what_redis_knows(parts: SplitDeployment) -> tuple[Any, str]:
    """Something that Redis remembers of us: a push by its `id`, which gives the receipt, and a login session's name."""
    status, receipt, _ = push(parts.api, {"user_id": "remembered"}, durable=True, id="remembered")
    assert status == 202
    status, said, _ = call(parts.api, "POST", "/api/logins", {"user_id": "remembered", "username": "Ann"})
    assert status == 201
    return receipt, said["session_id"]


class ListeningClient(Client):
    """A client of one user, and what it heard."""

    __slots__ = ("heard",)

    def __init__(self, crowd: Crowd, user: str) -> None:
        super().__init__(crowd, register(f"listener-{user}", user_id=user), "/ws")
        self.heard: list[dict[str, Any]] = []

    def on_text(self, payload: bytes) -> None:
        """An event, or the answer to its registration."""
        super().on_text(payload)
        message = json.loads(payload)
        if message["type"] != "registration_success":
            self.heard.append(message)
