"""Supervisor: several processes on the same ports, each brought back when it dies, all replaced on SIGHUP.

    SIGTERM, SIGINT   everybody drains; a second one ends everything at once
    SIGHUP            one after another: a new process takes over the sockets, and the old one drains

Exit code: 0 when it was told to end and every process ended by itself, 1 when it gave up or had to kill, 2 when
it could not start, or no process can with what was given (an extension that cannot be imported, for example). It never
holds a connection, never imports the gateway, and never outlives its processes; they end when it does, whatever ended
it.
"""

import signal
import sys
from collections.abc import Sequence
from typing import Final

import trio
from structlog.typing import FilteringBoundLogger

from service.backoff import Backoff

from .child import Child
from .ports import Ports, PortTaken, Sockets, close
from .private_redis import PrivateRedis
from .process import Process, how

FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0
STEADY_AFTER: Final = 30.0
"""Seconds that a process must run before its end is no part of a series."""
MOST_FAILURES: Final = 5
"""Starts in a row that may fail before the supervisor gives up."""
START_LIMIT: Final = 60.0
"""Seconds in which a process must have opened its ports, and a replacement must be ready."""
DRAIN_MARGIN: Final = 10.0
"""Seconds after the drain's window in which a process must have ended."""
AT_ONCE: Final = 1.0
_LONGEST_NAME: Final = 100
_CANNOT_START: Final = 2
"""How a process ends that cannot start with what it was given: trying again changes nothing."""


class Series:
    """Ends in a row: how long to wait before the next start, and when there have been too many."""

    def __init__(self) -> None:
        self.failures = 0
        self._backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)

    def ended(self, *, started: bool, after: float) -> float:
        """It ended, `after` so many seconds, having `started` properly or not. Returns the seconds to wait."""
        self.failures = 0 if started else self.failures + 1
        if after >= STEADY_AFTER:
            self._backoff.reset()
        return self._backoff.pause()


