"""One connection to Redis, from dialling to its end: what the links for commands and for subscriptions have in common.

Knows how a connection begins (dialled, greeted, both within OPEN_SECONDS), when it is made anew (after a back-off
that starts again once a link has been of use), and what is said of it: one log line when it is lost, one for each new
reason why it cannot be made, one when it is back. Knows nothing of what is said on it in between.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NoReturn

import structlog
import trio

from service.backoff import Backoff

from .address import Address, Connector
from .faults import MalformedReply, Refusal, Unreachable, reason, refused
from .resp import Command, encode, new_reader

OPEN_SECONDS: Final = 2.0
"""Seconds to connect and to be greeted."""
FOLLOW_EVERY: Final = 1.0
"""Seconds between two looks whether another server is to be used by now, at most."""
FIRST_DELAY: Final = 0.05
LONGEST_DELAY: Final = 1.0
READ_SIZE: Final = 256 << 10
ENDING: Final = "this node is ending"

Questions = Sequence[Command]
AskAll = Callable[[Questions], Awaitable[list[object]]]


async def ask_all(stream: trio.abc.Stream, questions: Questions) -> list[object]:
    """The answers to some commands, on a connection that nothing else uses meanwhile. Raises Refusal at the first
    error, Unreachable, and what a stream raises; has no time limit of its own."""
    reader = new_reader()
    answers: list[object] = []
    if questions:
        await stream.send_all(b"".join(map(encode, questions)))
    while len(answers) < len(questions):
        data = await stream.receive_some(READ_SIZE)
        if not data:
            raise Unreachable("it closed the connection")
        reader.feed(bytes(data))
        while (answer := reader.gets()) is not False:
            if len(answers) == len(questions):
                raise MalformedReply("more answers than questions")
            if isinstance(answer, Refusal):
                raise refused(str(questions[len(answers)][0]), answer)
            answers.append(answer)
    return answers


async def open_link(connector: Connector, name: str = "") -> trio.abc.Stream:
    """A new connection that has been greeted; `name` is what CLIENT LIST shows. Raises one of FAULTS; the caller limits
    the time. Cancelling is safe."""
    stream = await connector.dial()
    try:
        await ask_all(stream, connector.greeting(name))
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def ask_once(address: Address, questions: Questions, *, seconds: float) -> list[object]:
    """The answers of one server, by a connection of their own. Raises one of FAULTS."""
    with trio.fail_after(seconds):
        stream = await address.dial()
        try:
            return await _ask_logged_in(address, stream, questions)
        finally:
            await trio.aclose_forcefully(stream)


async def dial_if(
    address: Address, questions: Questions, check: Callable[[list[object]], None], *, seconds: float
) -> trio.abc.Stream:
    """A connection whose other end has answered so that `check` did not raise; it has yet to be greeted."""
    with trio.fail_after(seconds):
        stream = await address.dial()
        try:
            check(await _ask_logged_in(address, stream, questions))
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    return stream


async def _ask_logged_in(address: Address, stream: trio.abc.Stream, questions: Questions) -> list[object]:
    login = [command for command in address.greeting("") if command[0] == "AUTH"]
    answers = await ask_all(stream, [*login, *questions])
    return answers[len(login) :]


async def until_one_fails(*tasks: Callable[[], Awaitable[None]]) -> None:
    """Run these side by side until one of them raises; the others are cancelled, and what it raised is raised. Should
    all of them return, so does this."""
    failures: list[Exception] = []
    async with trio.open_nursery() as nursery:

        async def run(task: Callable[[], Awaitable[None]]) -> None:
            try:
                await task()
            except Exception as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        for task in tasks:
            nursery.start_soon(run, task)
    if failures:
        raise failures[0]


class Link:
    """One connection that is kept. `name` is what CLIENT LIST shows, `purpose` what the log says; `follow`: ask every
    second whether another server is to be used.

    `origin` tells which server it leads to (see Connector); `losses` counts connections that were of use and ended.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        name: str,
        purpose: str,
        follow: bool = True,
        log: structlog.typing.FilteringBoundLogger | None = None,
    ) -> None:
        self._connector = connector
        self._name = name
        self._purpose = purpose
        self._follows = follow
        self._log = log
        self._backoff = Backoff(FIRST_DELAY, LONGEST_DELAY, jitter=0.5)
        self._up = False
        self._why = ""
        self.origin = ""
        self.losses = 0

    def is_up(self) -> None:
        """The connection is of use: all that had to be said first was answered."""
        if self._log is not None and not self._up:
            self._log.info("connected to Redis", purpose=self._purpose, again=self.losses > 0)
        self._up = True
        self._why = ""
        self._backoff.reset()

    async def keep(self, use: Callable[[trio.abc.Stream], Awaitable[None]], on_down: Callable[[str], None]) -> NoReturn:
        """Make a connection, have it used until `use` raises, and make the next one, until cancelled. `on_down` is told
        each time one has ended, or could not be made: why, as a clause."""
        while True:
            why = ENDING
            try:
                await self._use_one(use)
                why = "it is not wanted any more"
            except Exception as error:
                why = reason(error, OPEN_SECONDS)
            finally:
                self._is_down(why)
                on_down(why)
            await trio.sleep(self._backoff.pause())

    async def _use_one(self, use: Callable[[trio.abc.Stream], Awaitable[None]]) -> None:
        with trio.fail_after(OPEN_SECONDS):
            stream = await open_link(self._connector, self._name)
        try:
            self.origin = self._connector.origin(stream)
            await until_one_fails(partial(use, stream), self._follow)
        finally:
            await trio.aclose_forcefully(stream)

    async def _follow(self) -> None:
        """Give the connection up when another server is to be used. One that has been demoted may not know it yet, and
        goes on accepting what will be lost."""
        while self._follows and self.origin:
            await trio.sleep(FOLLOW_EVERY * random.uniform(0.5, 1.0))
            if (why := await self._connector.moved(self.origin)) is not None:
                raise Unreachable(why)

    def _is_down(self, why: str) -> None:
        if self._log is not None and why != ENDING:
            if self._up:
                self._log.warning("the connection to Redis was lost", purpose=self._purpose, reason=why)
            elif why != self._why:
                self._log.warning("cannot connect to Redis", purpose=self._purpose, reason=why)
        self.losses += self._up
        self._up = False
        self._why = why
