"""All that is known of a run: what its processes counted, stage by stage, and what follows from it.

Knows figures, never locust nor sockets; lives where the test is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from loadtest._figures import DELIVERY_KINDS, Attempts, Count, Fault, Part, Strain
from loadtest._histogram import Histogram
from loadtest._observations import About
from loadtest._result import Connections, Deliveries, Gateway, Load, NodeTimes, Row, Stage, Times
from loadtest._server import ServerLog
from loadtest._tally import Tally
from loadtest._thresholds import PERCENTILES, Thresholds
from loadtest._verdict import Evidence, doubts, judge, slow_nodes

_SHARES: Final = (0.5, 0.9, 0.95, 0.99, 0.999, 0.9999)


@dataclass
class Plan:
    """One stage as it is led: see `loadtest._result.Stage`."""

    name: str
    kind: Literal["ramp", "hold"]
    users: int
    started: float
    ended: float | None = None


class Report(msgspec.Struct):
    """What a process hands over: what it counted since the last time, and how it stands.

    Attributes:
        arrived: how many of its users have been registered at least once, less those that were stopped.
        unanswered: how much is under way in it.
        held: it sends nothing new.
        finished: it measures nothing any more: this is its last.
        clock_offset, clock_error: seconds, of its clock against the master's.
    """

    parts: dict[int, Part]
    strains: dict[int, Strain]
    tally: Tally
    faults: list[Fault]
    arrived: int = 0
    unanswered: int = 0
    held: bool = False
    finished: bool = False
    clock_offset: float = 0.0
    clock_error: float = 0.0


class Ledger:
    """One test's.

    Attributes:
        plans: its stages so far; the last one is under way.
        requests, failures, delivered: over all steps and stages.
        arrived: see `Report`, by process.
        observed: what the observer measured, by stage and step.
        clocks: of workers, their offsets and errors in seconds.
        about: what the gateway said of itself.
    """

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.parts: dict[int, Part] = {}
        self.strains: dict[str, dict[int, Strain]] = {}
        self.tally = Tally()
        self.faults: list[Fault] = []
        self.observed: dict[int, dict[str, Attempts]] = {}
        self.server = ServerLog()
        self.clock_error = 0.0
        self.clocks: dict[str, tuple[float, float]] = {}
        self.about: About | None = None
        self.requests = 0
        self.failures = 0
        self.delivered = 0
        self.arrived: dict[str, int] = {}

    def begin_stage(self, plan: Plan) -> int:
        """The stage before is over, and this one begins; its index."""
        if self.plans:
            self.plans[-1].ended = plan.started
        self.plans.append(plan)
        return len(self.plans) - 1

    def end(self, at: float) -> None:
        """The last stage is over."""
        if self.plans and self.plans[-1].ended is None:
            self.plans[-1].ended = at

    def add(self, process: str, report: Report) -> None:
        """A process reported."""
        for index, part in report.parts.items():
            self.parts.setdefault(index, Part()).add(part)
            self.requests += sum(attempts.times.count for attempts in part.steps.values())
            self.failures += sum(attempts.failures for attempts in part.steps.values())
            self.delivered += sum(count.delivered for count in part.deliveries.values())
        self.arrived[process] = report.arrived
        strains = self.strains.setdefault(process, {})
        for index, strain in report.strains.items():
            strains.setdefault(index, Strain()).add(strain)
        self.tally.add(report.tally)
        self.faults += report.faults
        self.clock_error = max(self.clock_error, report.clock_error)
        if process != "local":
            self.clocks[process] = report.clock_offset, report.clock_error

    def add_observed(self, index: int, steps: Mapping[str, Attempts]) -> None:
        """The observer reported."""
        known = self.observed.setdefault(index, {})
        for step, attempts in steps.items():
            known.setdefault(step, Attempts()).add(attempts)

    def gateway(self, host: str) -> Gateway:
        """What was tested."""
        about = self.about or About("", "", [])
        return Gateway(
            host=host,
            websocket_url=about.websocket_url,
            version=None,
            environment=about.environment,
            nodes=about.nodes,
        )

    def missing(self, stages: Iterable[int] | None = None) -> int:
        """How many deliveries are missing: of the pushes of these stages, but no durable ones, whose users may be away;
        or, if no stages are given, of all pushes.
        """
        found = self._deliveries(range(len(self.plans)) if stages is None else stages)
        return sum(each.lost for kind, each in found.items() if stages is None or kind != "durable")

    def stage(self, index: int, thresholds: Thresholds) -> Stage:
        """One stage, judged if its number of users was held: together with the ramp that led there."""
        plan = self.plans[index]
        if plan.kind == "ramp":
            return self._stage(plan.name, "ramp", plan.users, [index], None, thresholds)
        before = index
        while before > 0 and self.plans[before - 1].kind == "ramp":
            before -= 1
        return self._stage(plan.name, "hold", plan.users, [index], range(before, index + 1), thresholds)

    def run(self, thresholds: Thresholds) -> Stage:
        """The whole run: all holds, or all there is where there was none."""
        everything = range(len(self.plans))
        holds = [index for index in everything if self.plans[index].kind == "hold"]
        users = max((plan.users for plan in self.plans), default=0)
        stage = self._stage("run", "run", users, holds or list(everything), everything, thresholds)
        if not holds:
            stage.rows.append(Row("the number of users held", ">= 1", "never reached", passed=False))
            stage.verdict = "invalid" if stage.invalid else "not met"
        return stage

    def _stage(
        self,
        name: str,
        kind: Literal["ramp", "hold", "run"],
        users: int,
        indexes: Sequence[int],
        judged: Iterable[int] | None,
        thresholds: Thresholds,
    ) -> Stage:
        plans = [self.plans[index] for index in indexes]
        start = min((plan.started for plan in plans), default=0.0)
        end = max((plan.ended or plan.started for plan in plans), default=0.0)
        seconds = sum((plan.ended or plan.started) - plan.started for plan in plans)
        held = self._part(indexes)
        lowest, peak, at_end = self.tally.range_registered(start, end)
        load = self._load(indexes)
        observer = self._observer(indexes, seconds)
        stage = Stage(
            name=name,
            kind=kind,
            users=users,
            started_at=start,
            ended_at=end,
            connections=Connections(peak=peak, lowest=lowest, at_end=at_end),
            steps={step: times(attempts, seconds) for step, attempts in held.steps.items()},
            deliveries=self._deliveries(indexes, seconds),
            protocol_errors=held.protocol_errors,
            disconnects=held.disconnects,
            server=self.server.between(start, end),
            load=load,
            observer=observer,
            rows=[],
            invalid=[],
            verdict=None,
            nodes={name: _node_times(held.nodes[name]) for name in sorted(held.nodes)},
        )
        stage.slow_nodes = slow_nodes(stage.nodes)
        if judged is not None:
            judged = list(judged)
            evidence = Evidence(
                users,
                self._part(judged),
                held,
                self._deliveries(judged),
                stage.connections,
                stage.server,
                part=kind == "hold",
            )
            stage.rows = judge(thresholds.limits, evidence)
            # How late the load was while users came is in the times of coming in only; what stood still, nowhere.
            overall = self._load(judged)
            judged_load = msgspec.structs.replace(
                load,
                stall_max_ms=overall.stall_max_ms,
                clock_step_ms=overall.clock_step_ms,
                never_sent=overall.never_sent,
            )
            stage.invalid = doubts(judged_load, observer, stage.steps, thresholds.load)
            if self.clock_error * 1000 > thresholds.load["max_clock_error_ms"]:
                stage.invalid.append(
                    f"the clocks of the load's machines agree only within {self.clock_error * 1000:.0f} ms"
                )
            passed = all(row.passed for row in stage.rows)
            stage.verdict = "invalid" if stage.invalid else "met" if passed else "not met"
        return stage

    def _part(self, indexes: Iterable[int]) -> Part:
        total = Part()
        for index in indexes:
            if index in self.parts:
                total.add(self.parts[index])
        return total

    def _deliveries(self, indexes: Iterable[int], seconds: float = 0.0) -> dict[str, Deliveries]:
        indexes = list(indexes)
        counts = self._part(indexes).deliveries
        broadcast = self.tally.expected(frozenset(indexes))
        found = {}
        for kind in DELIVERY_KINDS:
            count = counts.get(kind, Count())
            expected = broadcast if kind == "broadcast" else count.expected
            if kind in counts or expected:
                found[kind] = Deliveries(
                    expected=expected,
                    delivered=count.delivered,
                    lost=max(0, expected - count.delivered),
                    doubled=count.doubled,
                    reordered=count.reordered,
                    misdirected=count.misdirected,
                    per_second=count.delivered / seconds if seconds else 0.0,
                )
        return found

    def _observer(self, indexes: Iterable[int], seconds: float) -> dict[str, Times] | None:
        if not self.observed:
            return None
        total: dict[str, Attempts] = {}
        for index in indexes:
            for step, attempts in self.observed.get(index, {}).items():
                total.setdefault(step, Attempts()).add(attempts)
        return {step: times(attempts, seconds) for step, attempts in total.items()}

    def _load(self, indexes: Iterable[int]) -> Load:
        indexes = list(indexes)
        each = []
        for strains in self.strains.values():
            total = Strain()
            for index in indexes:
                if index in strains:
                    total.add(strains[index])
            each.append(total)
        ticks = sum(strain.ticks for strain in each)
        return Load(
            processes=len(each),
            cpu_share_max=max((strain.cpu / strain.seconds for strain in each if strain.seconds), default=0.0),
            stall_max_ms=max((strain.late.highest / 1000 for strain in each), default=0.0),
            lag_p99_ms=_worst(strain.late for strain in each),
            send_lag_p99_ms=_worst(strain.send_late for strain in each),
            read_lag_p99_ms=_worst(strain.read_late for strain in each),
            kernel_stamps=sum(strain.unstamped for strain in each)
            <= 0.01 * sum(strain.read_late.count for strain in each),
            blurred_share=max((strain.blurred / strain.messages for strain in each if strain.messages), default=0.0),
            run_delay_share=max((strain.run_delay / strain.seconds for strain in each if strain.seconds), default=0.0),
            steal_share=sum(strain.stolen for strain in each) / ticks if ticks else 0.0,
            run_queue_max=max((strain.run_queue for strain in each), default=0),
            memory_max=max((strain.memory for strain in each), default=0),
            never_sent=sum(strain.never_sent for strain in each),
            clock_step_ms=max((strain.clock_step * 1000 for strain in each), default=0.0),
        )


def times(attempts: Attempts, seconds: float) -> Times:
    """The figures of one step over so many seconds."""
    histogram, count = attempts.times, attempts.times.count
    found = dict.fromkeys((name for name in PERCENTILES if name != "max_ms"), None) | (
        dict(zip((name for name in PERCENTILES if name != "max_ms"), histogram.percentiles(_SHARES), strict=True))
        if count
        else {}
    )
    return Times(
        count=count,
        failures=attempts.failures,
        errors=attempts.errors,
        per_second=count / seconds if seconds else 0.0,
        mean_ms=histogram.mean() if count else None,
        min_ms=histogram.lowest / 1000 if count else None,
        max_ms=histogram.highest / 1000 if count else None,
        histogram=histogram.counts,
        **found,
    )


def _node_times(histogram: Histogram) -> NodeTimes:
    p50, p95, p99 = histogram.percentiles((0.5, 0.95, 0.99))
    return NodeTimes(count=histogram.count, p50_ms=p50, p95_ms=p95, p99_ms=p99, max_ms=histogram.highest / 1000)


def _worst(histograms: Iterable[Histogram]) -> float:
    return max((histogram.percentile(0.99) for histogram in histograms), default=0.0)
