"""The processes that carry a test, as the one that judges it sees them: itself alone, or locust's workers.

Knows locust's messages between processes. What a process counted is handed over once a second, and at the end, which
comes in three moves, so that nothing is lost or left out: all processes stop sending (hold); what is under way may
arrive (settle); what has not arrived has failed (finish). Only then do connections close.
"""

# Locust says that it is typed, but its event hooks are not.
# mypy: untyped-calls-exclude=locust

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import gevent
import msgspec
from gevent.event import Event
from locust.env import Environment
from locust.rpc import Message
from locust.runners import STATE_RUNNING, STATE_SPAWNING, MasterRunner, WorkerRunner

from loadtest import _stats
from loadtest._campaign import Campaign
from loadtest._ledger import Report
from loadtest._meter import Meter
from loadtest._publisher import Publisher

_PLAN: Final = "loadtest_plan"
_STAGE: Final = "loadtest_stage"
_HERE: Final = "loadtest_here"
_STORM: Final = "loadtest_storm"
_SETTLE: Final = "loadtest_settle"
_REPORT: Final = "loadtest_report"
_CLOCK: Final = "loadtest_clock"
_EVERY: Final = 1.0
_PINGS: Final = 8
LAST_REPORTS: Final = 5.0

OnReport = Callable[[str, Report], None]


class Crew(Protocol):
    """The processes that carry a test."""

    def begin(self, rate: float, addresses: int) -> None:
        """A test starts: `rate` users come per second, from so many local addresses."""

    def begin_stage(self, index: int, start: float, rate: float) -> None:
        """A stage begins."""

    def storm(self, share: float, window: float) -> None:
        """Have that share of the clients cut their connections, and come back within so many seconds."""

    def ask(self, *, final: bool) -> None:
        """Have every process hold, and, if `final`, finish; and report."""

    def collect(self) -> None:
        """Have every process report what it counted, if it does not by itself."""

    def quiet(self) -> bool:
        """Whether nothing is under way in any process, so far as their reports say."""

    def absent(self) -> int:
        """How many processes have not sent their final report."""

    def processes(self) -> int:
        """How many processes run users."""


class Work:
    """What a process that runs users does at the start and the end of a test, and what it has to report."""

    def __init__(self, campaign: Campaign, environment: Environment) -> None:
        self._campaign = campaign
        self._environment = environment
        self._publisher: Publisher | None = None
        self._meter: Meter | None = None

    def begin(self) -> None:
        """A test starts."""
        self.end(final=True)
        self._campaign.begin()
        self._meter = Meter(self._campaign)
        self._publisher = Publisher(self._campaign)

    def end(self, *, final: bool) -> None:
        """Hold; and, if `final`, finish."""
        self._campaign.hold()
        if final:
            if self._publisher is not None:
                self._publisher.give_up()
                self._publisher.close()
                self._publisher = None
            self._campaign.finish()
            if self._meter is not None:
                self._note()
                self._meter.close()
                self._meter = None

    def begin_stage(self, index: int, start: float) -> None:
        """A stage begins."""
        self._note()
        self._campaign.begin_stage(index, start)

    def report(self) -> Report:
        """What was counted since the last time; locust's statistics get it too."""
        campaign = self._campaign
        self._note()
        parts, strains, tally, faults = campaign.take()
        for part in parts.values():
            _stats.show(part, self._environment.stats)
        return Report(
            parts, strains, tally, faults,
            arrived=campaign.arrived,
            unanswered=campaign.unanswered(),
            held=campaign.held_at is not None,
            finished=campaign.finished,
            clock_offset=campaign.clock_offset,
            clock_error=campaign.clock_error,
        )  # fmt: skip

    def _note(self) -> None:
        if self._meter is not None:
            self._meter.note()
            self._campaign.note_strain()


