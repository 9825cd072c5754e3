"""Lifespan: the app's start before anybody is served, and its end after everybody was.

An app that doesn't know ASGI's lifespan raises at it, and is served without; one that says that its start failed, or
fails as what needs asyncio does, keeps the gateway from starting.
"""

from collections.abc import Mapping
from typing import Any, Final

import trio

from service.asgi_types import Message

from .driven import Driven, Log, Watch
from .loading import SETTING, Loaded, OwnAppError, asyncio_sentence, needs_asyncio, where

STARTUP_SECONDS: Final = 60.0
SHUTDOWN_SECONDS: Final = 10.0


class Lifespan:
    """The lifespan of one app."""

    def __init__(self, loaded: Loaded, watch: Watch, log: Log) -> None:
        self.state: dict[str, Any] = {}
        """What the app keeps for its requests."""
        self._loaded = loaded
        self._log = log
        self._scope = trio.CancelScope()
        self._watch = watch
        self._started = trio.Event()
        self._ending = trio.Event()
        self._ended = trio.Event()
        self._asked_to_start = False
        self._refused: str | None = None
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """The app's task for it. Raises nothing but cancellation."""
        try:
            with self._scope:
                await Driven(self._call(), "lifespan", self._watch, self._scope)
        except trio.Cancelled:
            raise
        except BaseException as error:
            self._failure = error
            if self._started.is_set():
                when = "while it ended" if self._ending.is_set() else "in its lifespan, and is served without"
                self._log(f"the app failed {when}", error=where(error))
        finally:
            self._ended.set()
            self._started.set()

    async def start(self) -> None:
        """Wait for the app to have started; `run` is under way. Raises OwnAppError."""
        with trio.move_on_after(STARTUP_SECONDS) as patience:
            await self._started.wait()
        name = self._loaded.name
        if patience.cancelled_caught:
            raise OwnAppError(f"{SETTING}={name} did not finish its start (lifespan) in {STARTUP_SECONDS:.0f} seconds.")
        if self._failure is not None and needs_asyncio(self._failure):
            raise OwnAppError(asyncio_sentence(name)) from self._failure
        if self._refused is not None:
            if any(words in self._refused for words in ("no running event loop", "unrecognized yield message")):
                raise OwnAppError(asyncio_sentence(name)) from self._failure
            raise OwnAppError(f"{SETTING}={name} could not start: {_last_line(self._refused)}.") from self._failure
        if self._failure is not None and self._asked_to_start:
            raise OwnAppError(f"{SETTING}={name} could not start: {where(self._failure)}.") from self._failure

    async def stop(self) -> bool:
        """Have the app end, or give it up. Whether it has ended, which it has if it was never there."""
        self._ending.set()
        with trio.move_on_after(SHUTDOWN_SECONDS):
            await self._ended.wait()
        if not self._ended.is_set():
            self._log("the app did not end in time", seconds=SHUTDOWN_SECONDS)
        return await self.cancel()

    async def cancel(self) -> bool:
        """Cancel it. Whether it has ended."""
        self._scope.cancel()
        with trio.move_on_after(1):
            await self._ended.wait()
        return self._ended.is_set()

    async def _call(self) -> None:
        await self._loaded.app(self._asked(), self._receive, self._send)

    def _asked(self) -> Message:
        return {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}

    async def _receive(self) -> Message:
        if not self._asked_to_start:
            self._asked_to_start = True
            await trio.lowlevel.checkpoint()
            return {"type": "lifespan.startup"}
        await self._ending.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.failed":
            self._refused = str(message.get("message") or "it did not say why")
        elif kind == "lifespan.shutdown.failed":
            self._log("the app failed while it ended", error=_last_line(str(message.get("message", ""))))
        if kind.startswith("lifespan.startup."):
            self._started.set()
        await trio.lowlevel.checkpoint()


def _last_line(text: str) -> str:
    """Of a traceback, what was raised; without its full stop."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it did not say why"
