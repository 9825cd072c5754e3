"""A worker that answers `chat` as a model would, for the tests of the page and its pictures: what it says, and when, is
the test's to decide."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

from portico import CommandFailed, Worker

LIMIT: Final = 30.0


class Model:
    """Answers with `pieces`, then with its end; or with `error`. Where `pieces` has a None it waits for `go_on`.

    `asked`: the data of each request. `cancelled`: set once a request was taken back.
    """

    def __init__(self) -> None:
        self.pieces: list[str | None] = ["Hello ", "there."]
        self.error: str | None = None
        self.name = "test-model"
        self.tokens: int | None = None
        self.asked: list[dict[str, Any]] = []
        self.cancelled = threading.Event()
        self._gate = trio.Semaphore(0)
        self._thread: trio.lowlevel.TrioToken | None = None

    def go_on(self) -> None:
        """Let the answer go on after a None."""
        assert self._thread is not None, "nobody has asked"
        self._thread.run_sync_soon(self._gate.release)

    async def chat(self, data: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The command."""
        self.asked.append(data)
        if self.error is not None:
            raise CommandFailed(self.error)
        try:
            for piece in self.pieces:
                if piece is not None:
                    yield {"delta": piece}
                    continue
                await self._gate.acquire()
        except trio.Cancelled:
            self.cancelled.set()
            raise
        tokens = len(self.pieces) if self.tokens is None else self.tokens
        usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
        yield {"finish_reason": "stop", "model": self.name, "usage": usage, "time_to_first_token_ms": 12}

    async def echo(self, data: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Word by word."""
        for word in str(data["message"]).split(" "):
            yield {"delta": f"{word} "}

    @contextmanager
    def at(self, websocket_url: str, *commands: str, token: str | None = None) -> Iterator[None]:
        """Serve these commands (chat, unless named), from a thread, whatever becomes of the gateway."""
        served = {name: getattr(self, name) for name in commands or ("chat",)}
        connected, over = threading.Event(), threading.Event()
        trouble: list[BaseException] = []

        async def serve() -> None:
            self._thread = trio.lowlevel.current_trio_token()
            worker = Worker(
                url=websocket_url,
                commands=served,
                name="model",
                token=token,
                drain_seconds=0,
                on_event=lambda event: connected.set() if type(event).__name__ == "Connected" else None,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.run)
                await trio.to_thread.run_sync(over.wait, abandon_on_cancel=True)
                nursery.cancel_scope.cancel()

        def run() -> None:
            try:
                trio.run(serve)
            except BaseException as error:
                trouble.append(error)
                connected.set()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert connected.wait(LIMIT)
            yield
        finally:
            over.set()
            thread.join(LIMIT)
        assert not thread.is_alive()
        assert trouble == []
