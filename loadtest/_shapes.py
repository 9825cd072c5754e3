"""Shapes of the load, each asked for by `--shape`.

Locust applies the first shape that it finds in a locustfile and then ignores -u, so these stay out of it.
"""

from __future__ import annotations

import time
from typing import ClassVar

from locust import LoadTestShape


class RampShape(LoadTestShape):
    """Up to -u users in ten equal stages over the first half of -t, and then that many to the end."""

    use_common_options: ClassVar[bool] = True
    _stages: ClassVar[int] = 10

    def tick(self) -> tuple[int, float] | None:
        """How many users there should be now, and how many to start per second; None when -t is over."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        assert options is not None
        users, run_time = options.num_users or 1, options.run_time
        elapsed = time.perf_counter() - self.start_time
        if run_time and elapsed >= run_time:
            return None
        # Without an end there is no half of it: a minute then.
        ramp = run_time / 2 if run_time else 60.0
        stage = min(self._stages, 1 + int(elapsed / ramp * self._stages))
        # Each stage's users must be there when the stage is over, or the next one is late.
        rate = max(options.spawn_rate or 1, users / ramp)
        return max(1, users * stage // self._stages), rate
