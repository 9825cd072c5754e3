"""`make json-costs`: what a megabyte of JSON costs the gateway on each path, from the socket to the answer.

Each path is measured with one long text, and with every kind of dear JSON (`json_kinds`) of the same size in the same
place. A figure is the processor time of the gateway's whole process, the least of some rounds: what else runs on the
machine hardly shows. Of each path the dearest kind is told, as a multiple of what the text costs there, and of what a
text costs that is accepted on a path of the same sort, as a message that is refused early may cost next to nothing.

The gateways are real, with real sockets and a Redis of their own. Exit code 0 when it ran, whatever came out.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.backplane.redis_server import RedisServer, redis_server
from tests.gateways import Running, gateway

from .json_kinds import KINDS, TEXT

SIZE: Final = (1 << 20) - 8192
"""Bytes of a value; with the message around it, it is within what every path takes."""
_QUICK_SIZE: Final = 1 << 14
_QUICK_KINDS: Final = (TEXT, "lists", "NaN")
_ROUNDS: Final = 5
_LIMIT: Final = 20.0
_LEAST: Final = 20e-6
"""Seconds: no message costs less. Less was not added up in time, on a machine that stood still."""
_TRIES: Final = 5
_SETTINGS: Final[dict[str, object]] = {
    "PORTICO_MAX_BYTES_PER_SECOND": 0,
    "PORTICO_MAX_MESSAGES_PER_SECOND": 0,
    "PORTICO_LOG_LEVEL": "error",
}


@dataclass(frozen=True)
class Entrance:
    """A path on which messages come in. `message` has %b where the value stands; `way` says how it is sent; `like`
    names the path that takes such a message, for one that refuses it."""

    name: str
    way: str
    message: bytes
    like: str | None = None


_C = "C-Client: a heartbeat with much besides"
_E = "envelope: a request"
_R = "requester: a request"
_W = "worker: an answer"
_F = "first message: a registration"
_H = "HTTP: a push"
_REQUEST = b'{"type":"request","msg_id":"m","data":{"action":"get_time","params":%b}}'
_PUSH = b'{"target":{"user_id":"nobody"},"type":"t","data":{"x":%b}}'

PATHS: Final = (
    Entrance(_C, "c-client", b'{"type":"heartbeat","x":%b}'),
    Entrance("C-Client: its type at the end", "c-client", b'{"x":%b,"type":"heartbeat"}'),
    Entrance(
        "C-Client: a report", "c-client", b'{"type":"session_feedback","session_id":"s","success":true,"x":%b}', _C
    ),
    Entrance("C-Client: an unknown type", "c-client", b'{"type":"nonsense","x":%b}', _C),
    Entrance("C-Client: an unknown type at the end", "c-client", b'{"x":%b,"type":"nonsense"}', _C),
    Entrance("C-Client: no type", "c-client", b'{"x":%b}', _C),
    Entrance("C-Client: a wrong type at the end", "c-client", b'{"x":%b,"type":5}', _C),
    Entrance("C-Client: a wrong field", "c-client", b'{"type":"token_refresh","token":5,"x":%b}', _C),
    Entrance("C-Client: a wrong field at the end", "c-client", b'{"x":%b,"type":"c_client_register","user_id":5}', _C),
    Entrance("C-Client: an answer, not asked for", "asked", b'{"request_id":"r-0","data":%b}', _C),
    Entrance(_E, "envelope", _REQUEST),
    Entrance("envelope: a heartbeat with much besides", "envelope", b'{"type":"heartbeat","data":{},"x":%b}'),
    Entrance("envelope: an unknown type at the end", "envelope", b'{"msg_id":"m","data":%b,"type":"nonsense"}', _E),
    Entrance("envelope: no type", "envelope", b'{"msg_id":"m","data":%b}', _E),
    Entrance("envelope: a wrong msg_id at the end", "envelope", b'{"type":"request","data":%b,"msg_id":5}', _E),
    Entrance("envelope: a wrong action", "envelope", b'{"type":"request","data":{"params":%b,"action":5}}', _E),
    Entrance("envelope: a wrong capacity", "envelope", b'{"type":"connect","data":{"x":%b,"capacity":"many"}}', _E),
    Entrance(_R, "requester", b'{"command":"echo","request_id":1,"data":%b}'),
    Entrance("requester: no command", "requester", b'{"request_id":1,"data":%b}', _R),
    Entrance("requester: no command, much besides", "requester", b'{"request_id":1,"x":%b}', _R),
    Entrance("requester: a wrong command at the end", "requester", b'{"request_id":1,"data":%b,"command":5}', _R),
    Entrance("requester: a wrong timeout at the end", "requester", b'{"command":"echo","data":%b,"timeout":"x"}', _R),
    Entrance(_W, "worker", b'{"type":"response","msg_id":"ID","data":{"success":true,"result":%b}}'),
    Entrance(
        "worker: an answer with much besides", "worker", b'{"type":"response","msg_id":"ID","x":%b,"data":{}}', _W
    ),
    Entrance(
        "worker: a wrong field", "worker", b'{"type":"response","msg_id":"ID","data":{"result":%b,"partial":5}}', _W
    ),
    Entrance("user: any text", "user", b"%b"),
    Entrance(_F, "first", b'{"type":"c_client_register","client_id":"c","x":%b}'),
    Entrance(
        "first message: registration, wrong at the end", "first", b'{"x":%b,"type":"c_client_register","user_id":5}', _F
    ),
    Entrance("first message: a request, wrong at the end", "first", b'{"command":"echo","data":%b,"timeout":"x"}', _F),
    Entrance(
        "first message: a connect, wrong at the end",
        "first",
        b'{"data":{"x":%b,"capacity":"many"},"type":"connect"}',
        _F,
    ),
    Entrance("first message: a cancel", "cancel", b'{"x":%b,"request_id":1,"cancel":true}', _F),
    Entrance("first message: of no dialect", "first", b'{"x":%b}', _F),
    Entrance(_H, "push", _PUSH),
    Entrance("HTTP: a push, wrong at the end", "push", b'{"target":{"user_id":"u"},"data":{"x":%b},"type":5}', _H),
    Entrance("HTTP: a push, unknown field", "push", b'{"target":{"user_id":"u"},"data":{"x":%b},"typo":5}', _H),
    Entrance("HTTP: a push to a C-Client", "push", b'{"target":{"client_id":"c-client"},"type":"t","data":{"x":%b}}'),
    Entrance(
        "HTTP: a push to an envelope client", "push", b'{"target":{"client_id":"envelope"},"type":"t","data":{"x":%b}}'
    ),
    Entrance("HTTP: a batch", "push", b"[" + _PUSH + b"]"),
    Entrance("HTTP: a batch, wrong at the end", "push", b"[" + _PUSH + b',{"type":5}]', "HTTP: a batch"),
    Entrance("HTTP: a request", "ask", b'{"command":"echo","data":%b}'),
    Entrance("HTTP: a request, wrong at the end", "ask", b'{"data":%b,"command":5}', "HTTP: a request"),
    Entrance("Redis: a user's channel", "channel", b'{"type":"t","x":%b}'),
    Entrance("Redis: ingress", "ingress", b'{"target":{"user_id":"u1"},"type":"t","data":{"x":%b}}'),
    Entrance(
        "Redis: ingress, wrong at the end",
        "ingress",
        b'{"target":{"user_id":"u1"},"data":{"x":%b},"type":5}',
        "Redis: ingress",
    ),
    Entrance("Redis: another node's push", "node", b'{"target":{"client_id":"distant"},"type":"t","data":{"x":%b}}'),
)


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has taken: Linux has a clock for each (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def _settled(pid: int) -> float:
    """The same once it has gone back to waiting. What a process uses is added up when it stops running, or at the
    system's next tick (every 4 ms or so), so one that is still running seems to use nothing for as long."""
    last = cpu(pid)
    for _ in range(200):
        time.sleep(0.005)
        now = cpu(pid)
        if now - last < 20e-6:
            return now
        last = now
    return last


