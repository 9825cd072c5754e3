"""How each row is measured: which processes run, on which core, and what the load is told to do.

The processes are started as operators start them, in production with rates off, and a Redis of their own.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.backplane.redis_server import redis_server
from tests.bench.environment import ROOT
from tests.bench.servers import KEY
from tests.bench.work import Failed, push, result_of, run_load, started
from tests.split.deployment import NodeProcess, SplitDeployment, deployment

from .report import Raw

_LIMIT: Final = 600.0
_SETTINGS: Final[dict[str, object]] = {
    "ENVIRONMENT": "production",
    "PORTICO_OPEN_REQUESTERS": "true",
    "PORTICO_OPEN_USERS": "true",
    "PORTICO_API_KEYS": KEY,
    "WEBSOCKET_HANDSHAKE_KEY": KEY,
    "PORTICO_MAX_MESSAGES_PER_SECOND": 0,
    "PORTICO_MAX_BYTES_PER_SECOND": 0,
    "PORTICO_NODE_LEASE": 10,
}

_BODY: Final = json.dumps(push(""), separators=(",", ":"))

Cores = tuple[int | None, int | None]
STRATEGIES: Final = ("least_loaded", "round_robin", "random", "weighted_random")


@dataclass(frozen=True)
class Size:
    """How much of everything: the full bench, or the quick one that only shows that it runs."""

    seconds: float = 4.0
    warm_up: float = 1.0
    nodes: int = 3
    clients: int = 1000
    pushes: int = 200
    users: int = 2000
    visitors: int = 128
    few: int = 1000
    many: int = 10_000
    resuming: int = 10_000
    missed: int = 20
    batches: int = 40
    strategies: tuple[str, ...] = STRATEGIES
    asked: int = 6000

    def has(self, row: str, case: str) -> bool:
        """Whether it is measured at this size: of the row dispatch there may be some strategies only."""
        return row != "dispatch" or case.rpartition("-")[0] in self.strategies


FULL: Final = Size()
QUICK: Final = Size(
    seconds=0.3,
    warm_up=0.2,
    nodes=2,
    clients=20,
    pushes=5,
    users=40,
    visitors=16,
    few=20,
    many=60,
    resuming=60,
    missed=3,
    batches=2,
    strategies=("least_loaded", "random"),
    asked=0,
)


def _pin(pid: int, core: int | None) -> None:
    """The whole process, with whatever threads it has by now."""
    if core is not None:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {core})


@contextmanager
def _split(folder: Path, nodes: int, node_core: int | None, other_core: int | None) -> Iterator[SplitDeployment]:
    """A deployment with its WebSocket nodes on one core; Redis and the API node on the other."""
    folder.mkdir()
    with deployment(folder, nodes=nodes, aof=False, settings=_SETTINGS) as made:
        for node in made.nodes:
            _pin(node.pid, node_core)
        _pin(made.api.pid, other_core)
        _pin(made.redis.pid, other_core)
        yield made


@contextmanager
def _combined(folder: Path, core: int | None, settings: Mapping[str, object] = _SETTINGS) -> Iterator[NodeProcess]:
    """One process that does everything, without a Redis."""
    folder.mkdir()
    node = NodeProcess(folder, "combined", None, settings)
    try:
        node.start()
        node.wait_ready()
        _pin(node.pid, core)
        yield node
    finally:
        node.kill()


def _url(node: NodeProcess) -> str:
    return f"ws://127.0.0.1:{node.port}/ws"


def _http(node: NodeProcess, **more: object) -> Raw:
    headers = {"Authorization": f"Bearer {KEY}"}
    return {"kind": "http", "port": node.port, "path": "/api/notifications", "headers": headers, **more}


def across(folder: Path, size: Size, cores: Cores) -> dict[str, Raw]:
    """All servers share one core, so that more processes have no more of the machine than one has."""
    body = json.dumps({"target": {"channel_id": "bench"}, "type": "price", "data": {"text": push("")["text"]}})
    with (
        _split(folder / "across", size.nodes, cores[0], cores[0]) as split,
        _combined(folder / "combined", cores[0]) as combined,
    ):
        sides = {
            "nodes": {
                "urls": [_url(node) for node in split.nodes],
                "pids": [split.redis.pid, *(node.pid for node in split.all)],
                "clients": size.clients,
                "trigger": _http(split.api, body=body),
            },
            "combined": {
                "urls": [_url(combined)],
                "pids": [combined.pid],
                "clients": size.clients * size.nodes,
                "trigger": _http(combined, body=body),
            },
        }
        order = {"sides": sides, "pushes": size.pushes, "warm_up_pushes": 5, "rest": 0.01}
        return run_load("across", order, cores[1])


def unicast(folder: Path, size: Size, cores: Cores) -> dict[str, Raw]:
    """The node has one core for itself; whoever publishes, Redis and the clients have the other."""
    with _split(folder / "unicast", 1, cores[0], cores[1]) as split:
        [node] = split.nodes
        order = {
            "url": _url(node),
            "server_pid": node.pid,
            "seconds": size.seconds,
            "warm_up": size.warm_up,
            "users": size.users,
        }
        beside = {"Redis": split.redis.pid}
        redis = {"redis_port": split.redis.port, "body": _BODY}
        ordinary = run_load(
            "unicast_redis", {**order, **redis, "beside": beside, "piece": 100, "under_way": 2000}, cores[1]
        )
        api = {"trigger": _http(split.api), "data": {"text": push("")["text"]}, "in_flight": 2}
        beside = {**beside, "the API node": split.api.pid}
        through_api = run_load("unicast_api", {**order, **api, "beside": beside}, cores[1])
    return {"ordinary": ordinary, "api": through_api, "loop": _loop(folder / "loop", size, cores)}


def _loop(folder: Path, size: Size, cores: Cores) -> Raw:
    """Marks between the batches say how much was read, and what it cost."""
    body = _BODY.encode()
    batch = b"".join(_publish(b"notifications:u%d" % number, body) for number in range(size.users))
    with redis_server(folder) as redis:
        _pin(redis.pid, cores[1])
        loop = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.redis.get_message_loop", str(redis.port), str(size.users)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert loop.stdout is not None
            if loop.stdout.readline().strip() != "ready":
                raise Failed("the get_message loop doesn't start")
            _pin(loop.pid, cores[0])
            with socket.create_connection(("127.0.0.1", redis.port)) as link:
                marks = [_marked(link, loop.stdout, batch) for _ in range(size.batches + 1)]
        finally:
            loop.kill()
            loop.wait()
            if loop.stdout is not None:
                loop.stdout.close()
    (count, cpu), (last_count, last_cpu) = marks[0], marks[-1]
    return {"work": last_count - count, "server_cpu": last_cpu - cpu}


def _publish(channel: bytes, body: bytes) -> bytes:
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel, len(body), body)


def _marked(link: socket.socket, said: IO[str], batch: bytes) -> tuple[int, float]:
    """Publish a batch and a mark; what the reader says at the mark."""
    commands = batch + _publish(b"mark", b"")
    link.sendall(commands)
    answers = commands.count(b"PUBLISH")
    while answers:
        answers -= link.recv(65536).count(b"\n")
    count, cpu = said.readline().split()
    return int(count), float(cpu)


def join(folder: Path, size: Size, cores: Cores) -> dict[str, Raw]:
    """Redis has the node's core: the load never sleeps, and a registration waits for Redis twice."""
    found: dict[str, Raw] = {}
    with _split(folder / "join", 1, cores[0], cores[0]) as split:
        found["redis"] = _joined(split.nodes[0], size, cores)
    with _combined(folder / "alone", cores[0]) as node:
        found["combined"] = _joined(node, size, cores)
    return found


