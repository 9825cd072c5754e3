"""A real Redis for tests: a process of its own on a free loopback port; and a proxy that spoils the way to it.

Neither knows what the tests do with it. Nothing outlives the test run: where the kernel can, it ends the server with
us, even if we are killed.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio

from tests.gateways import free_ports

UP_LIMIT: Final = 60.0
"""Seconds for a server to answer, however busy the machine is."""
MASTER: Final = "mymaster"
"""What sentinels call the master that they watch."""
SLOTS: Final = 16_384
NEVER: Final = 60_000
"""Milliseconds without an answer after which sentinels and clusters put another in the place of a server: never, in a
test. A machine that stands still for a second would have them do it too; a test says when."""
_STARTS: Final = 5
_CHUNK: Final = 65_536


class RedisServer:
    """A redis-server and what can be done to it. Its port stays the same for life."""

    def __init__(self, folder: Path, *, aof: bool = False, configuration: str | None = None, **options: object) -> None:
        """`options`: Redis' own, with underscores for hyphens (`maxmemory="1mb"`). With a `configuration` it is a
        sentinel: the lines of its file, which it writes on in."""
        self.folder = folder
        self.port = 0
        self._configuration = configuration
        chosen: dict[str, object] = {"save": "", "appendonly": "yes" if aof else "no", "appendfsync": "always"}
        chosen.update((name.replace("_", "-"), value) for name, value in options.items())
        self.options = chosen
        self.environment: Mapping[str, str] = {}
        """Variables more, such as a `ShiftedClock`'s; set them before `start`."""
        self._process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None, "this Redis isn't running"
        return self._process.pid

    def start(self, *, emptied: bool = False) -> None:
        """Start it, where it was before if it was; `emptied`: with nothing of what it had written down."""
        assert self._process is None, "this Redis is running"
        if emptied:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
        for attempt in range(1, _STARTS + 1):
            port = self.port or free_ports(1)[0]
            self._process = subprocess.Popen(
                self._command(port),
                stdout=subprocess.DEVNULL,
                cwd=self.folder,
                env={**os.environ, **self.environment},
            )
            if self._answers(port):
                self.port = port
                return
            self.kill()
            # A port that was free a moment ago may have been taken, for a moment too: by a client of something else.
            time.sleep(0.1 * attempt)
        raise RuntimeError(f"redis-server did not come up:\n{(self.folder / 'redis.log').read_text(errors='replace')}")

    def kill(self) -> None:
        """SIGKILL: it has no time for anything. Fine also if it is stopped, or has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """SIGSTOP: it hangs, with its connections open and its port still accepting, until `cont`."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """Ask it something over a connection of its own, and get the raw start of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=UP_LIMIT) as link:
            encoded = [word.encode() for word in words]
            link.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded))
            return link.recv(_CHUNK)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "this Redis isn't running"
        self._process.send_signal(number)

    def _command(self, port: int) -> list[str]:
        # The kernel kills it when we end, even by SIGKILL; no preexec_fn, which isn't safe beside threads.
        tether = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        place = {"bind": "127.0.0.1", "port": port, "dir": ".", "logfile": "redis.log", "daemonize": "no"}
        if self._configuration is not None:
            lines = [self._configuration, *(f"{name} {value}" for name, value in place.items())]
            (self.folder / "sentinel.conf").write_text("\n".join(lines))
            return [*tether, "redis-server", "sentinel.conf", "--sentinel"]
        flags = [word for name, value in {**place, **self.options}.items() for word in _option(name, value)]
        return [*tether, "redis-server", *flags]

    def _answers(self, port: int) -> bool:
        """Wait until this very process answers (any answer will do: it may ask for a password)."""
        assert self._process is not None
        until = time.monotonic() + UP_LIMIT
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as link:
                link.sendall(b"PING\r\n")
                answer = link.recv(_CHUNK)
                if answer.startswith((b"+PONG", b"-NOAUTH")):
                    return self._process.poll() is None
            time.sleep(0.01)
        return False


