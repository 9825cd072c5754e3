"""The rows: what the load is told to do for each, and what of it counts.

A row's figure is work per second of server CPU, unless it says otherwise. Knows how to order the load; what the
load then does is in `load/rows.py`.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from . import tokens
from .environment import PYTHON
from .servers import KEY, Up, running

_HERE: Final = Path(__file__).parent
_LOAD_LIMIT: Final = 240.0
_VISITORS: Final = 32
"""Clients that are coming, or going, at a time."""
PAYLOAD: Final = 128
DISCOVERY: Final = "/api/b-client/websocket-info"
HEARTBEAT: Final = '{"type":"heartbeat"}'


class Failed(Exception):
    """The load could not do its work; the text is the last thing that it said."""


@dataclass(frozen=True)
class Size:
    """How much of everything: the full bench, or the quick one that only shows that it runs.

    `disturber_nice`: how far a load that disturbs stands back for the bystanders, whose times are what is measured. In
    the quick bench not at all: beside other tests it would not have its turn for minutes.
    """

    seconds: float = 4.0
    warm_up: float = 1.0
    clients: int = 1000
    few: int = 1000
    many: int = 15_000
    crowd: int = 10_000
    users: int = 500
    pushes: int = 20
    new_tokens: int = 32_000
    disturber_nice: int = 19


FULL: Final = Size()
QUICK: Final = Size(
    seconds=0.3, warm_up=0.2, clients=50, few=20, many=100, crowd=100, users=20, pushes=3, new_tokens=3200,
    disturber_nice=0,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One kind of work. `unit` of its figure; `measure` runs it once and returns raw results; `most_rounds`
    for one that takes long and hardly varies; `alone`: only a new server will do, since it ends the server or looks at
    what it holds."""

    name: str
    title: str
    unit: str
    measure: Callable[[Up, Size, int | None], dict[str, Any]]
    most_rounds: int = 1_000_000
    alone: bool = False


def _command(row: str, order: dict[str, Any]) -> list[str]:
    return [str(PYTHON), "-m", "load", row, json.dumps(order)]


def run_load(row: str, order: dict[str, Any], core: int | None) -> dict[str, Any]:
    """Let the load do a row's work. Raises Failed."""
    with started(row, order, core) as load:
        try:
            said, errors = load.communicate(timeout=_LOAD_LIMIT)
        except subprocess.TimeoutExpired:
            raise Failed(f"the load of {row} took more than {_LOAD_LIMIT:.0f} s") from None
    return result_of(row, load, said, errors)


def result_of(row: str, load: "subprocess.Popen[str]", said: str, errors: str) -> dict[str, Any]:
    """What a load that has ended said last. Raises Failed."""
    if load.returncode:
        raise Failed(f"the load of {row} failed: {(errors.strip().splitlines() or ['it says nothing'])[-1]}")
    result: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    return result