class Solo:
    """The crew that is this process alone."""

    def __init__(self, campaign: Campaign, environment: Environment, on_report: OnReport) -> None:
        self._campaign = campaign
        self._work = Work(campaign, environment)
        self._on_report = on_report

    def begin(self, rate: float, addresses: int) -> None:
        campaign = self._campaign
        campaign.run, campaign.rate, campaign.source_addresses = campaign.mark(), rate, addresses
        self._work.begin()

    def begin_stage(self, index: int, start: float, rate: float) -> None:
        self.collect()
        self._campaign.rate = rate
        self._work.begin_stage(index, start)

    def storm(self, share: float, window: float) -> None:
        self._campaign.storm(share, window)

    def ask(self, *, final: bool) -> None:
        self._work.end(final=final)
        self.collect()

    def collect(self) -> None:
        self._on_report("local", self._work.report())

    def quiet(self) -> bool:
        return self._campaign.unanswered() == 0

    def absent(self) -> int:
        return 0

    def processes(self) -> int:
        return 1


class Workers:
    """The crew that is locust's workers; lives in the master."""

    def __init__(
        self, environment: Environment, runner: MasterRunner, mark: Callable[[], str], on_report: OnReport
    ) -> None:
        self._runner = runner
        self._mark = mark
        self._on_report = on_report
        self._plan: dict[str, Any] = {}
        self._last: dict[str, Report | None] = {}
        environment.events.worker_connect.add_listener(self._connected)
        runner.register_message(_REPORT, self._reported)
        runner.register_message(_CLOCK, self._clock)
        runner.register_message(_HERE, self._here)

    def begin(self, rate: float, addresses: int) -> None:
        self._last = dict.fromkeys(client.id for client in self._runner.clients.all if client.state != "missing")
        self._plan = {
            "run": self._mark(),
            "processes": max(1, len(self._last)),
            "rate": rate,
            "addresses": addresses,
            "stages": [],
            "boot": boot_id(),
        }
        self._runner.send_message(_PLAN, self._plan)

    def begin_stage(self, index: int, start: float, rate: float) -> None:
        self._plan["stages"].append((index, start))
        self._plan["rate"] = rate
        self._runner.send_message(_STAGE, {"index": index, "start": start, "rate": rate})

    def storm(self, share: float, window: float) -> None:
        self._runner.send_message(_STORM, {"share": share, "window": window})

    def ask(self, *, final: bool) -> None:
        self._runner.send_message(_SETTLE, {"final": final})

    def collect(self) -> None:
        """Nothing to do: workers report by themselves, once a second."""

    def quiet(self) -> bool:
        return all(report and report.held and not report.unanswered for report in self._last.values())

    def absent(self) -> int:
        return sum(not (report and report.finished) for report in self._last.values())

    def processes(self) -> int:
        return max(1, len(self._last) or self._runner.worker_count)

    def _connected(self, client_id: str, **_: object) -> None:
        if self._plan and client_id not in self._last:
            # It came when the test had begun already.
            self._last[client_id] = None
            self._runner.send_message(_PLAN, self._plan, client_id)

    def _here(self, msg: Message, **_: object) -> None:
        """A worker can hear messages only from now on: tell it the plan again, which it missed when it connected."""
        if self._plan:
            self._runner.send_message(_PLAN, self._plan, msg.node_id)

    def _reported(self, msg: Message, **_: object) -> None:
        report = msgspec.msgpack.decode(msg.data["report"], type=Report)
        if msg.data["run"] == self._plan.get("run"):
            self._last[msg.node_id] = report
            self._on_report(msg.node_id, report)

    def _clock(self, msg: Message, **_: object) -> None:
        self._runner.send_message(_CLOCK, {"asked": msg.data["asked"], "at": time.time()}, msg.node_id)