class Sender:
    """One way to send messages, to one gateway. `prepare` makes the message ready outside of what is measured, `send`
    sends it and waits for whatever answers it."""

    def __init__(
        self, pid: int, send: Callable[[bytes], None], prepare: Callable[[bytes], bytes] = lambda m: m
    ) -> None:
        self._pid = pid
        self._send = send
        self._prepare = prepare

    def cost(self, message: bytes) -> float:
        """Seconds of the gateway's processor time."""
        for _ in range(_TRIES):
            prepared = self._prepare(message)
            before = _settled(self._pid)
            self._send(prepared)
            spent = _settled(self._pid) - before
            if spent > _LEAST:
                return spent
        raise RuntimeError("the gateway answers, and the system says that it did nothing")


def _connected(stack: ExitStack, url: str, **first: object) -> ClientConnection:
    link = stack.enter_context(connect(url, max_size=None, compression=None, ping_interval=None, close_timeout=5))
    if first:
        link.send(json.dumps(first))
        link.recv(_LIMIT)
    return link


def _echoing(worker: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            if (named := _request_in(worker.recv())) is not None:
                worker.send(json.dumps({"type": "response", "msg_id": named, "data": {"success": True, "result": 1}}))


def _request_in(message: str | bytes) -> str | None:
    head = message[:200] if isinstance(message, str) else message[:200].decode()
    if '"type":"request"' not in head:
        return None
    return head.split('"msg_id":"', 1)[1].split('"', 1)[0]


def _exchange(link: ClientConnection) -> Callable[[bytes], None]:
    def send(message: bytes) -> None:
        link.send(message, text=True)
        link.recv(_LIMIT)

    return send


class _Worker:
    """A worker whose answers are measured: a requester asks, the worker answers with the message."""

    def __init__(self, worker: ClientConnection, requester: ClientConnection) -> None:
        self._worker = worker
        self._requester = requester

    def prepare(self, message: bytes) -> bytes:
        self._requester.send('{"command":"dear","request_id":1}')
        while (named := _request_in(self._worker.recv(_LIMIT))) is None:
            pass  # the answer to a message that was refused
        return message.replace(b"ID", named.encode(), 1)

    def send(self, message: bytes) -> None:
        self._worker.send(message, text=True)
        self._requester.recv(_LIMIT)


class _First:
    """A new connection for each message."""

    def __init__(self, stack: ExitStack, url: str) -> None:
        self._url = url
        self._open = stack.enter_context(ExitStack())
        self._link: ClientConnection | None = None

    def prepare(self, message: bytes) -> bytes:
        self._open.close()
        self._link = _connected(self._open, self._url)
        return message

    def send(self, message: bytes) -> None:
        assert self._link is not None
        self._link.send(message, text=True)
        self._link.recv(_LIMIT)

    def send_cancel(self, message: bytes) -> None:
        """Of a request that isn't there nothing is said, so what is refused comes behind it."""
        assert self._link is not None
        self._link.send(message, text=True)
        self._link.send("{}")
        self._link.recv(_LIMIT)


def _posting(stack: ExitStack, base_url: str, path: str, *also: ClientConnection) -> Callable[[bytes], None]:
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=_LIMIT)
    stack.callback(connection.close)
    for link in also:
        threading.Thread(target=_emptied, args=(link,), daemon=True).start()

    def send(message: bytes) -> None:
        connection.request("POST", path, message, {"content-type": "application/json"})
        connection.getresponse().read()

    return send


