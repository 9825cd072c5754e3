"""Leads a test to its verdict, in whichever of locust's processes it is in.

Knows locust's events and the messages between its processes. Only the master (or the only process) judges:
workers hand it their tallies with locust's own reports, and are asked for the last of them before it judges.

The end comes in three moves, so that nothing is lost or left out: all processes stop sending (hold); what is
under way may arrive (settle); what has not arrived has failed (finish). Only then do connections close.
"""

# Locust says that it is typed, but its event hooks are not.
# mypy: untyped-calls-exclude=locust

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import gevent
import locust.log
import msgspec
import psutil
from gevent.event import Event
from locust.env import Environment
from locust.event import Events
from locust.rpc import Message
from locust.runners import MasterRunner, Runner, WorkerRunner

from loadtest import _thresholds, _verdict
from loadtest._api import Api, ApiError
from loadtest._campaign import REQUEST_TYPES, Campaign
from loadtest._pusher import Pusher
from loadtest._shapes import RampShape
from loadtest._tally import Tally
from loadtest._user import CClient

_PLAN = "loadtest_plan"
_SETTLE = "loadtest_settle"
_ROUND = 0.2
_LAST_REPORTS = 5.0


class _Crew(Protocol):
    """The processes that carry a test, as its judge sees them."""

    @property
    def tally(self) -> Tally:
        """The sum over all processes, so far as they have reported."""

    def begin(self) -> None:
        """A test starts."""

    def ask(self, *, final: bool) -> None:
        """Have every process hold, and, if `final`, finish; and report."""

    def quiet(self) -> bool:
        """Whether nothing is under way in any process, so far as their reports say."""

    def absent(self) -> int:
        """How many processes have not sent their final report."""


class _Solo:
    """The crew that is this process alone."""

    def __init__(self, campaign: Campaign, work: _Work) -> None:
        self._campaign = campaign
        self._work = work

    @property
    def tally(self) -> Tally:
        return self._campaign.tally

    def begin(self) -> None:
        self._campaign.run = self._campaign.mark()
        self._work.begin()

    def ask(self, *, final: bool) -> None:
        self._work.end(final=final)

    def quiet(self) -> bool:
        return self._campaign.unanswered() == 0

    def absent(self) -> int:
        return 0


class _Report(msgspec.Struct):
    """What a worker adds to locust's report."""

    tally: Tally
    unanswered: int
    held: bool
    finished: bool


class _Workers:
    """The crew that is locust's workers; lives in the master."""

    def __init__(self, events: Events, runner: MasterRunner, mark: Callable[[], str]) -> None:
        self._runner = runner
        self._mark = mark
        self._run = mark()
        self._last: dict[str, _Report | None] = {}
        self.tally = Tally()
        events.worker_connect.add_listener(self._connected)
        events.worker_report.add_listener(self._reported)

    def begin(self) -> None:
        self.tally = Tally()
        self._last = dict.fromkeys(self._runner.clients)
        self._run = self._mark()
        self._plan(None)

    def ask(self, *, final: bool) -> None:
        self._runner.send_message(_SETTLE, {"final": final})

    def quiet(self) -> bool:
        return all(report and report.held and not report.unanswered for report in self._last.values())

    def absent(self) -> int:
        return sum(not (report and report.finished) for report in self._last.values())

    def _connected(self, client_id: str, **_: object) -> None:
        self._last.setdefault(client_id, None)

    def _plan(self, client_id: str | None) -> None:
        self._runner.send_message(_PLAN, {"run": self._run, "processes": max(1, len(self._last))}, client_id)

    def _reported(self, client_id: str, data: dict[str, object], **_: object) -> None:
        if "loadtest" not in data:
            # A worker's first report may go out before it has set us up.
            return
        report = msgspec.convert(data["loadtest"], _Report)
        if self._last.get(client_id) is None:
            # It may have come when the test had begun already.
            self._plan(client_id)
        self._last[client_id] = report
        self.tally.add(report.tally)


