"""Leads a test through its stages to its end, and judges it; in the master or the only process.

Knows locust's runner and events, and the crew; what follows from the figures is the ledger's. A stage is a ramp while
users come, and a hold once all have been registered: only what is held is judged for its times.
"""

# Locust says that it is typed, but its event hooks are not.
# mypy: untyped-calls-exclude=locust

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Final

import gevent
import locust.log
from locust.env import Environment
from locust.runners import Runner

from loadtest import _junit, _page, _report, _result, _thresholds
from loadtest._crew import LAST_REPORTS, Crew
from loadtest._ledger import Ledger, Plan, Report
from loadtest._preflight import source_addresses
from loadtest._result import Moment, Result, Row, Stage
from loadtest._shapes import most_users
from loadtest._witness import Witness

_ROUND: Final = 0.2
_SECOND: Final = 1.0
_NONE_YET: Final = "The load test has not judged anything yet."
_log = logging.getLogger("loadtest")


class Judge:
    """One per process that judges.

    Attributes:
        least_held: see `loadtest._shapes.Lead`.
        text: the verdict on the last test, as it is printed.
        result: what the last test found.
    """

    def __init__(self, environment: Environment, runner: Runner) -> None:
        self._environment = environment
        self._runner = runner
        self._crew: Crew | None = None
        self._ledger = Ledger()
        self._running = False
        self._ever = False
        self._judged = False
        self._stormed = False
        self._complete_since: float | None = None
        self._watcher: gevent.Greenlet | None = None
        self._witness: Witness | None = None
        self._timeline: list[Moment] = []
        self._stages: dict[int, Stage] = {}
        self._sampled = (0.0, 0, 0, 0)
        self.least_held = 0.0
        self.text = _NONE_YET
        self.result: Result | None = None
        environment.events.test_start.add_listener(self._begin)
        environment.events.test_stopping.add_listener(self._end)
        environment.events.test_stop.add_listener(self._conclude)
        environment.events.quitting.add_listener(self._quit)
        environment.events.quit.add_listener(self._tell)

    def lead(self, crew: Crew) -> None:
        """Have this crew to lead; before anything starts."""
        self._crew = crew

    def on_report(self, process: str, report: Report) -> None:
        """A process reported."""
        self._ledger.add(process, report)

    @property
    def crew(self) -> Crew:
        """The processes that carry the test."""
        assert self._crew is not None
        return self._crew

    @property
    def host(self) -> str | None:
        """The gateway's base URL, if there is one."""
        return self._environment.host

    # As shapes see it

    def holding(self) -> tuple[int, float]:
        """How many users are held, and for how many seconds; 0 while they come."""
        plan = self._ledger.plans[-1] if self._ledger.plans else None
        if plan is None or plan.kind != "hold":
            return 0, 0.0
        return plan.users, time.time() - plan.started

    def judge_hold(self) -> Stage:
        """The number was held long enough: wait for what is under way, and judge it."""
        index = len(self._ledger.plans) - 1
        users = self._ledger.plans[index].users
        self._judged = True
        self._begin_stage("ramp", users, f"after {users}")
        left = self._option("settle_time")
        # Workers report by themselves, once a second.
        left -= _rest(_ROUND if self.crew.processes() == 1 else _SECOND + _ROUND)
        self.crew.collect()
        while self._ledger.missing(range(index + 1)) and left > 0:
            left -= _rest(_ROUND)
            self.crew.collect()
        stage = self._stages[index] = self._ledger.stage(index, self._thresholds())
        _log.info(_report.line(stage))
        return stage

    def begin_hold(self, name: str) -> None:
        """Hold the same number once more."""
        self._begin_stage("hold", self._ledger.plans[-1].users, name)
        self._judged = False

    def storm(self, share: float, window: float) -> None:
        """Cut clients off, and have them come back."""
        users = self._ledger.plans[-1].users
        self._begin_stage("ramp", users, f"storm {users}")
        self.crew.storm(share, window)
        # Until all are gone and reports say so, all are there.
        gevent.sleep(2 * _SECOND)
        self._stormed = True
        self._judged = False

    # As locust sees it

    def _begin(self, **_: object) -> None:
        options = self._options()
        self._ledger = Ledger()
        self._timeline, self._stages, self._sampled = [], {}, (0.0, 0, 0, 0)
        self._running = self._ever = True
        self._judged = self._stormed = False
        # The verdict on the test before is not this one's: the page would go on showing it.
        self.result, self.text = None, _NONE_YET
        self._started = time.time()
        users = most_users(options.shape, options.stairs, options.num_users)
        self.crew.begin(self._rate(), source_addresses(self._environment.host or "", users))
        self._begin_stage("ramp", self._runner.target_user_count)
        if not options.no_observer:
            self._witness = Witness(self._environment.host or "", options, self._ledger, self._stage_of)
        self._watcher = gevent.spawn(self._watch)

    def _end(self, **_: object) -> None:
        if not self._running:
            return
        self._running = False
        if self._watcher is not None:
            self._watcher.kill()
        self._ledger.end(time.time())
        left = self._option("settle_time")
        while True:
            self.crew.ask(final=False)
            left -= _rest(_ROUND)
            if left <= 0 or (self.crew.quiet() and not self._ledger.missing()):
                break
        if self._witness is not None:
            self._witness.close()
            self._witness = None
        self.crew.ask(final=True)
        deadline = time.monotonic() + LAST_REPORTS
        while self.crew.absent() and time.monotonic() < deadline:
            gevent.sleep(_ROUND / 4)

    def _conclude(self, **_: object) -> None:
        if not self._ever:
            return
        options = self._options()
        thresholds = self._thresholds()
        ledger = self._ledger
        stages = [self._stages.get(index) or ledger.stage(index, thresholds) for index in range(len(ledger.plans))]
        run = ledger.run(thresholds)
        run.rows += self._own_rows()
        # What was unbelievable while it was held is not believable in the sum.
        run.invalid += [f"{stage.name}: {why}" for stage in stages for why in stage.invalid if why not in run.invalid]
        passed = all(row.passed for row in run.rows) and all(stage.verdict != "not met" for stage in stages)
        run.verdict = "invalid" if run.invalid else "met" if passed else "not met"
        self.result = _report.result(
            self._environment, ledger, stages, run, self._timeline, self._started, _thresholds.shown(options.thresholds)
        )
        self.text = _report.text(self.result)
        for name, write in (("result", _result.write), ("junit", _junit.write)):
            if path := getattr(options, name):
                try:
                    write(self.result, Path(path))
                except OSError as error:
                    _log.error(f"--{name} {path} can't be written: {error.strerror}.")

    def _quit(self, **_: object) -> None:
        # After Ctrl-C locust comes here with its users still running.
        self._runner.quit()
        if not self._ever and self._options().headless:
            # No test began, such as when the workers never came: nothing was met.
            self._begin()
            self._end()
        if self._ever and (self.result is None or self.result.started_at != self._started):
            self._conclude()
        if self.result is not None:
            self._environment.process_exit_code = self.result.exit_code

    def _tell(self, **_: object) -> None:
        # At the very end, below locust's own tables; --json claims standard output for itself.
        if self.result is not None:
            if path := self._options().html_file:
                _page.complete(Path(path), self)
            print("\n" + self.text, file=sys.stderr if self._options().json else sys.stdout, flush=True)

    # The stages

    def _watch(self) -> None:
        while True:
            gevent.sleep(_ROUND)
            now = time.time()
            self.crew.collect()
            plan, target = self._ledger.plans[-1], self._runner.target_user_count
            if target != plan.users:
                self._judged = False
                self._begin_stage("ramp", target)
            elif plan.kind == "ramp" and target >= self.least_held and not self._judged and self._has_come(target, now):
                self._begin_stage("hold", target)
                _log.info("Holding %d users", target)
            if now - self._sampled[0] >= _SECOND:
                self._sample(now)

    def _has_come(self, target: int, now: float) -> bool:
        """Whether all users were registered once, or some of them have taken so long that they won't be."""
        if self._runner.state != "running":
            self._complete_since = None
            return False
        self._complete_since = self._complete_since or now
        # Who was registered once need not be back again.
        arrived = self._ledger.tally.now_registered() if self._stormed else sum(self._ledger.arrived.values())
        return arrived >= target or now - self._complete_since > 2 * self._option("step_timeout")

    def _begin_stage(self, kind: str, users: int, name: str = "") -> None:
        now = time.time()
        self._complete_since = None
        plan = Plan(name or f"{kind} {users}", "hold" if kind == "hold" else "ramp", users, now)
        index = self._ledger.begin_stage(plan)
        self.crew.begin_stage(index, now, self._rate())

    def _stage_of(self, at: float) -> int:
        for index in range(len(self._ledger.plans) - 1, 0, -1):
            if at >= self._ledger.plans[index].started:
                return index
        return 0

    def _sample(self, now: float) -> None:
        ledger = self._ledger
        _, requests, failures, delivered = self._sampled
        self._sampled = now, ledger.requests, ledger.failures, ledger.delivered
        plan, server = ledger.plans[-1], ledger.server.latest()
        self._timeline.append(
            Moment(
                at=now,
                stage=plan.name,
                users=plan.users,
                registered=ledger.tally.now_registered(),
                delivered=ledger.delivered - delivered,
                requests=ledger.requests - requests,
                failures=ledger.failures - failures,
                server_cpu_share=server and server[0],
                server_memory=server and server[1],
            )
        )

    def _rate(self) -> float:
        """Users that come per second."""
        tick = self._runner.shape_last_tick
        shape = self._environment.shape_class
        if shape is not None and (rate := getattr(shape, "asked_rate", None)):
            return float(rate)
        return float(tick[1] if tick else self._options().spawn_rate or 1)

    def _own_rows(self) -> list[Row]:
        """What failed of the load test itself."""
        rows = []
        if absent := self.crew.absent():
            rows.append(Row("worker processes missing at the end", "<= 0", str(absent), passed=False))
        faults = sum(fault["count"] for fault in self._runner.exceptions.values())
        faults += locust.log.unhandled_greenlet_exception
        if faults:
            rows.append(Row("faults in the load test itself", "<= 0", str(faults), passed=False))
        return rows

    def _thresholds(self) -> _thresholds.Thresholds:
        return _thresholds.load(Path(self._options().thresholds))

    def _options(self) -> _report.Options:
        options: _report.Options | None = self._environment.parsed_options
        assert options is not None
        return options

    def _option(self, name: str) -> float:
        return float(getattr(self._options(), name))


def _rest(seconds: float) -> float:
    """Let the other greenlets work for about `seconds`. Returns the seconds by which the settle time is used up.

    That is the time that passed, but at most twice `seconds`: while this process stood still it could read nothing, and
    that is not the gateway's fault.
    """
    start = time.monotonic()
    gevent.sleep(seconds)
    return min(time.monotonic() - start, 2 * seconds)
