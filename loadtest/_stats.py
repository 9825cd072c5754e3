"""What was counted, put into locust's own statistics: its tables, charts, CSV and HTML files show it.

Knows locust's statistics. Once a second, in bulk: locust's own event for each request takes longer than a delivery
itself. So listeners to locust's `request` event hear nothing.
"""

# Locust says that it is typed, but its statistics are not.
# mypy: untyped-calls-exclude=locust

from __future__ import annotations

import time

from locust.stats import RequestStats, StatsEntry, StatsError, bucket_response_time

from loadtest._campaign import REQUEST_TYPES
from loadtest._figures import Attempts, Part
from loadtest._histogram import upper_end


def show(part: Part, stats: RequestStats) -> None:
    """Add what is new."""
    for step, attempts in part.steps.items():
        method = REQUEST_TYPES[step]
        entry = _entry(stats, step, method, attempts)
        stats.get(step, method).extend(entry)
        stats.total.extend(entry)
        for text, count in attempts.errors.items():
            key = StatsError.create_key(method, step, text)
            error = stats.errors.setdefault(key, StatsError(method, step, text))
            error.occurred()
            error.occurrences += count - 1


def _entry(stats: RequestStats, step: str, method: str, attempts: Attempts) -> StatsEntry:
    entry, times = StatsEntry(stats, step, method), attempts.times
    now = time.time()
    entry.num_requests = times.count
    entry.num_failures = attempts.failures
    entry.total_response_time = times.total / 1000  # type: ignore[assignment]  # locust adds floats to it as well
    entry.min_response_time = times.lowest / 1000  # type: ignore[assignment]  # likewise
    entry.max_response_time = times.highest / 1000  # type: ignore[assignment]  # likewise
    entry.total_content_length = attempts.size
    entry.last_request_timestamp = now
    entry.num_reqs_per_sec[int(now)] += times.count
    if entry.num_failures:
        entry.num_fail_per_sec[int(now)] += entry.num_failures
    for index, count in times.counts.items():
        entry.response_times[bucket_response_time(min(upper_end(index), times.highest) / 1000)] += count
    return entry