def _emptied(link: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        while True:
            link.recv()


def _alone(stack: ExitStack, up: Running) -> dict[str, Sender]:
    """The ways that need one gateway."""
    pid, url = up.process.pid, up.websocket_url
    c_client = _connected(stack, url + "/ws", type="c_client_register", client_id="measured")
    asked = _connected(stack, url + "/ws", type="c_client_register", client_id="asked")
    _ask_once(up, asked)
    envelope = _connected(stack, url + "/ws", type="connect", data={"client_id": "e"})
    echoing = _connected(stack, url + "/ws", type="connect", data={"role": "worker", "commands": ["echo"]})
    threading.Thread(target=_echoing, args=(echoing,), daemon=True).start()
    dear = _connected(stack, url + "/ws", type="connect", data={"role": "worker", "commands": ["dear"]})
    requester = _connected(stack, url + "/ws", command="echo", request_id=0)
    asking = _connected(stack, url + "/ws", command="echo", request_id=0)
    worker = _Worker(dear, asking)
    first = _First(stack, url + "/ws")
    pushed = [
        _connected(stack, url + "/ws", type="c_client_register", client_id="c-client"),
        _connected(stack, url + "/ws", type="connect", data={"client_id": "envelope"}),
    ]
    return {
        "c-client": Sender(pid, _exchange(c_client)),
        "asked": Sender(pid, _exchange(asked)),
        "envelope": Sender(pid, _exchange(envelope)),
        "requester": Sender(pid, _exchange(requester)),
        "worker": Sender(pid, worker.send, worker.prepare),
        "user": Sender(pid, _exchange(_connected(stack, url + "/ws/u"))),
        "first": Sender(pid, first.send, first.prepare),
        "cancel": Sender(pid, first.send_cancel, first.prepare),
        "push": Sender(pid, _posting(stack, up.base_url, "/api/notifications", *pushed)),
        "ask": Sender(pid, _posting(stack, up.base_url, "/api/requests")),
    }


def _ask_once(up: Running, asked: ClientConnection) -> None:
    """Have a C-Client asked something, and answer: from then on what it says may be an answer."""
    answer = threading.Thread(target=lambda: asked.send(json.dumps(_answer_to(json.loads(asked.recv(_LIMIT))))))
    answer.start()
    connection = http.client.HTTPConnection(urlsplit(up.base_url).netloc, timeout=_LIMIT)
    connection.request("POST", "/api/clients/asked/requests", '{"action":"a"}', {"content-type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    answer.join()
    if status != 200:
        raise RuntimeError(f"a client could not be asked: {status}")


def _answer_to(request: dict[str, object]) -> dict[str, object]:
    return {"request_id": request["request_id"], "data": 1}


def _with_redis(stack: ExitStack, redis: RedisServer, one: Running, other: Running) -> dict[str, Sender]:
    """What `one` reads of what comes from Redis: of other programs, and of the `other` gateway's pushes."""
    pid = one.process.pid
    user = _connected(stack, one.websocket_url + "/ws/u1")
    distant = _connected(stack, one.websocket_url + "/ws", type="c_client_register", client_id="distant", user_id="u2")

    def until_told(link: ClientConnection, user_id: str) -> None:
        # What is dropped is not answered, so a small one comes behind it.
        redis.command("PUBLISH", f"notifications:{user_id}", '{"type":"behind"}')
        while b"behind" not in link.recv(_LIMIT, decode=False)[:200]:
            pass

    def channel(message: bytes) -> None:
        redis.command("PUBLISH", "notifications:u1", message.decode())
        until_told(user, "u1")

    def ingress(message: bytes) -> None:
        redis.command("XADD", "portico:ingress", "*", "json", message.decode())
        behind = '{"target":{"user_id":"u1"},"type":"behind"}'
        redis.command("XADD", "portico:ingress", "*", "json", behind)
        while b'"behind"' not in user.recv(_LIMIT, decode=False)[:200]:
            pass

    post = _posting(stack, other.base_url, "/api/notifications")

    def node(message: bytes) -> None:
        post(message)
        until_told(distant, "u2")

    # The other's pushes and the ingress come to both of them.
    return {"channel": Sender(pid, channel), "ingress": Sender(pid, ingress), "node": Sender(pid, node)}


@contextmanager
def _senders(folder: Path) -> Iterator[dict[str, Sender]]:
    """All ways, to gateways that are up while the block runs."""
    with ExitStack() as stack:

        def up(name: str, **more: object) -> Running:
            (folder / name).mkdir()
            settings = {**_SETTINGS, **more}
            return stack.enter_context(gateway(folder / name, settings=settings, exit_code=None, forked=False))

        redis = stack.enter_context(redis_server(folder))
        one, other = up("one", REDIS_URL=redis.url), up("other", REDIS_URL=redis.url, PORTICO_INGRESS="false")
        alone = up("alone")
        # Clients go before the gateways do.
        links = stack.enter_context(ExitStack())
        yield {**_alone(links, alone), **_with_redis(links, redis, one, other)}


@dataclass(frozen=True)
class Row:
    """What came of a path: milliseconds of its text, and of each kind."""

    path: Entrance
    text: float
    kinds: dict[str, float]

    @property
    def dearest(self) -> str:
        """The kind that took longest."""
        return max(self.kinds, key=self.kinds.__getitem__)


def _message(path: Entrance, value: bytes) -> bytes:
    if value[:1] == b"{" and b'"x":%b' in path.message:
        # An object's fields are the message's own.
        return path.message.replace(b'"x":%b', value[1:-1], 1)
    return path.message.replace(b"%b", value, 1)


def measure(
    senders: dict[str, Sender], paths: Sequence[Entrance], kinds: Sequence[str], size: int, rounds: int
) -> list[Row]:
    """Every path with every kind, the least of some rounds, which take turns."""
    rows = []
    for path in paths:
        sender = senders[path.way]
        messages = {kind: _message(path, KINDS[kind](size)) for kind in kinds}
        found = dict.fromkeys(kinds, float("inf"))
        for _ in range(rounds):
            for kind, message in messages.items():
                found[kind] = min(found[kind], sender.cost(message) * 1e3)
        text = found.pop(TEXT)
        rows.append(Row(path, text, found))
        print(f"{path.name}: {text:.2f} ms, {rows[-1].dearest} {max(found.values()):.2f} ms", file=sys.stderr)
    return rows


def as_markdown(rows: Sequence[Row]) -> str:
    """The table."""
    texts = {row.path.name: row.text for row in rows}
    lines = [
        "| path | as one text | the dearest | | of its text | of an accepted text |",
        "|---|--:|--:|---|--:|--:|",
    ]
    for row in rows:
        most = row.kinds[row.dearest]
        accepted = texts.get(row.path.like or row.path.name, row.text)
        lines.append(
            f"| {row.path.name} | {row.text:.1f} ms | {most:.1f} ms | {row.dearest} "
            f"| {most / row.text:.1f} × | {most / max(accepted, row.text):.1f} × |"
        )
    return "\n".join(lines)


def main(given: list[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.json_costs", description="What dear JSON costs.")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help=f"of which the least counts ({_ROUNDS})")
    parser.add_argument("--paths", default="", help="only those whose names begin so, for example C-Client,HTTP")
    parser.add_argument("--kinds", default="", help="only these, for example 'lists,one key'; all: " + ", ".join(KINDS))
    parser.add_argument("--all", action="store_true", help="every kind's figure too")
    parser.add_argument("--quick", action="store_true", help="everything tiny: shows that it runs, not what it costs")
    arguments = parser.parse_args(given)
    chosen = tuple(arguments.paths.split(","))
    paths = [path for path in PATHS if path.name.startswith(chosen)]
    if not paths:
        parser.error("no path begins so; there are: " + "; ".join(path.name for path in PATHS))
    wanted = {TEXT, *arguments.kinds.split(",")} if arguments.kinds else set(KINDS)
    if not wanted <= set(KINDS) or wanted == {TEXT}:
        parser.error("there are the kinds: " + ", ".join(KINDS))
    kinds = _QUICK_KINDS if arguments.quick else tuple(kind for kind in KINDS if kind in wanted)
    size, rounds = (_QUICK_SIZE, 1) if arguments.quick else (SIZE, arguments.rounds)
    with tempfile.TemporaryDirectory(prefix="portico-json-costs-") as folder, _senders(Path(folder)) as senders:
        rows = measure(senders, paths, kinds, size, rounds)
    print(as_markdown(rows))
    if arguments.all:
        for row in rows:
            figures = sorted(row.kinds.items(), key=lambda item: -item[1])
            print(f"\n{row.path.name}: " + ", ".join(f"{kind} {figure:.1f}" for kind, figure in figures))


if __name__ == "__main__":
    main()