@contextmanager
def started(row: str, order: dict[str, Any], core: int | None) -> Iterator["subprocess.Popen[str]"]:
    """A load at its work, while the block runs."""
    load = subprocess.Popen(
        _command(row, order),
        cwd=_HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    if core is not None:
        os.sched_setaffinity(load.pid, {core})
    try:
        yield load
    finally:
        load.kill()
        load.wait()
        for pipe in (load.stdin, load.stdout, load.stderr):
            _close(pipe)


def _close(pipe: IO[str] | None) -> None:
    if pipe is not None:
        pipe.close()


def _timed(up: Up, size: Size, **more: Any) -> dict[str, Any]:
    return {**up.order(), "seconds": size.seconds, "warm_up": size.warm_up, **more}


def _post(up: Up, path: str, body: object) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {KEY}"} if up.server.portico else {}
    return {"kind": "http", "port": up.http_port, "path": path, "headers": headers, "body": json.dumps(body)}


def push(text: str) -> dict[str, str]:
    """A push that is PAYLOAD bytes of compact JSON when it arrives."""
    message = {"type": "price", "text": text}
    room = PAYLOAD - len(json.dumps(message, separators=(",", ":")))
    return {"type": "price", "text": text + "x" * room}


def _trigger(up: Up, channel: str) -> dict[str, Any]:
    message = push("")
    if up.server.portico:
        data = {"text": message["text"]}
        return _post(up, "/api/notifications", {"target": {"channel_id": channel}, "type": "price", "data": data})
    if up.server.http:
        return _post(up, "/publish", message)
    body = json.dumps({"type": "publish", "data": message})
    if up.server.socketio:
        body = "42" + json.dumps(["publish", message])
    return {"kind": "websocket", "url": up.url(), "body": body}


def _fanout(publishers: int) -> Callable[[Up, Size, int | None], dict[str, Any]]:
    def measure(up: Up, size: Size, core: int | None) -> dict[str, Any]:
        order = _timed(up, size, clients=size.clients, in_flight=publishers, trigger=_trigger(up, "bench"))
        return run_load("fanout", order, core)

    return measure


def _heartbeat(payload: str) -> Callable[[Up, Size, int | None], dict[str, Any]]:
    def measure(up: Up, size: Size, core: int | None) -> dict[str, Any]:
        said = f'42["heartbeat",{payload}]' if up.server.socketio else payload
        return run_load("heartbeat", _timed(up, size, clients=50, payload=said), core)

    return measure


def _long_heartbeat() -> str:
    start = '{"type":"heartbeat","client_id":"c-client-1732","timestamp":1732000000.123,"note":"'
    return start + "x" * (PAYLOAD - len(start) - 2) + '"}'


def _dispatch(up: Up, size: Size, core: int | None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {KEY}"} if up.server.portico else None
    order = _timed(
        up,
        size,
        workers=8,
        in_flight=64,
        message_size=PAYLOAD,
        worker_url=up.url("/worker"),
        worker_headers=headers,
        requester_url=up.url("/requester"),
    )
    return run_load("dispatch", order, core)


def _connect(up: Up, size: Size, core: int | None) -> dict[str, Any]:
    order = _timed(up, size, clients=_VISITORS, path=up.server.path, port=up.port)
    if up.server.tokens == "none":
        return run_load("connect", order, core)
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as folder:
        path = Path(folder) / "tokens"
        tokens.write_tokens(path, _VISITORS if up.server.tokens == "kept" else size.new_tokens, _VISITORS)
        return run_load("connect", {**order, "tokens": str(path)}, core)


def _memory(up: Up, size: Size, core: int | None) -> dict[str, Any]:
    return run_load("memory", _timed(up, size, few=size.few, many=size.many), core)


def _bystanders(
    disturbance: str, clients: Callable[[Size], int], triggered: bool
) -> Callable[[Up, Size, int | None], dict[str, Any]]:
    def measure(up: Up, size: Size, core: int | None) -> dict[str, Any]:
        order = _timed(up, size, clients=20, pause=0.001, payload=HEARTBEAT)
        quiet = run_load("bystanders", order, core)
        with started(
            disturbance, _timed(up, size, clients=clients(size), disturber_nice=size.disturber_nice), core
        ) as disturber:
            assert disturber.stdout is not None
            if disturber.stdout.readline().strip() != "ready":
                _, errors = disturber.communicate(timeout=10)
                raise Failed(f"the load of {disturbance} failed: {errors.strip().splitlines()[-1:]}")
            if triggered:
                order |= {"trigger": _trigger(up, "crowd"), "pushes": size.pushes, "rest": 0.2}
            disturbed = run_load("bystanders", order, core)
            said, errors = disturber.communicate("", timeout=60)
            result = result_of(disturbance, disturber, said, errors)
        return {**disturbed, "quiet_p99_ms": quiet["p99_ms"], disturbance: result}

    return measure


def _publish(up: Up, size: Size, core: int | None) -> dict[str, Any]:
    events: list[dict[str, Any]] = []
    for number in range(500):
        user, data = f"u{number % size.users}", {"text": "x" * 96}
        if up.server.portico:
            events.append({"target": {"user_id": user}, "type": "price", "data": data})
        else:
            events.append({"user_id": user, "type": "price", "data": data})
    path = "/api/notifications" if up.server.portico else "/publish-batch"
    trigger = {**_post(up, path, events), "events": len(events)}
    return run_load("publish", _timed(up, size, users=size.users, in_flight=2, trigger=trigger), core)


def _calls(up: Up, size: Size, core: int | None, **how: Any) -> dict[str, Any]:
    trigger = {"port": up.http_port, "headers": {}, "bodies": [""], **how}
    users = size.users if trigger["bodies"] != [""] else 0
    return run_load("calls", _timed(up, size, users=users, in_flight=32, trigger=trigger), core)


def _push_each(up: Up, size: Size, core: int | None) -> dict[str, Any]:
    bodies = []
    for number in range(size.users):
        user, data = f"u{number}", {"text": "x" * 96}
        target: dict[str, Any] = {"target": {"user_id": user}} if up.server.portico else {"user_id": user}
        bodies.append(json.dumps({**target, "type": "price", "data": data}))
    path = "/api/notifications" if up.server.portico else "/publish-one"
    headers = {"Authorization": f"Bearer {KEY}"} if up.server.portico else {}
    return _calls(up, size, core, method="POST", path=path, headers=headers, bodies=bodies)


def _discover(up: Up, size: Size, core: int | None) -> dict[str, Any]:
    return _calls(up, size, core, method="GET", path=DISCOVERY)


def _arrive(up: Up, size: Size, core: int | None) -> dict[str, Any]:
    more = {"discovery": DISCOVERY, "http_port": up.http_port}
    return run_load("arrive", _timed(up, size, clients=32, path=up.server.path, port=up.port, **more), core)


def _comeback(up: Up, size: Size, core: int | None) -> dict[str, Any]:
    server_core = min(os.sched_getaffinity(up.pid))
    with (
        tempfile.TemporaryDirectory(prefix="portico-bench-") as folder,
        running(up.server, None if core is None else server_core, Path(folder)) as following,
    ):
        order = _timed(
            up,
            size,
            clients=size.crowd,
            discovery=DISCOVERY,
            next_url=following.url(),
            next_http_port=following.http_port,
            next_pid=following.pid,
        )
        result = run_load("comeback", order, core)
    if not result["told"] == result["back"] == size.crowd:
        raise Failed(f"of {size.crowd} clients {result['told']} were told 1012 and {result['back']} are back")
    return result


_FLOOD: Final = _bystanders("flood", lambda size: 4, False)
_CROWD: Final = _bystanders("hold", lambda size: size.crowd, True)

ROWS: Final = (
    Row("fanout", "fan-out: one push to 1,000 clients", "deliveries", _fanout(4)),
    Row("fanout1", "fan-out, one push at a time", "deliveries", _fanout(1)),
    Row("heartbeat", "heartbeat round trips, 50 connections", "round trips", _heartbeat(HEARTBEAT)),
    Row("heartbeat128", "the same with 128 bytes in", "round trips", _heartbeat(_long_heartbeat())),
    Row("dispatch", "worker dispatch, 8 workers, 64 in flight", "requests", _dispatch),
    Row("connect", "connect + register + close", "clients", _connect),
    Row("memory", "resident memory per registered, idle client", "KB", _memory, most_rounds=1, alone=True),
    Row("flood", "bystanders' p99 while 4 clients flood 7-byte frames", "ms", _FLOOD),
    Row("crowd", "bystanders' p99 while one push goes to 10,000", "ms", _CROWD),
    Row("publish", "HTTP batch publish, 500 events to 500 users", "events", _publish),
    Row("push1", "one push to one user by HTTP, 32 kept-alive connections", "pushes", _push_each),
    Row("discover", "discovery, 32 kept-alive connections", "answers", _discover),
    Row("comeback", "10,000 are told 1012 at once: until all are back, by discovery", "s", _comeback, alone=True),
    Row("arrive", "discover + connect + register + close", "clients", _arrive),
)
