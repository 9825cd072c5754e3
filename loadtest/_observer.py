"""The independent observer: a small process of its own that does what the load does, a few times a second.

Run by the load test as `python -m loadtest._observer`. It knows plain blocking sockets and threads, takes its times by
itself, when it reads, and shares none of gevent's loop, the reactor or the schedule with what it is set beside: where
the two disagree, the load's figures are not to be believed. It also asks the gateway's processes for their metrics, so
that an overloaded load doesn't miss them.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import select
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from loadtest import _frames
from loadtest._figures import Attempts
from loadtest._marks import PUSH_TYPE, LoadMark
from loadtest._observations import About, Observation, Task
from loadtest._server import Sample, read_metrics

_AGES: Final = (float("inf"), 5.0, 7.0)
"""Seconds for which each of its connections lives."""
_INTERVAL: Final = 1.0
_PUSH_INTERVAL: Final = 0.5
_OBSERVED_TYPE: Final = "load_test_observed"
_LATE: Final = 30.0


class _Incoming(msgspec.Struct):
    type: str = ""
    load: LoadMark | None = None
    intended: float | None = None


_decode = msgspec.json.Decoder(_Incoming).decode


class Notebook:
    """What was seen, by the second in which it was meant to begin."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[int, dict[str, Attempts]] = {}
        self._samples: dict[int, list[tuple[str, Sample | None]]] = {}
        self._about: About | None = None

    def measured(self, step: str, began: float, ended: float, error: str | None = None) -> None:
        """An attempt."""
        with self._lock:
            attempts = self._steps.setdefault(int(began), {}).setdefault(step, Attempts())
            attempts.times.record(ended - began)
            if error is not None:
                attempts.errors[error] = attempts.errors.get(error, 0) + 1

    def sampled(self, url: str, sample: Sample | None) -> None:
        """A process said what it is at."""
        with self._lock:
            self._samples.setdefault(int(time.time()), []).append((url, sample))

    def told(self, about: About) -> None:
        """What the gateway is."""
        with self._lock:
            self._about = about

    def tear_off(self) -> list[Observation]:
        """What is new, second by second."""
        with self._lock:
            seconds = sorted(self._steps.keys() | self._samples.keys())
            pages = [
                Observation(second, self._steps.pop(second, {}), self._samples.pop(second, [])) for second in seconds
            ]
            if self._about is not None:
                pages.append(Observation(time.time(), about=self._about))
                self._about = None
            return pages


class Client:
    """One connection, read and written by one thread."""

    def __init__(self, task: Task, url: str, user: str, notebook: Notebook) -> None:
        self._notebook = notebook
        self._user = user
        self._pending: deque[float] = deque()
        self._reader = _frames.FrameReader()
        self._sock = _open(task, url)
        register: dict[str, Any] = {"type": "c_client_register", "client_id": user, "user_id": user}
        if task.token:
            register["token"] = task.token
        self._send(msgspec.json.encode(register))

    def run(self, seconds: float) -> None:
        """Send heartbeats and take what comes, for so long or until the connection ends. Raises OSError."""
        end = time.time() + seconds
        beat = time.time() + secrets.randbelow(1000) / 1000 * _INTERVAL
        while True:
            now = time.time()
            if now >= end and not self._pending:
                # Not before what it asked was answered: a gateway that stands still would be spared.
                self._sock.sendall(_frames.frame(_frames.CLOSE, (1000).to_bytes(2, "big")))
                return
            while beat <= now:
                self._pending.append(beat)
                self._send(b'{"type":"heartbeat"}')
                beat = beat + _INTERVAL if beat + _INTERVAL < end else float("inf")
            if self._pending and now - self._pending[0] > _LATE:
                raise OSError("no answer to a heartbeat")
            waiting = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
            if waiting or select.select([self._sock], [], [], self._patience(beat, end))[0]:
                data = self._sock.recv(65536)
                arrived = time.time()
                if not data:
                    raise OSError("the connection was cut")
                for opcode, payload in self._reader.feed(data):
                    self._take(opcode, payload, arrived)

    def _patience(self, beat: float, end: float) -> float:
        """For how many seconds it may wait for bytes."""
        return min(_INTERVAL, max(0.0, min(beat, end if not self._pending else beat) - time.time()))

    def abandon(self) -> None:
        """Count the heartbeats that were not answered as failed, and close the socket."""
        while self._pending:
            self._notebook.measured("heartbeat", self._pending.popleft(), time.time(), "unanswered")
        self._sock.close()

    def _take(self, opcode: int, payload: bytes, arrived: float) -> None:
        if opcode == _frames.PING:
            self._sock.sendall(_frames.frame(_frames.PONG, payload))
        elif opcode == _frames.CLOSE:
            raise OSError("closed")
        elif opcode == _frames.TEXT:
            with contextlib.suppress(msgspec.MsgspecError):
                incoming = _decode(payload)
                if incoming.type == "heartbeat" and self._pending:
                    self._notebook.measured("heartbeat", self._pending.popleft(), arrived)
                elif incoming.type == PUSH_TYPE and incoming.load is not None and incoming.load.user is None:
                    self._notebook.measured("broadcast", incoming.load.intended, arrived)
                elif incoming.type == _OBSERVED_TYPE and incoming.intended is not None:
                    self._notebook.measured("delivery", incoming.intended, arrived)

    def _send(self, payload: bytes) -> None:
        self._sock.sendall(_frames.frame(_frames.TEXT, payload))


