"""A little API in the style of OpenAI's chat completions, over a real socket, that is as wrong as a test wants it.

What it does with a request is the last message's first word: a name in SCENES. It is written on bare sockets, since
what it has to send is often no HTTP. It knows nothing of the code under test.
"""

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import trio

Json = dict[str, Any]
WORDS: Final = ("Hel", "lo ", "wor", "ld")


@dataclass(eq=False)
class Asked:
    """One request that came. `closed`: the client has closed its connection while the answer was under way. `behind`:
    what came behind it on the same connection, once it was answered."""

    head: bytes
    body: Json
    path: str
    closed: bool = False
    behind: bytes = b""

    @property
    def words(self) -> list[str]:
        """The last message, in words; the first says what is to happen."""
        return list(self.body["messages"][-1]["content"].split())


@dataclass(eq=False)
class LittleApi:
    """What has been asked, and where it is asked."""

    asked: list[Asked] = field(default_factory=list)
    base_url: str = ""
    written: int = 0
    """Bytes that the client took of floods."""
    connections: int = 0
    _changed: trio.Event = field(default_factory=trio.Event)

    def on_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that came, or went, makes it so; in the same loop only."""
        while not condition():
            await self._changed.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on a free port of loopback until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.base_url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1"

        async def started(task_status: trio.TaskStatus[Any]) -> None:
            await trio.serve_listeners(self._serve, listeners, task_status=task_status)

        async with trio.open_nursery() as nursery:
            await nursery.start(started)
            task_status.started()

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        received = b""
        try:
            while True:
                while b"\r\n\r\n" not in received:
                    more = await stream.receive_some()
                    if not more:
                        return
                    received += more
                head, _, received = received.partition(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
                length = int(fields[b"content-length"])
                while len(received) < length:
                    received += await stream.receive_some()
                asked = Asked(head, json.loads(received[:length]), head.split(b" ")[1].decode())
                received = received[length:]
                self.asked.append(asked)
                self.on_change()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch, stream, asked, nursery.cancel_scope)
                    try:
                        await SCENES[asked.words[0]](Exchange(self, stream, asked))
                    except trio.BrokenResourceError:
                        asked.closed = True  # what is sent may meet the end before the watch does
                        raise
                    nursery.cancel_scope.cancel()
                if asked.closed:
                    return
                received += asked.behind
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)
            self.on_change()

    async def _watch(self, stream: trio.SocketStream, asked: Asked, scope: trio.CancelScope) -> None:
        """What comes after a request is the end, or, once it was answered, the next one."""
        try:
            asked.behind = await stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            asked.behind = b""
        if asked.behind:
            return
        asked.closed = True
        self.on_change()
        scope.cancel()


@dataclass(eq=False)
class Exchange:
    """One request and what is sent for it."""

    api: LittleApi
    stream: trio.SocketStream
    asked: Asked

    async def send(self, data: bytes) -> None:
        assert not self.asked.behind, "a request before the answer to the one before it"
        await self.stream.send_all(data)

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def head(
        self, status: str = "200 OK", kind: str = "text/event-stream", *more: str, chunked: bool = True
    ) -> None:
        lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", *more]
        if chunked:
            lines.append("transfer-encoding: chunked")
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def event(self, choice: Json | None, **fields: Any) -> None:
        chunk = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": f"{self.asked.body['model']}-2026",
            "choices": [] if choice is None else [{"index": 0, "finish_reason": None, **choice}],
            **fields,
        }
        await self.chunk(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    async def text(self, text: str) -> None:
        await self.event({"delta": {"content": text}})

    async def finish(self, reason: str | None = "stop", *, usage: bool = True) -> None:
        if reason is not None:
            await self.event({"delta": {}, "finish_reason": reason})
        if usage:
            await self.event(None, usage={"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13})
        await self.chunk(b"data: [DONE]\n\n")
        await self.send(b"0\r\n\r\n")

    async def answer(self, status: str, body: bytes, kind: str = "application/json", *more: str) -> None:
        await self.head(status, kind, f"content-length: {len(body)}", *more, chunked=False)
        await self.send(body)

    async def error(self, status: str, message: str, *more: str, **fields: Any) -> None:
        body = {"error": {"message": message, "type": "an_error", "param": None, "code": None, **fields}}
        await self.answer(status, json.dumps(body).encode(), "application/json", *more)


Scene = Callable[[Exchange], Awaitable[None]]
SCENES: Final[dict[str, Scene]] = {}


def scene(act: Scene) -> Scene:
    SCENES[act.__name__] = act
    return act


def secret_of(exchange: Exchange) -> str:
    """The key as the client sent it."""
    line = next(line for line in exchange.asked.head.split(b"\r\n") if line.lower().startswith(b"authorization:"))
    return line.split(b" ")[-1].decode()


@scene
async def hello(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.event({"delta": {"role": "assistant", "content": ""}})
    for word in WORDS:
        await exchange.text(word)
    await exchange.finish()


@scene
async def comments(exchange: Exchange) -> None:
    """As servers send that keep the connection alive meanwhile, with other line ends, and cut anywhere."""
    await exchange.head()
    body = ": PROCESSING\r\n\r\nevent: x\r\nid: 7\r\n" + "".join(
        'data: {"choices":\r\ndata: [{"delta": {"content": ' + json.dumps(word) + "}}]}\r\n\r\n" for word in ("né", "e")
    )
    for byte in body.encode():
        await exchange.chunk(bytes([byte]))
    await exchange.finish()


@scene
async def length(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("so far")
    await exchange.finish("length", usage=False)


@scene
async def done_only(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("all")
    await exchange.finish(None, usage=False)


@scene
async def without_done(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("all")
    await exchange.event({"delta": {}, "finish_reason": "stop"})
    await exchange.send(b"0\r\n\r\n")


@scene
async def plain_json(exchange: Exchange) -> None:
    message = {"role": "assistant", "content": "all at once"}
    body = {
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    await exchange.answer("200 OK", json.dumps(body).encode())


@scene
async def bad_key(exchange: Exchange) -> None:
    await exchange.error("401 Unauthorized", f"Incorrect API key provided: {secret_of(exchange)}.")


@scene
async def forbidden(exchange: Exchange) -> None:
    await exchange.answer("403 Forbidden", f"<html>{secret_of(exchange)}</html>".encode(), "text/html")


@scene
async def bad_request(exchange: Exchange) -> None:
    secret = secret_of(exchange)
    said = f"Unknown field 'x' (sent with {secret}, or {secret.upper()}, {secret[:-3]}); \x1b[31m\nsee the manual"
    await exchange.error("400 Bad Request", said)


@scene
async def busy(exchange: Exchange) -> None:
    wait = " ".join(exchange.asked.words[1:])
    await exchange.error("429 Too Many Requests", "Slow down", *([f"Retry-After: {wait}"] if wait else []))


@scene
async def no_credit(exchange: Exchange) -> None:
    await exchange.error("429 Too Many Requests", "You exceeded your current quota", code="insufficient_quota")


@scene
async def broken(exchange: Exchange) -> None:
    await exchange.answer("502 Bad Gateway", f"<html>{secret_of(exchange)}</html>".encode(), "text/html")


@scene
async def overloaded(exchange: Exchange) -> None:
    await exchange.error("503 Service Unavailable", "Loading model", "Retry-After: 7")


@scene
async def unknown_model(exchange: Exchange) -> None:
    await exchange.error("404 Not Found", "The model `gpt-9` does not exist", code="model_not_found")


@scene
async def ollama_unknown_model(exchange: Exchange) -> None:
    await exchange.error("404 Not Found", "model 'x' not found", type="api_error")


@scene
async def wrong_place(exchange: Exchange) -> None:
    await exchange.answer("404 Not Found", b"404 page not found", "text/plain")


@scene
async def too_long(exchange: Exchange) -> None:
    await exchange.error("400 Bad Request", "This model's maximum context length is 8", code="context_length_exceeded")


@scene
async def vllm_too_long(exchange: Exchange) -> None:
    body = {"object": "error", "message": "This model's maximum context length is 8", "type": "BadRequestError"}
    await exchange.answer("400 Bad Request", json.dumps(body).encode())


@scene
async def filtered_before(exchange: Exchange) -> None:
    await exchange.error("400 Bad Request", "The response was filtered", code="content_filter")


@scene
async def filtered_at_once(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.finish("content_filter")


@scene
async def filtered_midway(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("It is")
    await exchange.finish("content_filter")


@scene
async def redirect(exchange: Exchange) -> None:
    await exchange.answer("307 Temporary Redirect", b"", "text/plain", f"Location: {exchange.api.base_url}/elsewhere")


@scene
async def web_page(exchange: Exchange) -> None:
    await exchange.answer("200 OK", b"<!doctype html><title>Sign in</title>", "text/html; charset=utf-8")


@scene
async def disguised_page(exchange: Exchange) -> None:
    await exchange.answer("200 OK", b"data: <!doctype html>\n\n", "text/event-stream")


@scene
async def no_events(exchange: Exchange) -> None:
    await exchange.answer("200 OK", b"Welcome!", "text/plain")


@scene
async def malformed(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("Well")
    await exchange.chunk(b'data: {"choices": [{"delta": {"content": 7}}]}\n\n')
    await trio.sleep_forever()


@scene
async def not_json(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.chunk(b"data: {\xff\n\n")
    await trio.sleep_forever()


@scene
async def empty(exchange: Exchange) -> None:
    await exchange.answer("200 OK", b"", "text/event-stream")


@scene
async def done_at_once(exchange: Exchange) -> None:
    await exchange.answer("200 OK", b"data: [DONE]\n\n", "text/event-stream")


@scene
async def huge_line(exchange: Exchange) -> None:
    await exchange.head()
    await flood(exchange, b'data: {"choices": [{"delta": {"content": "', b"x" * 65536)


@scene
async def huge_json(exchange: Exchange) -> None:
    await exchange.head("200 OK", "application/json")
    await flood(exchange, b"{", b" " * 65536)


async def flood(exchange: Exchange, start: bytes, again: bytes) -> None:
    await exchange.chunk(start)
    for _ in range(1000):  # 64 MiB, of which no more is taken than has to be
        await exchange.chunk(again)
        exchange.api.written += len(again)


@scene
async def compressed(exchange: Exchange) -> None:
    await exchange.head("200 OK", "text/event-stream", "content-encoding: gzip")
    await exchange.chunk(b"\x1f\x8b")
    await trio.sleep_forever()


@scene
async def error_event(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("Well")
    said = {"error": {"message": f"The server had an error, {secret_of(exchange)}", "type": "server_error"}}
    await exchange.chunk(b"data: " + json.dumps(said).encode() + b"\n\n")
    await trio.sleep_forever()


@scene
async def silent(exchange: Exchange) -> None:
    await trio.sleep_forever()


@scene
async def only_comments(exchange: Exchange) -> None:
    await exchange.head()
    while True:
        await exchange.chunk(b": keep-alive\n\n")
        await trio.sleep(0.02)


@scene
async def stalls(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("And then")
    await trio.sleep_forever()


@scene
async def cut(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.text("And th")
    await trio.aclose_forcefully(exchange.stream)


@scene
async def ends_early(exchange: Exchange) -> None:
    """The HTTP is in order, and the answer isn't."""
    await exchange.head()
    await exchange.text("And th")
    await exchange.send(b"0\r\n\r\n")


@scene
async def hangs_up(exchange: Exchange) -> None:
    await trio.aclose_forcefully(exchange.stream)


@scene
async def no_http(exchange: Exchange) -> None:
    await exchange.send(b"SSH-2.0-OpenSSH_9.9 " + secret_of(exchange).encode() + b"\r\n\r\n")
    await trio.sleep_forever()


@scene
async def endless(exchange: Exchange) -> None:
    """As fast as it is taken, for as long as anybody listens."""
    await exchange.head()
    piece = "wort " * 200
    while True:
        await exchange.text(piece)
        exchange.api.written += len(piece)


@scene
async def talkative(exchange: Exchange) -> None:
    """A word every so often, for as long as anybody listens."""
    await exchange.head()
    while True:
        await exchange.text("wort ")
        await trio.sleep(0.02)


@contextmanager
def little_api() -> Iterator[LittleApi]:
    """One in a thread, for tests that are not async, and for other processes."""
    api = LittleApi()
    started = threading.Event()
    token: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(api.run)
                token.append((trio.lowlevel.current_trio_token(), scope))
                started.set()

    thread = threading.Thread(target=trio.run, args=(main,), daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield api
    finally:
        token[0][0].run_sync_soon(token[0][1].cancel)
        thread.join(30)