class Worker:
    """A worker's side: does the work, and reports to the master. The campaign's users wait until it lets them begin."""

    def __init__(self, environment: Environment, runner: WorkerRunner, campaign: Campaign) -> None:
        self._environment = environment
        self._runner = runner
        self._campaign = campaign
        self._work = Work(campaign, environment)
        self._stages: list[tuple[int, float]] = []
        self._asked: set[float] = set()
        self._offsets: list[tuple[float, float]] = []
        self._stopped = Event()
        self._stopped.set()
        runner.register_message(_PLAN, self._plan)
        runner.register_message(_STAGE, self._stage)
        runner.register_message(_STORM, self._storm)
        runner.register_message(_SETTLE, self._settle)
        runner.register_message(_CLOCK, self._clock)
        environment.events.test_start.add_listener(self._begin)
        environment.events.test_stop.add_listener(self._stop)
        environment.events.quitting.add_listener(self._quit)
        self._greenlet = gevent.spawn(self._keep_reporting)
        # Locust connects to the master before anybody can listen here, and the test may have begun by now.
        runner.send_message(_HERE, {})

    def _plan(self, msg: Message, **_: object) -> None:
        campaign = self._campaign
        is_new = campaign.run != msg.data["run"]
        known = [] if is_new else self._stages
        campaign.run = msg.data["run"]
        campaign.processes = msg.data["processes"]
        campaign.rate = msg.data["rate"]
        campaign.source_addresses = msg.data["addresses"]
        self._stages = [(index, start) for index, start in msg.data["stages"]]
        if is_new:
            campaign.may_begin.clear()
            if msg.data["boot"] == boot_id() != "":
                self._may_begin()
            else:
                gevent.spawn(self._compare_clocks)
        elif campaign.may_begin.is_set() and not self._stopped.is_set():
            for stage in self._stages:
                if stage not in known:
                    self._work.begin_stage(*stage)

    def _stage(self, msg: Message, **_: object) -> None:
        self._campaign.rate = msg.data["rate"]
        stage = msg.data["index"], msg.data["start"]
        self._stages.append(stage)
        if self._campaign.may_begin.is_set() and not self._stopped.is_set():
            self._work.begin_stage(*stage)

    def _begin(self, **_: object) -> None:
        """Locust's test has started; ours does when this process knows its plan, and the master's clock."""
        self._stopped.clear()
        if self._campaign.may_begin.is_set():
            self._begin_work()

    def _may_begin(self) -> None:
        if not self._stopped.is_set() or self._runner.state in (STATE_SPAWNING, STATE_RUNNING):
            self._stopped.clear()
            self._begin_work()
        self._campaign.may_begin.set()

    def _begin_work(self) -> None:
        self._work.begin()
        for stage in self._stages:
            self._work.begin_stage(*stage)

    def _storm(self, msg: Message, **_: object) -> None:
        self._campaign.storm(msg.data["share"], msg.data["window"])

    def _stop(self, **_: object) -> None:
        self._stopped.set()

    def _settle(self, msg: Message, **_: object) -> None:
        self._work.end(final=msg.data["final"])
        self._send()

    def _keep_reporting(self) -> None:
        sent, arrived = 0.0, -1
        while True:
            gevent.sleep(_EVERY / 5)
            # At once when users have come: the master waits for that.
            due = time.monotonic() - sent >= _EVERY or arrived != self._campaign.arrived
            if due and not self._stopped.is_set() and self._campaign.held_at is None:
                sent, arrived = time.monotonic(), self._campaign.arrived
                self._send()

    def _send(self) -> None:
        report = msgspec.msgpack.encode(self._work.report())
        self._runner.send_message(_REPORT, {"run": self._campaign.run, "report": report})

    def _compare_clocks(self) -> None:
        self._asked.clear()
        self._offsets.clear()
        for _ in range(_PINGS):
            asked = time.time()
            self._asked.add(asked)
            self._runner.send_message(_CLOCK, {"asked": asked})
            gevent.sleep(0.05)

    def _clock(self, msg: Message, **_: object) -> None:
        now, asked = time.time(), msg.data["asked"]
        if asked not in self._asked:
            # Of a comparison for the test before.
            return
        # The master's clock was read between the two; the shortest way there and back says most.
        self._offsets.append(((now - asked) / 2, msg.data["at"] - (asked + now) / 2))
        if len(self._offsets) == _PINGS:
            self._campaign.clock_error, self._campaign.clock_offset = min(self._offsets)
            self._may_begin()

    def _quit(self, **_: object) -> None:
        # After Ctrl-C this process is here by itself; the master still has to end the test.
        options = self._environment.parsed_options
        settle = options.settle_time if options is not None else 0.0
        self._stopped.wait(settle + 2 * LAST_REPORTS)
        # The verdict is the master's: failed requests are no failure of a worker.
        self._environment.process_exit_code = 0


def boot_id() -> str:
    """Names this machine since it was started, so that two processes know whether they share a clock; "" if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