class Slot:
    """The place of one process: its sockets, who has it now, and who is about to take it over."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sockets: Sockets = {}
        self.child: Child | None = None
        self.successor: Child | None = None
        self.series = Series()
        self._starts = 0

    def next_name(self, node: str) -> str:
        """A name that no process had before: for a while, the old and the new are both there."""
        self._starts += 1
        return f"{node}-{self.number}" if self._starts == 1 else f"{node}-{self.number}.{self._starts}"


class Supervisor:
    """Runs, once, `workers` processes of `portico serve` with `options`. They share `ports`, and `redis` if given."""

    def __init__(
        self,
        *,
        workers: int,
        name: str,
        options: Sequence[str],
        ports: Ports,
        redis: PrivateRedis | None,
        drain_seconds: float,
        log: FilteringBoundLogger,
    ) -> None:
        self._slots = [Slot(number) for number in range(1, workers + 1)]
        self._name = name[:_LONGEST_NAME]
        self._options = options
        self._ports = ports
        self._redis = redis
        self._redis_process: Process | None = None
        self._drain_limit = drain_seconds + DRAIN_MARGIN
        self._log = log
        self._children: set[Child] = set()
        self._nobody = trio.Event()
        self._stop = trio.Event()
        self._at_once = trio.Event()
        self._roll_asked = trio.Event()
        # What must not go on once everything ends.
        self._rolling = trio.CancelScope()
        self._keeping_redis = trio.CancelScope()
        self._code = 0
        self._anybody_started = False
        self._nursery: trio.Nursery

    async def run(self) -> int:
        """Until it is told to end, or gives up. Returns the exit code. Cancelling leaves processes behind."""
        try:
            return await self._run()
        finally:
            if self._redis is not None:
                self._redis.remove()

    async def _run(self) -> int:
        try:
            await self._ports.claim()
            for slot in self._slots:
                slot.sockets = await self._ports.open(listening=True)
        except (PortTaken, OSError) as error:
            sys.stderr.write(f"portico: {error}\n")
            self._close_ports()
            return 2
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self._heed_signals)
            if self._redis is None or await self._start_redis(self._redis):
                self._log.info("supervising", processes=len(self._slots), **self._ports.numbers)
                for slot in self._slots:
                    self._fill(slot)
                self._nursery.start_soon(self._roll)
                await self._stop.wait()
                await self._end()
            self._nursery.cancel_scope.cancel()
        return self._code

    # Processes

    def _fill(self, slot: Slot) -> None:
        """Start a process in a slot that has none."""
        try:
            slot.child = self._start(slot)
        except OSError as error:
            self._failed(slot, f"it cannot be started: {error}", slot.series.ended(started=False, after=0.0))

    def _start(self, slot: Slot) -> Child:
        url = None if self._redis is None else self._redis.url
        child = Child(slot.next_name(self._name), self._options, slot.sockets, url)
        self._children.add(child)
        self._log.info("process started", node=child.name, pid=child.pid)
        self._nursery.start_soon(child.watch, lambda child: self._ended(slot, child))
        self._nursery.start_soon(self._see_it_start, child)
        return child

    async def _see_it_start(self, child: Child) -> None:
        with trio.move_on_after(START_LIMIT) as patience:
            await child.started.wait()
            self._anybody_started = True
        if patience.cancelled_caught and not child.ended.is_set():
            child.failure = f"its ports were not open after {START_LIMIT:g} s"
            child.kill()

    def _ended(self, slot: Slot, child: Child) -> None:
        self._children.discard(child)
        if not self._children:
            self._nobody.set()
        if child.dismissed:
            if child.code != 0 and self._stop.is_set():
                self._code = self._code or 1
            self._log.info("process ended", node=child.name, pid=child.pid, how=how(child.code))
            return
        self._log.error("process died", node=child.name, pid=child.pid, how=how(child.code))
        if slot.successor is child:
            slot.successor = None
        elif slot.successor is not None:
            slot.child, slot.successor = slot.successor, None  # it is there already
        elif not self._stop.is_set():
            slot.child = None
            # Nobody would take those who wait in its queues, or come to them: the others have queues of their own.
            close(slot.sockets)
            slot.sockets = {}
            after = trio.current_time() - child.begun
            if child.failure and child.code == _CANNOT_START and not self._anybody_started:
                self._give_up(f"no process can start: {child.failure}", code=_CANNOT_START)
                return
            self._failed(
                slot,
                child.failure or f"it ended with {how(child.code)}",
                slot.series.ended(started=child.started.is_set(), after=after),
            )

    def _failed(self, slot: Slot, why: str, delay: float) -> None:
        if slot.series.failures >= MOST_FAILURES:
            self._give_up(f"process {slot.number} failed to start {MOST_FAILURES} times in a row: {why}")
        else:
            self._log.warning("process restarting", slot=slot.number, in_seconds=delay)
            self._nursery.start_soon(self._refill, slot, delay)

    async def _refill(self, slot: Slot, delay: float) -> None:
        await trio.sleep(delay)
        try:
            slot.sockets = await self._ports.open(listening=False)
        except OSError as error:
            self._failed(slot, str(error), slot.series.ended(started=False, after=0.0))
        else:
            if not self._stop.is_set():
                self._fill(slot)

    # Rolling restart

    async def _roll(self) -> None:
        with self._rolling:
            while True:
                await self._roll_asked.wait()
                self._roll_asked = trio.Event()
                self._log.info("rolling restart")
                for slot in self._slots:
                    if slot.child is not None and not await self._replace(slot):
                        self._log.error("rolling restart given up", slot=slot.number)
                        break
                else:
                    self._log.info("rolling restart done")

    async def _replace(self, slot: Slot) -> bool:
        """Have a new process take over a slot. False, and the old one stays, if the new one doesn't get ready."""
        old = slot.child
        try:
            new = slot.successor = self._start(slot)
        except OSError as error:
            self._log.error("process cannot be started", slot=slot.number, error=str(error))
            return False
        with trio.move_on_after(START_LIMIT):
            await new.settled.wait()
        if slot.successor is new and not new.ready:
            slot.successor = None
            new.dismissed = True
            new.kill()
        if new.ended.is_set() or not new.ready:
            return False
        if old is not None and slot.successor is new:
            slot.child, slot.successor = new, None
            await old.tell("hand over")
            with trio.move_on_after(self._drain_limit):
                await old.ended.wait()
            if not old.ended.is_set():
                self._log.warning("process killed", node=old.name, reason="it did not drain in time")
                old.kill()
        return True

    # The end

    def _give_up(self, sentence: str, *, code: int = 1) -> None:
        self._log.error("giving up", reason=sentence)
        self._code = code
        self._stop.set()

    async def _end(self) -> None:
        """Have everybody drain, and see that they do."""
        self._rolling.cancel()
        self._nobody = trio.Event()
        self._log.info("stopping", processes=len(self._children))
        for child in list(self._children):
            await child.tell("drain")
        self._close_ports()
        with trio.move_on_after(self._drain_limit):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_at_once)
                if self._children:
                    await self._nobody.wait()
                nursery.cancel_scope.cancel()
        for child in self._children:
            self._log.warning("process killed", node=child.name, reason="it did not end in time")
            self._code = 1
            child.kill()
        for child in list(self._children):
            await child.ended.wait()
        await self._end_redis()
        self._log.info("stopped")

    async def _stop_at_once(self) -> None:
        await self._at_once.wait()
        self._log.warning("stopping at once")
        self._code = 1
        for child in list(self._children):
            await child.tell("stop")
        await trio.sleep(AT_ONCE)
        for child in self._children:
            child.kill()

    def _close_ports(self) -> None:
        for slot in self._slots:
            close(slot.sockets)
            slot.sockets = {}

    async def _heed_signals(self, *, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGHUP:
                    self._roll_asked.set()
                elif self._stop.is_set():
                    self._at_once.set()
                else:
                    self._stop.set()

    # Redis

    async def _start_redis(self, redis: PrivateRedis) -> bool:
        self._redis_process = redis.start()
        if not await redis.up():
            self._give_up(f"redis-server did not answer: {redis.said()}")
            await self._end_redis()
            return False
        self._log.info("redis started", pid=self._redis_process.pid, url=redis.url)
        self._nursery.start_soon(self._keep_redis, redis)
        return True

    async def _keep_redis(self, redis: PrivateRedis) -> None:
        series = Series()
        with self._keeping_redis:
            while self._redis_process is not None:
                begun = trio.current_time()
                code = await self._redis_process.wait()
                after = trio.current_time() - begun
                delay = series.ended(started=after > LONGEST_DELAY, after=after)
                if series.failures >= MOST_FAILURES:
                    self._give_up(f"redis-server ended {MOST_FAILURES} times in a row: {redis.said()}")
                    return
                self._log.error("redis died", how=how(code), restarting_in=delay)
                await trio.sleep(delay)
                self._redis_process = redis.start()
                self._log.info("redis started", pid=self._redis_process.pid, url=redis.url)

    async def _end_redis(self) -> None:
        self._keeping_redis.cancel()
        process = self._redis_process
        if process is None:
            return
        process.terminate()
        with trio.move_on_after(AT_ONCE):
            await process.wait()
        process.kill()