class _Work:
    """What a process that runs users does at the start and the end of a test."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._pusher: gevent.Greenlet | None = None

    def begin(self) -> None:
        self._campaign.begin()
        self._pusher = gevent.spawn(Pusher(self._campaign).run)

    def end(self, *, final: bool) -> None:
        self._campaign.hold()
        if final:
            self._campaign.finish()
            if self._pusher is not None:
                self._pusher.kill(block=False)
                self._pusher = None


class _Judge:
    """Ends a test and judges it; lives in the master or the only process."""

    def __init__(self, environment: Environment, runner: Runner, crew: _Crew) -> None:
        self._environment = environment
        self._runner = runner
        self._crew = crew
        self._running = False
        self._verdict = ""
        environment.events.test_start.add_listener(self._begin)
        environment.events.test_stopping.add_listener(self._end)
        environment.events.quitting.add_listener(self._judge)
        environment.events.quit.add_listener(self._tell)

    def _begin(self, **_: object) -> None:
        self._running = True
        self._crew.begin()

    def _end(self, **_: object) -> None:
        if not self._running:
            return
        self._running = False
        options = self._environment.parsed_options
        assert options is not None
        deadline = time.monotonic() + options.settle_time
        while True:
            self._crew.ask(final=False)
            gevent.sleep(_ROUND)
            tally = self._crew.tally
            complete = self._crew.quiet() and tally.delivered() >= tally.expected()
            if complete or time.monotonic() >= deadline:
                break
        self._crew.ask(final=True)
        deadline = time.monotonic() + _LAST_REPORTS
        while self._crew.absent() and time.monotonic() < deadline:
            gevent.sleep(_ROUND / 4)

    def _judge(self, **_: object) -> None:
        # After Ctrl-C locust comes here with its users still running.
        self._runner.quit()
        options = self._environment.parsed_options
        assert options is not None
        users = max(self._runner.target_user_count, options.num_users or 1)
        rows = _verdict.judge(_thresholds.load(Path(options.thresholds)), self._steps(), self._crew.tally, users)
        if absent := self._crew.absent():
            rows.append(_verdict.Row("worker processes missing at the end", "<= 0", str(absent), passed=False))
        faults = sum(fault["count"] for fault in self._runner.exceptions.values())
        faults += locust.log.unhandled_greenlet_exception
        if faults:
            rows.append(_verdict.Row("faults in the load test itself", "<= 0", str(faults), passed=False))
        self._environment.process_exit_code = 0 if all(row.passed for row in rows) else 3
        self._verdict = f"\nVerdict by {options.thresholds}\n\n{_verdict.table(rows)}"
        if self._runner.cpu_warning_emitted or getattr(self._runner, "worker_cpu_warning_emitted", False):
            self._verdict += "\nThe load generator itself was short of CPU: the times may be too long."

    def _tell(self, **_: object) -> None:
        # At the very end, below locust's own tables; --json claims standard output for itself.
        options = self._environment.parsed_options
        print(self._verdict, file=sys.stderr if options and options.json else sys.stdout, flush=True)

    def _steps(self) -> dict[str, _verdict.StepFigures]:
        figures = {}
        for step, kind in REQUEST_TYPES.items():
            entry = self._environment.stats.entries.get((step, kind))
            if entry is not None and entry.num_requests:
                times = {
                    limit: float(entry.get_response_time_percentile(share))
                    for limit, share in _thresholds.PERCENTILES.items()
                }
                times["max_ms"] = entry.max_response_time
                figures[step] = _verdict.StepFigures(entry.num_requests, entry.num_failures, times)
        return figures


class _Worker:
    """A worker's side: does the work, and reports to the master."""

    def __init__(self, environment: Environment, runner: WorkerRunner, campaign: Campaign) -> None:
        self._environment = environment
        self._runner = runner
        self._campaign = campaign
        self._work = _Work(campaign)
        self._stopped = Event()
        self._stopped.set()
        runner.register_message(_PLAN, self._plan)
        runner.register_message(_SETTLE, self._settle)
        environment.events.test_start.add_listener(self._begin)
        environment.events.test_stop.add_listener(self._stop)
        environment.events.report_to_master.add_listener(self._report)
        environment.events.quitting.add_listener(self._quit)

    def _plan(self, msg: Message, **_: object) -> None:
        self._campaign.run = msg.data["run"]
        self._campaign.processes = msg.data["processes"]

    def _begin(self, **_: object) -> None:
        self._stopped.clear()
        self._work.begin()

    def _stop(self, **_: object) -> None:
        self._stopped.set()

    def _settle(self, msg: Message, **_: object) -> None:
        self._work.end(final=msg.data["final"])
        # What locust's own reporter does every three seconds, at once.
        data: dict[str, object] = {}
        self._environment.events.report_to_master.fire(client_id=self._runner.client_id, data=data)
        self._runner.send_message("stats", data)

    def _report(self, data: dict[str, object], **_: object) -> None:
        campaign = self._campaign
        report = _Report(
            campaign.tally, campaign.unanswered(), held=campaign.held_at is not None, finished=campaign.finished
        )
        data["loadtest"] = msgspec.to_builtins(report)
        campaign.tally = Tally()

    def _quit(self, **_: object) -> None:
        # Ctrl-C reaches all processes at once: stay until the master has what it judges by, and says stop.
        settle: float = self._campaign.options.settle_time
        self._stopped.wait(settle + 2 * _LAST_REPORTS)
        # The verdict is the master's: failed requests are no failure of a worker.
        self._environment.process_exit_code = 0