def _open(task: Task, url: str) -> socket.socket:
    """A WebSocket. Raises OSError."""
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    address = parts.hostname or "", parts.port or (443 if secure else 80)
    sock: socket.socket = socket.create_connection(address, timeout=task.timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if secure:
        sock = ssl.create_default_context().wrap_socket(sock, server_hostname=address[0])
    lines = [f"GET {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: b2JzZXJ2ZXItb2JzZXJ2ZQ=="]
    if task.token:
        lines.append(f"Authorization: Bearer {task.token}")
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    # Byte by byte: what comes after the head is the first frame's.
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte or len(head) > 16384:
            raise OSError("no handshake")
        head += byte
    if b" 101 " not in head.split(b"\r\n", 1)[0]:
        raise OSError("the handshake was refused")
    return sock


def _keep_connected(task: Task, user: str, notebook: Notebook, seconds: float) -> None:
    """Keep a connection, and make it anew after `seconds`. A push to all reaches connections in the order in which they
    came: so a new one sees the end of a broadcast, and one that stays sees its beginning."""
    while True:
        client: Client | None = None
        try:
            client = Client(task, _discover(task), user, notebook)
            client.run(seconds)
        except (OSError, ValueError, KeyError, http.client.HTTPException, _frames.FrameError):
            time.sleep(_INTERVAL)
        finally:
            if client is not None:
                client.abandon()


def _push(task: Task, user: str, notebook: Notebook) -> None:
    """Push to one of its own clients, at fixed times."""
    due = time.time() + 2 * _INTERVAL
    while True:
        time.sleep(max(0.0, due - time.time()))
        body = {"target": {"user_id": user}, "type": _OBSERVED_TYPE, "data": {"intended": due}}
        request = urllib.request.Request(
            f"{task.host.rstrip('/')}/api/notifications",
            msgspec.json.encode(body),
            {"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {task.api_key}"} if task.api_key else {}),
        )
        with contextlib.suppress(OSError, http.client.HTTPException), _opener.open(request, timeout=task.timeout):
            notebook.measured("push", due, time.time())
        due += _PUSH_INTERVAL


def _ask_metrics(task: Task, notebook: Notebook) -> None:
    urls = task.metrics if task.metrics is not None else _metrics_urls(task)
    names: dict[str, str] = {}
    while urls:
        for url in urls:
            at = time.time()
            try:
                headers = {"Authorization": f"Bearer {task.api_key}"} if task.api_key else {}
                request = urllib.request.Request(url, headers=headers)
                with _opener.open(request, timeout=task.timeout) as answer:
                    sample = read_metrics(answer.read().decode(), at)
                # Where several share an address, the metrics say whose they are; else whoever is there is asked.
                if sample is not None and sample.node is None:
                    if url not in names:
                        names[url] = str(_get(task, f"{url.removesuffix('/metrics')}/api/health").get("node") or "")
                    sample.node = names[url] or None
                notebook.sampled(url, sample)
            except (OSError, ValueError, http.client.HTTPException):
                notebook.sampled(url, None)
        # Where several processes share an address, each request may reach another one.
        time.sleep(_INTERVAL / 2)


def _metrics_urls(task: Task) -> list[str]:
    """The usual places: the base URL's and the WebSocket address's, unless both are one process's."""
    base = task.host.rstrip("/")
    for _ in range(10):
        try:
            websocket = urlsplit(_discover(task))
            other = f"{websocket.scheme.replace('ws', 'http', 1)}://{websocket.netloc}"
            if other == base or _get(task, f"{other}/api/health").get("node") == _get(task, f"{base}/api/health").get(
                "node"
            ):
                return [f"{base}/metrics"]
            return [f"{base}/metrics", f"{other}/metrics"]
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            time.sleep(_INTERVAL)
    return [f"{base}/metrics"]


def _discover(task: Task) -> str:
    return str(_get(task, f"{task.host.rstrip('/')}/api/b-client/websocket-info")["websocket_url"])


def _get(task: Task, url: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {task.api_key}"} if task.api_key else {}
    with _opener.open(urllib.request.Request(url, headers=headers), timeout=task.timeout) as answer:
        found = msgspec.json.decode(answer.read())
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _about(task: Task, notebook: Notebook) -> None:
    with contextlib.suppress(OSError, ValueError, KeyError, http.client.HTTPException):
        info = _get(task, f"{task.host.rstrip('/')}/api/b-client/websocket-info")
        nodes: list[str] = []
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            nodes = sorted(_get(task, f"{task.host.rstrip('/')}/api/c-client/status").get("by_node", {}))
        notebook.told(About(str(info["websocket_url"]), str(info.get("environment", "")), nodes))


# A proxy of the environment's is none of the test's.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> None:
    """Watch until standard input is closed."""
    task = msgspec.json.decode(sys.stdin.readline(), type=Task)
    with contextlib.suppress(OSError):
        # Only some users may; it is the one process that must not wait.
        os.setpriority(os.PRIO_PROCESS, 0, -5)
    notebook, name = Notebook(), f"load-observer-{secrets.token_hex(5)}"
    jobs: list[tuple[Any, tuple[Any, ...]]] = [
        (_keep_connected, (task, f"{name}-{number}", notebook, _AGES[number])) for number in range(len(_AGES))
    ]
    jobs += [(_push, (task, f"{name}-0", notebook)), (_ask_metrics, (task, notebook)), (_about, (task, notebook))]
    for job, arguments in jobs:
        threading.Thread(target=job, args=arguments, daemon=True).start()
    while not select.select([sys.stdin], [], [], _INTERVAL / 2)[0]:
        for page in notebook.tear_off():
            sys.stdout.buffer.write(msgspec.json.encode(page) + b"\n")
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