class Guarded:
    """A master with a replica, and the sentinels that put the one in the place of the other."""

    def __init__(self, master: RedisServer, replica: RedisServer, sentinels: list[RedisServer]) -> None:
        self.master = master
        self.replica = replica
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        """The way to whoever is master."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{MASTER}"

    def watched(self) -> bool:
        """Whether every sentinel knows the replica and the others."""
        known = b"num-slaves\r\n$1\r\n1\r\n", b"num-other-sentinels\r\n$1\r\n%d\r\n" % (len(self.sentinels) - 1)
        seen = [one.command("SENTINEL", "MASTER", MASTER) for one in self.sentinels]
        return all(word in answer for word in known for answer in seen)

    def fail_over(self) -> bool:
        """Have the sentinels put the replica in the place of the master, whatever has become of that. False: ask again,
        they have yet to see that the replica is a good one. Soon afterwards it is `promoted`."""
        return self.sentinels[0].command("SENTINEL", "FAILOVER", MASTER) == b"+OK\r\n"

    def promoted(self) -> bool:
        """Whether the sentinels name the replica as the master."""
        answer = self.sentinels[0].command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return b"$%d\r\n%d\r\n" % (len(str(self.replica.port)), self.replica.port) in answer

    def demoted(self) -> bool:
        """Whether the master of old follows the replica by now."""
        # Whoever is connected to it when it is told is cut off.
        with suppress(ConnectionError):
            return b"role:slave" in self.master.command("INFO", "replication")
        return False

    def follows(self) -> bool:
        """Whether the replica has what the master has."""
        return b"master_link_status:up" in self.replica.command("INFO", "replication")


@contextmanager
def guarded_redis(folder: Path, *, sentinels: int = 1, aof: bool = False) -> Iterator[Guarded]:
    """A master, its replica and some sentinels while the block runs, which give up a master when they are told to. The
    replica follows, and they know it, when the block begins."""
    with ExitStack() as stack:
        more: dict[str, Any] = {"repl_diskless_sync_delay": 0, "repl_ping_replica_period": 1}
        master = stack.enter_context(redis_server(folder / "master", aof=aof, **more))
        replica = stack.enter_context(redis_server(folder / "replica", aof=aof, **more))
        replica.command("REPLICAOF", "127.0.0.1", str(master.port))
        lines = (
            f"sentinel monitor {MASTER} 127.0.0.1 {master.port} {sentinels // 2 + 1}",
            f"sentinel down-after-milliseconds {MASTER} {NEVER}",
            f"sentinel failover-timeout {MASTER} {NEVER}",
        )
        guarded = Guarded(master, replica, [])
        # Sentinels look for replicas at once, and then every 10 seconds.
        _wait(guarded.follows)
        guarded.sentinels += [
            stack.enter_context(redis_server(folder / f"sentinel-{number}", configuration="\n".join(lines)))
            for number in range(sentinels)
        ]
        _wait(guarded.watched)
        yield guarded


@contextmanager
def redis_server(
    folder: Path, *, aof: bool = False, configuration: str | None = None, **options: object
) -> Iterator[RedisServer]:
    """A Redis while the block runs, with its files in `folder`; see `RedisServer`. Start it from the main thread: the
    kernel ends it with the thread that it was started from."""
    server = RedisServer(folder, aof=aof, configuration=configuration, **options)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class RedisCluster:
    """Primaries that share the slots, and maybe a replica of the first."""

    def __init__(self, primaries: list[RedisServer], replica: RedisServer | None) -> None:
        self.primaries = primaries
        self.replica = replica
        self.ids = {one.port: _text(one.command("CLUSTER", "MYID")) for one in self.nodes}

    @property
    def nodes(self) -> list[RedisServer]:
        """All of them."""
        return [*self.primaries, *([self.replica] if self.replica is not None else [])]

    @property
    def url(self) -> str:
        """The way into it."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{one.port}' for one in self.primaries)}"

    def serves(self, slot: int) -> RedisServer:
        """Whose slot it was at the beginning: the first has the lower third, and so on."""
        return self.primaries[slot * len(self.primaries) // SLOTS]

    def move(self, slot: int, to: RedisServer) -> None:
        """Have another primary serve a slot, keys and all."""
        source = self.serves(slot)
        to.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.ids[source.port])
        source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.ids[to.port])
        while keys := _words(source.command("CLUSTER", "GETKEYSINSLOT", str(slot), "100")):
            source.command("MIGRATE", "127.0.0.1", str(to.port), "", "0", "5000", "KEYS", *keys)
        for one in (to, source, *(node for node in self.nodes if node not in (to, source))):
            one.command("CLUSTER", "SETSLOT", str(slot), "NODE", self.ids[to.port])

    def take_over(self) -> None:
        """Have the replica take the place of its primary, whatever has become of that."""
        assert self.replica is not None
        assert self.replica.command("CLUSTER", "FAILOVER", "TAKEOVER") == b"+OK\r\n"

    def is_whole(self) -> bool:
        """Whether every node sees all the others, and the replica follows."""
        seen = all(
            b"cluster_state:ok" in (info := one.command("CLUSTER", "INFO"))
            and b"cluster_known_nodes:%d\r" % len(self.nodes) in info
            and b"cluster_size:%d\r" % len(self.primaries) in info
            for one in self.nodes
        )
        return seen and (
            self.replica is None or b"master_link_status:up" in self.replica.command("INFO", "replication")
        )