def attach(events: Events, user: type[CClient]) -> None:
    """Have `user` and its process take their part in whatever test locust is about to run."""

    def init(environment: Environment, runner: Runner, **_: object) -> None:
        _take_interrupts()
        campaign = Campaign(environment)
        user.campaign = campaign
        options = environment.parsed_options
        assert options is not None
        if isinstance(runner, WorkerRunner):
            if options.headless and options.processes and _wrong_with(environment.host, options.step_timeout):
                # The master, which this process was forked from, says why; it would be waited for in vain.
                sys.exit(2)
            _Worker(environment, runner, campaign)
            return
        if options.headless:
            _check_host(environment.host, options.step_timeout)
        if options.shape == "ramp":
            environment.shape_class = RampShape()  # type: ignore[no-untyped-call]  # locust's own constructor
            environment.shape_class.runner = runner
        crew: _Crew = (
            _Workers(environment.events, runner, campaign.mark)
            if isinstance(runner, MasterRunner)
            else _Solo(campaign, _Work(campaign))
        )
        _Judge(environment, runner, crew)

    events.init.add_listener(init)


def _take_interrupts() -> None:
    """Have Ctrl-C interrupt the main greenlet, where locust ends the test.

    By itself it interrupts whichever greenlet happens to run, so now and then it would end one connection.
    """
    main = gevent.getcurrent()
    gevent.signal_handler(signal.SIGINT, lambda: gevent.kill(main, KeyboardInterrupt))


def _check_host(host: str | None, timeout: float) -> None:
    """End with exit code 2 and a sentence unless a gateway answers there. One that is too busy is a gateway."""
    if sentence := _wrong_with(host, timeout):
        print(f"locust: error: {sentence}", file=sys.stderr)
        # The processes of --processes have begun nothing yet. Locust asks them to end by a signal that they may miss
        # while they start, and then they look for their master for minutes.
        for child in psutil.Process().children():
            child.kill()
        sys.exit(2)


def _wrong_with(host: str | None, timeout: float) -> str | None:
    if not host:
        return "--host is missing: give the gateway's address, such as http://localhost:8000."
    try:
        api = Api(host, None, timeout)
    except ApiError as error:
        return f"--host is {error}."
    try:
        with api:
            api.websocket_url()
    except ApiError as error:
        if error.status is None:
            return f"Nobody is at {host} ({error}): start the gateway there, or give its address by --host."
        if error.status < 500 and error.status != 429:
            return f"What is at {host} is no gateway (discovery {error}): give the gateway's address by --host."
    return None
