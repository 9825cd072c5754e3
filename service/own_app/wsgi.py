"""WsgiApp: a WSGI app (PEP 3333) as an ASGI one, each request in a thread from its first byte to its `close()`.

Hypercorn has a wrapper too; it keeps whole bodies in memory, shares trio's forty threads with everybody, lets requests
wait for one without bound, and never closes what a client has left. Here a body is read before a thread is taken, and
lies on disk if it is large; threads have a number of their own, and few requests wait for one, not for long; an answer
streams as fast as the client takes it, and ends with the client.

A thread cannot be ended from outside. One whose request's time is over keeps its place until its function returns.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Any, Final
from wsgiref.util import FileWrapper

import trio

from service.asgi_types import Message, Receive, Scope, Send

from .driven import place

WAIT: Final = 5.0
"""Seconds that a request may wait for a thread."""
IN_MEMORY: Final = 256 * 1024
"""Bytes of a body beyond which it lies on disk."""

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class NoThread(Exception):
    """All threads are busy, and too many requests wait for one, or this has waited too long."""


class _Job:
    """One request in its thread."""

    __slots__ = ("begun", "ident", "since", "whose")

    def __init__(self, whose: str) -> None:
        self.begun = False
        self.ident: int | None = None
        self.since = time.monotonic()
        self.whose = whose


class WsgiApp:
    """Serves HTTP scopes by `app`, in at most `threads` threads."""

    def __init__(self, app: Callable[..., Iterable[bytes]], threads: int) -> None:
        self._app = app
        self._limiter = trio.CapacityLimiter(threads)
        self._unlimited = trio.CapacityLimiter(float("inf"))
        self._waiting = 0
        self.jobs: set[_Job] = set()
        """Those that have a thread."""

    @property
    def busy(self) -> int:
        """Threads that have a request."""
        return self._limiter.borrowed_tokens

    def places(self, longer_than: float) -> list[tuple[str, str]]:
        """The requests that have had a thread for longer than this, and where each is."""
        frames = sys._current_frames()
        old = [job for job in self.jobs if time.monotonic() - job.since > longer_than]
        return [(job.whose, place(frames.get(job.ident or 0))) for job in old]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope. Raises NoThread. Cancelling it is safe: the thread goes on until it next sends."""
        if scope["type"] != "http":
            raise RuntimeError("WSGI has no WebSockets and no lifespan")
        body = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed by the thread, which may outlive this task
        job = _Job(f"{scope['method']} {scope['path']}")
        try:
            if not await _read_body(receive, body):
                return
            await self._take_thread(job)
            await self._run(job, scope, body, send)
        finally:
            if not job.begun:
                self._end(job)
                body.close()

    async def _run(self, job: _Job, scope: Scope, body: Any, send: Send) -> None:
        token = trio.lowlevel.current_trio_token()

        def in_thread() -> None:
            job.begun = True
            job.ident = threading.get_ident()
            try:
                _respond(self._app, environ_of(scope, body), partial(_send_from_thread, token, send))
            finally:
                body.close()
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(self._end, job)

        await trio.to_thread.run_sync(in_thread, abandon_on_cancel=True, limiter=self._unlimited)

    async def _take_thread(self, job: _Job) -> None:
        try:
            self._limiter.acquire_on_behalf_of_nowait(job)
        except trio.WouldBlock:
            await self._wait_for_thread(job)
        job.since = time.monotonic()
        self.jobs.add(job)

    async def _wait_for_thread(self, job: _Job) -> None:
        if self._waiting >= self._limiter.total_tokens:
            raise NoThread from None
        self._waiting += 1
        try:
            with trio.move_on_after(WAIT) as patience:
                await self._limiter.acquire_on_behalf_of(job)
        finally:
            self._waiting -= 1
        if patience.cancelled_caught:
            raise NoThread from None

    def _end(self, job: _Job) -> None:
        if job in self.jobs:
            self.jobs.discard(job)
            self._limiter.release_on_behalf_of(job)


async def _read_body(receive: Receive, body: Any) -> bool:
    """Whether it came whole. How long it may take is known to who receives it."""
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        part = message.get("body", b"")
        size += len(part)
        if size > IN_MEMORY:
            await trio.to_thread.run_sync(body.write, part)
        else:
            body.write(part)
        more = message.get("more_body", False)
    body.seek(0)
    return True


def _send_from_thread(token: trio.lowlevel.TrioToken, send: Send, message: Message) -> None:
    trio.from_thread.run(send, message, trio_token=token)


def _respond(app: Callable[..., Iterable[bytes]], environ: dict[str, Any], send: Callable[[Message], None]) -> None:
    """Call the app and send what it answers; runs in the thread."""
    answer = _Answer(send)
    parts = app(environ, answer.start)
    try:
        for part in parts:
            if part:
                answer.write(part)
        answer.end()
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()


class _Answer:
    """What `start_response` and `write` of PEP 3333 do."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._start: Message | None = None
        self._begun = False

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None and exc_info[1] is not None:
            if self._begun:
                raise exc_info[1].with_traceback(exc_info[2])
        elif self._start is not None:
            raise RuntimeError("start_response was called twice")
        number = status.partition(" ")[0]
        if not number.isdigit():
            raise ValueError(f"a status begins with a number, unlike {status!r}")
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._start = {"type": "http.response.start", "status": int(number), "headers": fields}
        return self.write

    def write(self, part: bytes) -> None:
        self._begin()
        self._send({"type": "http.response.body", "body": part, "more_body": True})

    def end(self) -> None:
        self._begin()
        self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _begin(self) -> None:
        if self._start is None:
            raise RuntimeError("the app did not call start_response")
        if not self._begun:
            self._begun = True
            self._send(self._start)


def environ_of(scope: Scope, body: Any) -> dict[str, Any]:
    """The environ of a request. A header whose name has an underscore in it is left out, since it would be taken for
    the one with a dash, and so is `Proxy`, which many libraries would take for a setting of theirs."""
    root = scope.get("root_path", "")
    path = scope["path"].removeprefix(root) if root else scope["path"]
    host, _, port = _host(scope).rpartition(":")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _native(root),
        "PATH_INFO": _native(path),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    client = scope.get("client")
    if client:
        environ["REMOTE_ADDR"] = str(client[0])
        environ["REMOTE_PORT"] = str(client[1] or "")
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if "_" in name or name == "proxy":
            continue
        key = name.upper().replace("-", "_")
        if name not in ("content-length", "content-type"):
            key = f"HTTP_{key}"
        between = "; " if name == "cookie" else ","
        environ[key] = f"{environ[key]}{between}{value}" if key in environ else value
    return environ


def _native(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _host(scope: Scope) -> str:
    """`name:port` by which the request was asked for."""
    server = scope.get("server") or ("localhost", 80)
    asked = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    usual = 443 if scope["scheme"] == "https" else 80
    if not asked:
        return f"{server[0]}:{server[1]}"
    return asked if asked.rpartition(":")[2].isdigit() and not asked.endswith("]") else f"{asked}:{usual}"
