"""A gateway that is moved, behind nginx: from memory to Redis, to split mode, and back into one process.

What docs/how-to/migrate.md tells an operator to do, step by step, with the nginx configuration as it stands there.
Clients are connected and durable events are published all the time. What stays is to be counted, move by move.
"""

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.backplane.redis_server import redis_server
from tests.gateways import ROOT, free_ports
from tests.test_docs_nginx import nginx

from .deployment import NodeProcess
from .travellers import STREAMS, HandClient, SdkClient, Ticker, Traveller, until

GUIDE: Final = ROOT / "docs" / "how-to" / "migrate.md"
KEY: Final = "an-api-key-of-the-migration"
SETTINGS: Final = {"ENVIRONMENT": "production", "PORTICO_API_KEYS": KEY, "PORTICO_TRUSTED_PROXIES": "127.0.0.1"}


class Front:
    """The nginx at the address that everybody knows."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._port = free_ports(1)[0]
        self._turn = 0
        self._upstreams, site = re.findall(r"^```nginx\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
        for old, new in (
            ("listen 80;", f"listen 127.0.0.1:{self._port};\n    add_header X-Turn $turn always;"),
            ("/etc/nginx/portico.conf", f"{folder}/portico.conf"),
            ("server_name gw.example.com;", "server_name 127.0.0.1;"),
        ):
            assert site.count(old) == 1
            site = site.replace(old, new)
        # nginx comes with a site of its own on many systems, which gets what no other site claims by its name.
        self._site = f"server {{ listen 127.0.0.1:{self._port} default_server; return 404; }}\n{site}"
        self.base_url = f"http://127.0.0.1:{self._port}"
        self.websocket_url = f"ws://127.0.0.1:{self._port}/api/websocket"

    @contextmanager
    def running(self, api: NodeProcess, nodes: Sequence[NodeProcess]) -> Iterator[None]:
        """It runs while the block does."""
        self._write(api, nodes)
        with nginx(self._site, self._folder):
            until(self._has_switched, "nginx is up")
            yield

    def switch(self, api: NodeProcess, nodes: Sequence[NodeProcess]) -> None:
        """Send all that is new to other processes, as `nginx -s reload` does. Returns when that is so."""
        self._write(api, nodes)
        os.kill(int((self._folder / "nginx.pid").read_text()), signal.SIGHUP)
        until(self._has_switched, "nginx has switched")

    def _write(self, api: NodeProcess, nodes: Sequence[NodeProcess]) -> None:
        self._turn += 1
        first, count = re.subn(
            r"(portico_api \{\n).*?\}", rf"\1server 127.0.0.1:{api.port};\n}}", self._upstreams, flags=re.S
        )
        servers = "".join(f"server 127.0.0.1:{node.port};\n" for node in nodes)
        both, more = re.subn(r"(portico_websocket \{\n).*?\}", rf"\1{servers}}}", first, flags=re.S)
        assert (count, more) == (1, 1)
        (self._folder / "portico.conf").write_text(f"{both}map $host $turn {{ default {self._turn}; }}\n")

    def _has_switched(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base_url}/livez", timeout=5) as answer:
                return bool(answer.headers["X-Turn"] == str(self._turn))
        except (urllib.error.HTTPError, OSError):
            return False


@dataclass
class Move:
    """What a move was for one client: `missed` events that it was sent and never got, `silent` those of them of which
    nobody told it, `told` gaps, `doubled` events that its program got twice, `connections` more than before."""

    what: str
    client: str
    sent: int
    missed: int
    silent: int
    told: int
    doubled: int
    connections: int

    def __str__(self) -> str:
        return (
            f"{self.what:<28}{self.client:<22}{self.sent:>5} sent {self.missed:>4} missed {self.silent:>4} in silence"
            f"{self.told:>4} gaps told{self.doubled:>4} doubled{self.connections:>4} reconnected"
        )


@dataclass
class Migration:
    """All that was counted. `refused`: what publishing raised; `unordered`: events behind a later one's."""

    moves: list[Move]
    refused: list[str]
    unordered: int
    advertised: list[str]
    """What discovery named, in each mode."""

    @property
    def clean(self) -> bool:
        """Whether nothing was lost in silence, nothing passed on twice, and nothing refused."""
        return not (self.refused or self.unordered or any(move.silent or move.doubled for move in self.moves))

    def __str__(self) -> str:
        lines = [str(move) for move in self.moves]
        lines += [f"publishing failed: {said}" for said in self.refused]
        return "\n".join([*lines, f"{self.unordered} out of order", f"discovery: {', '.join(self.advertised)}"])


