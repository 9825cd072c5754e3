"""Shapes of the load, each asked for by `--shape`.

Locust applies the first shape that it finds in a locustfile and then ignores -u, so these stay out of it. A shape asks
for numbers of users; who says that a number is there, and judges it, is its lead.
"""

from __future__ import annotations

import math
import time
from typing import ClassVar, Final, Literal, Protocol

from locust import LoadTestShape

from loadtest._result import Stage
from loadtest._stairs import parse_stairs

Tick = tuple[int, float] | None


class Lead(Protocol):
    """Who leads a test, as a shape sees it."""

    least_held: float
    """No hold begins with fewer users than these, even if all of them have come."""

    def holding(self) -> tuple[int, float]:
        """How many users are held, and for how many seconds; 0 while they come."""

    def judge_hold(self) -> Stage:
        """The number was held long enough: wait for what is under way, and judge it."""

    def begin_hold(self, name: str) -> None:
        """Hold the same number once more."""

    def storm(self, share: float, window: float) -> None:
        """Cut clients off, and have them come back."""


class Shape(LoadTestShape):
    """What all shapes have in common."""

    abstract: ClassVar[bool] = True
    use_common_options: ClassVar[bool] = True
    lead: Lead

    def reset_time(self) -> None:
        """A test starts."""
        super().reset_time()  # type: ignore[no-untyped-call]  # locust's
        self.begin()

    def begin(self) -> None:
        """Begin anew."""

    def option(self, name: str) -> float:
        """One of the options, as a number; 0 if it is not set."""
        assert self.runner is not None
        return float(getattr(self.runner.environment.parsed_options, name) or 0)

    @property
    def users(self) -> int:
        """The number of users (-u), at least one."""
        return max(1, int(self.option("num_users")))

    def rate(self) -> float:
        """Users to start per second (-r)."""
        return self.option("spawn_rate") or 1.0

    def is_over(self) -> bool:
        """Whether the time of -t has passed."""
        return bool(self.option("run_time")) and time.perf_counter() - self.start_time >= self.option("run_time")


class StaircaseShape(Shape):
    """The numbers of `--stairs` up to -u, each held and judged, until one does not meet the thresholds."""

    def begin(self) -> None:
        """Begin at the first stair."""
        self._at = 0

    def stairs(self) -> list[int]:
        """The numbers, in ascending order."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        stairs, top = parse_stairs(options.stairs), options.num_users
        return [stair for stair in stairs if stair < top] + [top] if top and top > 1 else stairs

    def tick(self) -> Tick:
        """How many users there should be now; None at the end."""
        stairs = self.stairs()
        held, seconds = self.lead.holding()
        if held == stairs[self._at] and seconds >= self.option("hold"):
            stage = self.lead.judge_hold()
            self._at += 1
            if self._at == len(stairs) or (stage.verdict != "met" and not self.option("keep_climbing")):
                return None
        if self.is_over():
            return None
        return stairs[self._at], self.rate()


class RampShape(Shape):
    """Up to -u users in ten equal stages over the first half of -t, and then that many to the end."""

    _stages: ClassVar[int] = 10

    def tick(self) -> Tick:
        """How many users there should be now, and how many to start per second; None when -t is over."""
        if self.is_over():
            return None
        # Without an end there is no half of it: a minute then.
        ramp = self.option("run_time") / 2 or 60.0
        stage = min(self._stages, 1 + int((time.perf_counter() - self.start_time) / ramp * self._stages))
        # A number, not a yes or no: locust asks for the users that are returned here only later, so until then the
        # number that it asked for is still the one of the stage before.
        self.lead.least_held = self.users if stage == self._stages else math.inf
        # Each stage's users must be there when the stage is over, or the next one is late.
        return max(1, self.users * stage // self._stages), max(self.rate(), self.users / ramp)


class SoakShape(Shape):
    """-u users, judged every `--hold` seconds, until -t is over, or for ever."""

    def begin(self) -> None:
        """Begin with the first hold."""
        self._number = 1

    def tick(self) -> Tick:
        """The same, always; None when -t is over."""
        held, seconds = self.lead.holding()
        if held and seconds >= self.option("hold"):
            self.lead.judge_hold()
            self._number += 1
            if not self.is_over():
                self.lead.begin_hold(f"hold {held} #{self._number}")
        return None if self.is_over() else (self.users, self.rate())


class StormShape(Shape):
    """-u users, held and judged; then they are cut off and come back; held and judged again."""

    def begin(self) -> None:
        """Begin before the storm."""
        self._phase: Literal["before", "storm", "after"] = "before"

    def tick(self) -> Tick:
        """The same number, always; None at the end."""
        held, seconds = self.lead.holding()
        if self._phase == "storm" and held:
            self._phase = "after"
        elif held and seconds >= self.option("hold"):
            self.lead.judge_hold()
            if self._phase == "after":
                return None
            self._phase = "storm"
            self.lead.storm(self.option("storm_share"), self.option("storm_window"))
        return None if self.is_over() else (self.users, self.rate())


class SpikeShape(Shape):
    """A tenth of -u, held; -u at ten times -r, held; and a tenth again, held."""

    def begin(self) -> None:
        """Begin with a tenth of the users."""
        self._at = 0

    def tick(self) -> Tick:
        """How many users there should be now; None at the end."""
        low = max(1, self.users // 10)
        plan = [(low, self.rate()), (self.users, self.rate() * 10), (low, self.rate() * 10)]
        held, seconds = self.lead.holding()
        if held == plan[self._at][0] and seconds >= self.option("hold"):
            self.lead.judge_hold()
            self._at += 1
        return None if self._at == len(plan) or self.is_over() else plan[self._at]


SHAPES: Final[dict[str, type[Shape]]] = {
    "staircase": StaircaseShape,
    "ramp": RampShape,
    "soak": SoakShape,
    "reconnect-storm": StormShape,
    "spike": SpikeShape,
}
"""By their names on the command line."""


def most_users(name: str | None, stairs: str, users: int | None) -> int:
    """How many users there will be at most."""
    if name == "staircase":
        return users if users and users > 1 else parse_stairs(stairs)[-1]
    return users or 1