def _joined(node: NodeProcess, size: Size, cores: Cores) -> Raw:
    order = {
        "port": node.port,
        "path": "/ws",
        "socketio": False,
        "server_pid": node.pid,
        "seconds": size.seconds,
        "warm_up": size.warm_up,
        "clients": size.visitors,
    }
    return run_load("connect", order, cores[1])


def memory(folder: Path, size: Size, cores: Cores) -> dict[str, Raw]:
    """Clients that are there and idle, each with channels of its own and some that are shared."""
    crowd = {"socketio": False, "few": size.few, "many": size.many, "warm_up": size.warm_up}
    with _split(folder / "memory", 1, cores[0], cores[0]) as split:
        [node] = split.nodes
        order = {"url": _url(node), "server_pid": node.pid, "beside": {"Redis": split.redis.pid}}
        held = run_load("memory", {**order, **crowd}, cores[1])
    with _combined(folder / "alone", cores[0]) as node:
        alone = run_load("memory", {"url": _url(node), "server_pid": node.pid, **crowd}, cores[1])
    return {"node": held, "combined": alone}


def resume(folder: Path, size: Size, cores: Cores) -> dict[str, Raw]:
    """The node is ended by SIGTERM, and started again when everything was published that its clients miss."""
    with _split(folder / "resume", 1, cores[0], cores[1]) as split:
        [node] = split.nodes
        order = {
            "url": _url(node),
            "beside": {"Redis": split.redis.pid, "the API node": split.api.pid},
            "clients": size.resuming,
            "missed": size.missed,
            "trigger": _http(split.api),
        }
        with started("resume", order, cores[1]) as load:
            _heed(load, "gone")
            node.end()
            _tell(load, "over")
            _heed(load, "ready")
            node.start()
            node.wait_ready()
            _pin(node.pid, cores[0])
            _tell(load, str(node.pid))
            said, errors = load.communicate(timeout=_LIMIT)
        return {"node": result_of("resume", load, said, errors)}


