"""Commands: what a node asks of Redis, over one connection, without waiting.

Knows nothing of what the commands mean. `send` appends to an outbox; one task writes all that is pending in one go,
another hands the answers to the callbacks in the same order. So commands reach Redis in the order in which they were
sent, and a thousand of them cost one write: a tenth of what a pipeline of coredis costs, whose default retries would
write twice besides. Nothing is ever sent twice here.

Every callback is called once, within PATIENCE and a moment: with the answer, or with a Refusal (Redis said no) or
Unreachable (it wasn't sent, or was and the answer is not known). The outbox is bounded in commands and bytes; what
finds it full is Unreachable at once. Each new connection first runs `prepare`; nothing else is sent before that is
done. A connection is given up when it has been silent for PATIENCE with something to answer (a frozen Redis is
noticed), and when Redis says that another server is to be asked.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import hiredis
import structlog
import trio

from .address import Connector
from .faults import Refusal, Unreachable
from .link import ENDING, READ_SIZE, AskAll, Link, Questions, ask_all, until_one_fails
from .resp import Word, encode, new_reader

PATIENCE: Final = 2.0
"""Seconds that a command may take, waiting for a link included."""

MAX_COMMANDS: Final = 10_000
MAX_BYTES: Final = 16 << 20
WRITE_SIZE: Final = 256 << 10
"""Bytes that are joined into one write."""
TICK: Final = 0.1
"""Seconds between two looks at what has waited too long."""
# Of trio's loop: in one it is seen that something has come, in the next it is read.
_PASSES: Final = 3
FLUSH_SECONDS: Final = 1.0
"""What is in the outbox at the end may take so long."""

NOT_HERE: Final = frozenset({"READONLY", "MOVED", "CLUSTERDOWN"})
"""What Redis refuses with when it is a replica now, serves something else, or is cut off from its cluster."""

Callback = Callable[[object], None]


class _Asked:
    __slots__ = ("born", "done", "packed")

    def __init__(self, packed: bytes, done: Callback | None, born: float) -> None:
        self.packed = packed
        self.done = done
        self.born = born


async def _tick() -> None:
    """Wait until it is time to look again, and until what has come by then was read.

    A process that stood still (stopped, or on a machine with no time for it) finds the time over and the answers there
    at the same moment: then it is not Redis that was silent.
    """
    due = trio.current_time() + TICK
    await trio.sleep_until(due)
    if trio.current_time() - due > TICK:
        for _ in range(_PASSES):
            await trio.lowlevel.checkpoint()


def ignore(answer: object) -> None:
    """For commands whose answer nobody needs."""


class Commands:
    """One node's connection for commands, and what waits for it.

    `name` is what CLIENT LIST shows. `prepare` says on each new connection what must be said first, after the greeting:
    it is handed what asks several things at once, and raises Refusal at the first error.
    """

    def __init__(
        self,
        connector: Connector,
        *,
        name: str = "",
        purpose: str = "commands",
        prepare: Callable[[AskAll], Awaitable[None]] | None = None,
        log: structlog.typing.FilteringBoundLogger | None = None,
        max_commands: int = MAX_COMMANDS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._link = Link(connector, name=name, purpose=purpose, log=log)
        self._prepare = prepare
        self._log = log
        self.max_commands = max_commands
        self._max_bytes = max_bytes
        self._outbox: deque[_Asked] = deque()
        self._flight: deque[_Asked] = deque()
        self._waiting: deque[_Asked] = deque()  # both, in the order of their age; answered ones linger a moment
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._heard = 0.0
        self._ended = False
        self.tried = trio.Event()
        """Set when the first connection was made, or was tried in vain."""
        self.trouble: str | None = "This node has not reached Redis yet."
        self.pending = 0
        self.pending_bytes = 0
        self.refused = 0
        self.late = 0

    @property
    def origin(self) -> str:
        """Which server the connection leads to, or led to last; see Connector."""
        return self._link.origin

    @property
    def heard_at(self) -> float:
        """When an answer came last, or later; on a new connection while it is prepared: of the one before."""
        return self._heard

    @property
    def reconnects(self) -> int:
        """How often a connection was lost."""
        return self._link.losses

    def send(self, *words: Word, done: Callback = ignore) -> None:
        """Send a command; `done` is called with its answer, once (before this returns where the outbox is full)."""
        asked = _Asked(encode(words), done, trio.current_time())
        size = len(asked.packed)
        self.pending += 1
        self.pending_bytes += size
        if self._ended:
            self._refuse(asked, ENDING)
            return
        # One command of any size is let through, so that a large one isn't refused for ever.
        if self.pending > self.max_commands or size < self.pending_bytes > self._max_bytes:
            self._refuse(asked, "too much waits for Redis already")
            return
        self._outbox.append(asked)
        self._waiting.append(asked)
        self._wake.set()

    async def ask(self, *words: Word) -> object:
        """Send a command and wait for the answer. Raises Refusal or Unreachable. Cancelling is safe: the command may
        still be carried out."""
        answered = trio.Event()
        answers: list[object] = []

        def done(answer: object) -> None:
            answers.append(answer)
            answered.set()

        self.send(*words, done=done)
        await answered.wait()
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a connection until cancelled; `started` once the first was tried. What is in the outbox then is sent
        and answered within FLUSH_SECONDS; what is not, and what comes later, is refused."""
        inside = trio.CancelScope(shield=True)
        self._ended = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_connected, inside)
                try:
                    await self.tried.wait()
                    task_status.started()
                    await self._watch()
                finally:
                    with trio.move_on_after(FLUSH_SECONDS, shield=True):
                        self._idle = trio.Event()
                        if self.pending and self.trouble is None:
                            await self._idle.wait()
                    inside.cancel()
        finally:
            self._ended = True
            for asked in list(self._waiting):
                if asked.done is not None:
                    self._refuse(asked, ENDING)

    async def _keep_connected(self, inside: trio.CancelScope) -> None:
        with inside:
            await self._link.keep(self._use, self._on_down)

    async def _use(self, stream: trio.abc.Stream) -> None:
        if self._prepare is not None:

            async def ask(questions: Questions) -> list[object]:
                return await ask_all(stream, questions)

            with trio.fail_after(PATIENCE):
                await self._prepare(ask)
        self.trouble = None
        self._link.is_up()
        self.tried.set()
        self._heard = trio.current_time()
        reader = new_reader()
        await until_one_fails(partial(self._read, stream, reader), self._notice_silence, partial(self._write, stream))

    async def _write(self, stream: trio.abc.Stream) -> None:
        while True:
            if not self._outbox:
                self._wake = trio.Event()
                await self._wake.wait()
            data = self._take()
            if data:
                await stream.send_all(data)

    def _take(self) -> bytes:
        """The next write. What it holds counts as sent from here on, whatever becomes of it."""
        parts: list[bytes] = []
        size = 0
        if not self._flight:
            self._heard = trio.current_time()
        while self._outbox and size < WRITE_SIZE:
            asked = self._outbox.popleft()
            if asked.done is None:
                continue  # refused meanwhile
            parts.append(asked.packed)
            size += len(asked.packed)
            self._flight.append(asked)
        return b"".join(parts)

    async def _read(self, stream: trio.abc.Stream, reader: hiredis.Reader) -> None:
        while True:
            while (answer := reader.gets()) is not False:
                if not self._flight:
                    raise Unreachable("it answered what was not asked")
                asked = self._flight.popleft()
                if asked.done is None:
                    self.late += 1
                else:
                    self._finish(asked, answer)
                if answer.__class__ is Refusal and answer.word in NOT_HERE:
                    raise Unreachable(f"it says that another server is to be asked ({answer.word})")
            data = await stream.receive_some(READ_SIZE)
            if not data:
                raise Unreachable("it closed the connection")
            self._heard = trio.current_time()
            reader.feed(bytes(data))

    async def _notice_silence(self) -> None:
        while True:
            await _tick()
            if self._flight and trio.current_time() - self._heard > PATIENCE:
                raise Unreachable(f"it has not answered for {PATIENCE:g} s")

    async def _watch(self) -> None:
        """Refuse what has waited too long, sent or not."""
        while True:
            await _tick()
            before = trio.current_time() - PATIENCE
            while self._waiting and (self._waiting[0].done is None or self._waiting[0].born <= before):
                asked = self._waiting.popleft()
                if asked.done is not None:
                    self._refuse(asked, "Redis doesn't answer")

    def _on_down(self, why: str) -> None:
        self.trouble = f"Redis cannot be used: {why}."
        self.tried.set()
        flight, self._flight = self._flight, deque()
        for asked in flight:
            if asked.done is not None:
                self._refuse(asked, "the connection to Redis was lost before it answered")

    def _refuse(self, asked: _Asked, why: str) -> None:
        self.refused += 1
        self._finish(asked, Unreachable(why))

    def _finish(self, asked: _Asked, answer: object) -> None:
        done, asked.done = asked.done, None
        assert done is not None
        self.pending -= 1
        if not self.pending:
            self._idle.set()
        self.pending_bytes -= len(asked.packed)
        try:
            done(answer)
        except Exception:
            if self._log is not None:
                self._log.exception("an answer of Redis was not handled")