class _Journey:
    """The clients and the publisher, and where the count stands."""

    def __init__(self, front: Front, rate: float) -> None:
        self._front = front
        self.clients: list[Traveller] = [
            SdkClient("sdk", front.base_url),
            HandClient("by-hand", front.base_url),
            HandClient("by-hand-to-nginx", front.base_url, front.websocket_url),
        ]
        self.ticker = Ticker(front.base_url, KEY, rate)
        self.moves: list[Move] = []
        self._counted = 0
        self._connections = [0] * len(self.clients)
        self._gaps = [0] * len(self.clients)

    def begin(self) -> None:
        for client in self.clients:
            client.start()
        until(lambda: all(client.connections for client in self.clients), "everybody is registered")
        self._connections = [client.connections for client in self.clients]
        self.ticker.start()

    def end(self) -> None:
        threads: list[Ticker | Traveller] = [self.ticker, *self.clients]
        for thread in threads:
            thread.halt.set()
        for thread in threads:
            if thread.is_alive():
                thread.join(30)

    def settle(self, what: str) -> None:
        """Wait until what is sent now reaches all who have moved, and count what has happened since the last time."""
        until(lambda: all(map(self._has_come_over, self.clients, self._connections)), f"{what}: all have come back")
        begun = max(self.ticker.sent, default=0)
        until(lambda: max(self.ticker.sent, default=0) >= begun + 4, f"{what}: publishing goes on")
        end = begun + 2  # one event of each stream, published after everybody had come back
        until(lambda: all(self._has(client, end) for client in self.clients), f"{what}: all have the newest")
        for place, client in enumerate(self.clients):
            self.moves.append(self._move(what, client, place, end))
        self._counted = end + 1

    def _has_come_over(self, client: Traveller, before: int) -> bool:
        assert client.broke is None, client.broke
        return client.connections > before or not self.moves

    def _has(self, client: Traveller, end: int) -> bool:
        assert client.broke is None, client.broke
        wanted = {self.ticker.sent[number]: number for number in (end - 1, end) if number in self.ticker.sent}
        return all(client.last.get(stream, -1) >= number for stream, number in wanted.items())

    def _move(self, what: str, client: Traveller, place: int, end: int) -> Move:
        sent = {n: stream for n, stream in self.ticker.sent.items() if self._counted <= n <= end}
        missed = [n for n in sent if not client.seen[n]]
        silent = [n for n in missed if not any(self._counted - 3 <= at < n for at in client.gaps[sent[n]])]
        gaps = sum(len(client.gaps[stream]) for stream in STREAMS)
        doubled = sum(client.seen[n] > 1 for n in sent)
        connections = client.connections - self._connections[place]
        told = gaps - self._gaps[place]
        self._connections[place], self._gaps[place] = client.connections, gaps
        return Move(what, client.name, len(sent), len(missed), len(silent), told, doubled, connections)


def migrate(
    folder: Path, *, leg: float, rate: float, nodes: int = 2, say: Callable[[str], None] = lambda line: None
) -> Migration:
    """The moves of the guide, with `leg` seconds before each, and `rate` events a second. `nodes`: how many there are
    for WebSockets in split mode; `say` is told what happens."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(folder / "redis"))

        def process(name: str, role: str | None, **settings: object) -> NodeProcess:
            node = NodeProcess(folder, name, role, {**SETTINGS, **settings})
            stack.callback(node.kill)
            node.start()
            return node

        say("one process, without Redis, behind nginx")
        memory = process("memory", None)
        memory.wait_ready()
        front = Front(folder / "nginx")
        stack.enter_context(front.running(memory, [memory]))
        journey = _Journey(front, rate)
        stack.callback(journey.end)
        advertised = [_advertised(front)]
        journey.begin()
        old = [memory]

        def move(what: str, api: NodeProcess, *nodes: NodeProcess) -> None:
            nonlocal old
            new = list(dict.fromkeys([api, *nodes]))
            for node in new:
                node.wait_ready()
            time.sleep(leg)
            front.switch(api, nodes)
            for node in old:
                assert node.end() == 0, node.said()
            journey.settle(what)
            advertised.append(_advertised(front))
            say("\n".join(map(str, journey.moves[-len(journey.clients) :])))
            old = new

        try:
            one = process("one", None, REDIS_URL=redis.url)
            journey.settle("in memory")
            move("memory to Redis", one, one)
            parts = [process(f"ws-{number}", "websocket", REDIS_URL=redis.url) for number in range(1, nodes + 1)]
            move("integrated to split", process("api", "api", REDIS_URL=redis.url), *parts)
            back = process("back", None, REDIS_URL=redis.url)
            move("split to integrated", back, back)
        except BaseException as error:
            for log in folder.glob("*.log"):
                error.add_note(f"--- {log.name} ---\n{log.read_text(errors='replace')[-4000:]}")
            raise
        journey.end()
        unordered = sum(client.unordered for client in journey.clients)
        return Migration(journey.moves, journey.ticker.failed, unordered, advertised)


def _advertised(front: Front) -> str:
    with urllib.request.urlopen(f"{front.base_url}/api/b-client/websocket-info", timeout=30) as answer:
        return str(json.load(answer)["websocket_url"]).replace(front.base_url.partition("://")[2], "nginx")