_WEIGHTS: Final = (1.0, 1.0, 1.0, 1.0, 1.0, 3.0)


def dispatch(folder: Path, size: Size, cores: Cores) -> dict[str, Raw]:
    """Six workers, one of them with three times the weight, on three nodes and in one process; with one request at a
    time and with 64. They have room for all, so that the strategy decides. All servers share one core."""
    found: dict[str, Raw] = {}
    for strategy in size.strategies:
        place = folder / strategy
        place.mkdir(parents=True)
        settings = {**_SETTINGS, "PORTICO_LB_STRATEGY": strategy}
        with deployment(place, nodes=size.nodes, aof=False, settings=settings) as split:
            for node in split.all:
                _pin(node.pid, cores[0])
            _pin(split.redis.pid, cores[0])
            several = _dispatched(split.nodes, [split.redis.pid, *(node.pid for node in split.all)], size, cores[1])
        with _combined(place / "combined", cores[0], settings) as one:
            alone = _dispatched([one], [one.pid], size, cores[1])
        for in_flight, nodes in several.items():
            found[f"{strategy}-{in_flight}"] = {"nodes": nodes, "one": alone[in_flight]}
    return found


def _dispatched(nodes: list[NodeProcess], pids: list[int], size: Size, core: int | None) -> dict[int, Raw]:
    order = {
        "worker_urls": [f"ws://127.0.0.1:{nodes[n % len(nodes)].port}/worker" for n in range(len(_WEIGHTS))],
        "weights": _WEIGHTS,
        "requester_urls": [f"ws://127.0.0.1:{node.port}/requester" for node in nodes],
        "headers": {"Authorization": f"Bearer {KEY}"},
        "message_size": 128,
        "settle": 0.5,
        "warm_up": size.warm_up,
        "seconds": size.seconds,
        "least": size.asked,
        "longest": 10 * size.seconds,
        "pids": pids,
    }
    return {in_flight: run_load("dispatch_nodes", {**order, "in_flight": in_flight}, core) for in_flight in (1, 64)}


def _heed(load: "subprocess.Popen[str]", word: str) -> None:
    """Wait until the load says this. Raises Failed if it says something else, or ends."""
    assert load.stdout is not None
    if load.stdout.readline().strip() != word:
        said, errors = load.communicate(timeout=10)
        result_of("resume", load, said, errors)
        raise Failed(f"the load never said {word!r}")


def _tell(load: "subprocess.Popen[str]", line: str) -> None:
    assert load.stdin is not None
    load.stdin.write(f"{line}\n")
    load.stdin.flush()


MEASURES: Final[dict[str, Callable[[Path, Size, Cores], dict[str, Raw]]]] = {
    row.__name__: row for row in (across, unicast, join, memory, resume, dispatch)
}
"""By row; the account is drawn up from what resumed."""
