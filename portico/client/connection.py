"""A program's connection to the gateway over many links: find, connect, live, lose, wait, again.

Shared by the client, the worker and the requester, which differ only in what they do while a link stands. Knows the
reconnect advice of the close codes (`portico.wire.codes`), and nothing of a dialect. Promises:
- a connection that was closed with a code which says not to come back doesn't, and between two attempts there is a
  jittered delay;
- a call that waits for a link is never left waiting once no link will come any more: it gets the error that ended the
  connection.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Self

import trio

from portico.wire.codes import Advice, CloseCode, advice_for

from .address import Locate, locate
from .backoff import Attempts, Backoff, window_in
from .errors import ClientError, ConnectionLost, GaveUp, NotRunning, SentAway, Unreachable
from .events import Connecting, Lost, Report, Retrying, log_event
from .link import Link, LinkOptions, open_link
from .nursery import background_nursery


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the gateway is, and how links to it are made, and how patiently. `clock` measures, in seconds, how long a
    link held."""

    locate: Locate
    options: LinkOptions
    backoff: Backoff
    report: Report
    clock: Callable[[], float] = trio.current_time

    @classmethod
    def to(
        cls,
        base_url: str | None,
        url: str | None,
        *,
        path: str,
        max_message: int,
        options: LinkOptions | None,
        backoff: Backoff | None,
        report: Report | None,
    ) -> Self:
        """From what the program gave: `base_url` or `url`, and for the rest None where the default is good enough.

        `path`: of the role, empty for the one that discovery names; `max_message`: bytes of the largest message sent
        unless the options say otherwise. Raises BadAddress.
        """
        options = options or LinkOptions()
        if options.max_message is None:
            options = replace(options, max_message=max_message)
        found = locate(base_url=base_url, url=url, role_path=path, ssl_context=options.ssl_context)
        return cls(found, options, backoff or Backoff(), report or log_event)

    async def keep(self, live: Callable[[Link], Awaitable[None]]) -> None:
        """Run `live` on one link after another until it returns by itself.

        Raises SentAway where the close code says not to come back, GaveUp when `backoff.max_attempts` have failed in a
        row (the last failure is its cause), and at once what no retry helps against (BadAddress, HandshakeRefused, or
        what else `live` raises). Cancelling is safe: it closes the link.
        """
        attempts = Attempts(self.backoff)
        while True:
            self.report(Connecting(self.locate.where, attempts.failures + 1))
            started: float | None = None
            window: float | None = None
            at_least = 0.0
            try:
                address = await self.locate.find()
                async with open_link(address, self.options, self.report) as link:
                    started = self.clock()
                    await live(link)
                    return
            except ConnectionLost as lost:
                advice = advice_for(lost.code)
                if advice is Advice.NO:
                    meaning = next(known.meaning for known in CloseCode if known == lost.code)
                    raise SentAway(lost.code, lost.reason, meaning) from lost
                if advice is Advice.SPREAD:
                    window = window_in(lost.reason)
                failure: Exception = lost
            except Unreachable as unreachable:
                at_least = unreachable.retry_after
                failure = unreachable
            attempts.record(0.0 if started is None else self.clock() - started)
            self.report(Lost(failure))
            if attempts.exhausted:
                raise GaveUp(attempts.failures, failure) from failure
            delay = attempts.delay(window=window, at_least=at_least)
            self.report(Retrying(delay))
            await trio.sleep(delay)


class CurrentLink:
    """The link of the moment, for a program whose calls come from other tasks than its reader.

    `on_end` is called with the error once no link will come any more.
    """

    def __init__(self, on_end: Callable[[ClientError], None]) -> None:
        self._on_end = on_end
        self._link: Link | None = None
        self._ended: ClientError | None = NotRunning("It must be used inside `async with`.")
        self._changed = trio.Event()

    def up(self, link: Link) -> None:
        """From now on `link` can be used."""
        self._link = link
        self._notify()

    def down(self) -> None:
        """The link is gone; another may come."""
        self._link = None

    async def get(self) -> Link:
        """The usable link, waited for. Raises what ended the connection. Cancelling is safe."""
        while self._link is None:
            if self._ended is not None:
                # One error may end a thousand calls, and each raise would lengthen its traceback.
                raise self._ended.with_traceback(None)
            await self._changed.wait()
        return self._link

    @asynccontextmanager
    async def running(self, connection: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
        """Run `connection` behind the body, which begins when the first link is usable.

        Raises what ended the connection before that. Cancelling is safe.
        """
        self._ended = None
        async with background_nursery() as nursery:
            nursery.start_soon(self._run, connection)
            try:
                await self.get()
                yield
            finally:
                self._end(NotRunning("It was closed."))

    async def _run(self, connection: Callable[[], Awaitable[None]]) -> None:
        try:
            await connection()
        except ClientError as error:
            self._end(error)

    def _end(self, error: ClientError) -> None:
        if self._ended is None:
            self._ended = error
            self._link = None
            self._on_end(error)
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