@contextmanager
def redis_cluster(folder: Path, *, replica: bool = False, aof: bool = False) -> Iterator[RedisCluster]:
    """A cluster of three primaries while the block runs, which is whole when the block begins; with a `replica` of the
    first, which takes its place when it is told to."""
    with ExitStack() as stack:
        names = ["one", "two", "three", *(["replica"] if replica else [])]
        nodes = [
            stack.enter_context(
                redis_server(
                    folder / name,
                    aof=aof,
                    cluster_enabled="yes",
                    cluster_port=free_ports(1)[0],
                    cluster_node_timeout=NEVER,
                    repl_diskless_sync_delay=0,
                )
            )
            for name in names
        ]
        cluster = RedisCluster(nodes[:3], nodes[3] if replica else None)
        for number, one in enumerate(cluster.primaries):
            first, end = (-(-SLOTS * n // 3) for n in (number, number + 1))
            one.command("CLUSTER", "ADDSLOTSRANGE", str(first), str(end - 1))
            one.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for one in nodes[1:]:
            bus = str(one.options["cluster-port"])
            nodes[0].command("CLUSTER", "MEET", "127.0.0.1", str(one.port), bus)
        if cluster.replica is not None:
            first_id = cluster.ids[nodes[0].port]
            _wait(lambda: first_id.encode() in nodes[3].command("CLUSTER", "NODES"))
            _wait(lambda: b"+OK" in nodes[3].command("CLUSTER", "REPLICATE", first_id))
        _wait(cluster.is_whole)
        yield cluster


def _text(answer: bytes) -> str:
    return answer.split(b"\r\n")[1].decode()


def _words(answer: bytes) -> list[str]:
    return [word.decode() for word in answer.split(b"\r\n")[2::2]]


def _wait(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + UP_LIMIT
    while not holds():
        if time.monotonic() > until:
            raise RuntimeError(f"{holds.__name__}: not within {UP_LIMIT:g} s")
        time.sleep(0.02)


def _option(name: str, value: object) -> list[str]:
    words = str(value).split(" ") if name == "client-output-buffer-limit" else [str(value)]
    return [f"--{name}", *words]


class TcpProxy:
    """A way to a port that can be cut, closed, stalled and slowed. `port`: where it listens."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay = 0.0
        """Seconds that each piece of traffic is held up, in both directions."""
        self.refusing = False
        """Whether new connections are cut at once."""
        self.accepted = 0
        self._flowing = trio.Event()
        self._flowing.set()
        self._open: set[trio.SocketStream] = set()

    @property
    def url(self) -> str:
        """Redis by this way, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._open) // 2

    def cut(self) -> None:
        """Reset every connection; new ones are welcome unless `refusing`."""
        streams, self._open = self._open, set()
        for stream in streams:
            _reset(stream)

    def stall(self) -> None:
        """From now on nothing gets through either way, nor is anything closed; new connections are made and hang."""
        if self._flowing.is_set():
            self._flowing = trio.Event()

    def resume(self) -> None:
        """What was stalled flows on, nothing lost."""
        self._flowing.set()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Forward until cancelled."""
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._handle, [listener])
            task_status.started()

    async def _handle(self, near: trio.SocketStream) -> None:
        self.accepted += 1
        if self.refusing:
            return _reset(near)
        try:
            far = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            return _reset(near)
        both = {near, far}
        self._open |= both
        try:
            async with near, far, trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, near, far, nursery.cancel_scope)
                nursery.start_soon(self._pump, far, near, nursery.cancel_scope)
        finally:
            self._open -= both

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, pair: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(_CHUNK):
                if self.delay:
                    await trio.sleep(self.delay)
                await self._flowing.wait()
                await sink.send_all(data)
        # An end, too, is traffic.
        await self._flowing.wait()
        pair.cancel()


def _reset(stream: trio.SocketStream) -> None:
    with suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.socket.close()


@asynccontextmanager
async def tcp_proxy(target: int) -> AsyncIterator[TcpProxy]:
    """A TcpProxy to a loopback port while the block runs."""
    proxy = TcpProxy(target)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
