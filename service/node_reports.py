"""NodeReports: what the parts of a node other than its core report, told to the log and counted.

Bugs, background tasks that failed, requests by HTTP, what a transport notes in passing, and advice. NodeJournal does
the same for what the core reports. Secrets are never passed in; untrusted text is made harmless by the log.
"""

import sys
import traceback

import structlog

from service.core.counters import Counters
from service.core.ports import HttpHead
from service.observe import event_of
from service.sizing import Advice


class NodeReports:
    """Where a node's parts report. `counters` are the gateway's, once there is one."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger) -> None:
        self._log = log
        self.counters = Counters()

    def on_request(self, head: HttpHead, status: int, received: int, sent: int, seconds: float) -> None:
        """A request was answered, after a body of so many bytes, by one of so many."""
        # Without the query: tokens are in it, and what people look for.
        self._log.info(
            "request",
            method=head.method,
            path=head.path,
            status=status,
            address=head.address,
            received=received,
            sent=sent,
            seconds=round(seconds, 6),
        )

    def on_error(self, error: Exception) -> None:
        """A bug of ours came up, which was counted where it did."""
        self._log.error("internal error", trace="".join(traceback.format_exception(error)))

    def on_uncounted_error(self, error: Exception) -> None:
        """A bug of ours came up where nobody counts."""
        self.counters.internal_errors += 1
        self.on_error(error)

    def on_unraisable(self, report: "sys.UnraisableHookArgs") -> None:
        """An exception that nobody could catch (the process's `sys.unraisablehook`)."""
        self.counters.internal_errors += 1
        if isinstance(report.exc_value, Exception):
            self.on_error(report.exc_value)

    def on_task_failed(self, name: str, error: Exception) -> None:
        """A background task failed, and is started again."""
        self.counters.background_restarts[name] += 1
        self._log.error("background task failed", task=name, error=f"{type(error).__name__}: {error}")

    def on_advice(self, advice: Advice) -> None:
        """Another mode is advised than before."""
        say = self._log.warning if advice.strained else self._log.info
        say("advice on the mode", mode=advice.mode, reason=advice.reason)

    def note(self, event: str, /, **fields: object) -> None:
        """A transport, or the certificates, report something: a warning, but for what Hypercorn says of itself."""
        say = self._log.info if event == "hypercorn_info" else self._log.warning
        say(event_of(event), **fields)
