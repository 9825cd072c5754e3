"""Health: is the gateway there, may it be sent traffic, who is connected, and the numbers for Prometheus.

Open to everybody, so nothing here names a client or a user; nor a machine, in production, to who shows no key. What
costs something to find out is told to those again for a second.
"""

import hashlib
import os
from collections.abc import Callable
from typing import Final

from service.core.connections import presence
from service.core.ports import HttpAnswer

from .answers import json_answer, missing, when_answered
from .forms import AdviceView, ConnectedClients, Health, Probe, Status, Summary
from .metrics import metrics_answer
from .parts import Parts
from .request import Answering, HttpHandler, HttpRequest

ANYBODY: Final = "PORTICO_AUTH is off in production: anybody may connect as any user."
"""Said wherever an operator looks."""
KEPT_SECONDS: Final = 1.0
"""How long what costs something is told to strangers again, in production."""


def health_handlers(parts: Parts) -> dict[str, HttpHandler]:
    """The handlers of this module, by operation."""
    warnings = [ANYBODY] if parts.anybody else []
    kept: dict[str, tuple[float, HttpAnswer]] = {}
    salt = os.urandom(16)

    def label(node: str) -> str:
        """What a node is called to strangers: its name has the machine's in it. The same as long as this node runs."""
        return "node-" + hashlib.blake2s(node.encode("utf-8", "surrogatepass"), key=salt, digest_size=4).hexdigest()

    def health(request: HttpRequest) -> HttpAnswer:
        named = label if parts.access.is_stranger(request.head) else str
        told = Health("ok", named(parts.node()), parts.places.environment, parts.presence.here().total, parts.wall())
        return json_answer(200, told)

    def readyz() -> HttpAnswer:
        reason = parts.ready()
        if reason is None:
            return json_answer(200, Probe("ok", None, warnings))
        return json_answer(503, Probe("unavailable", reason, warnings), [("retry-after", "1")])

    def ask_status(request: HttpRequest) -> Answering:
        if not parts.access.is_stranger(request.head):
            return when_answered(parts.presence.status, lambda found: status(found, str, parts.advice()))
        return kept_for("status") or when_answered(
            parts.presence.status, lambda found: keep("status", status(found, label, None))
        )

    def metrics(request: HttpRequest) -> HttpAnswer:
        if not parts.access.is_stranger(request.head):
            return numbers(str)
        return kept_for("metrics") or keep("metrics", numbers(label))

    def numbers(named: Callable[[str], str]) -> HttpAnswer:
        node = named(parts.node()) if parts.several() else None
        return metrics_answer(parts.counters, parts.connections(), parts.live(), node)

    def kept_for(what: str) -> HttpAnswer | None:
        at, answer = kept.get(what, (0.0, None))
        return answer if 0 <= parts.wall() - at < KEPT_SECONDS else None

    def keep(what: str, answer: HttpAnswer) -> HttpAnswer:
        kept[what] = (parts.wall(), answer)
        return answer

    def status(found: presence.Status, named: Callable[[str], str], advice: AdviceView | None) -> HttpAnswer:
        totals, distinct = found.totals, found.distinct
        return json_answer(
            200,
            Status(
                "ok",
                totals.total,
                totals.registered,
                totals.workers,
                totals.by_dialect,
                totals.by_transport,
                {named(node): count for node, count in found.by_node.items()},
                parts.wall(),
                True,
                ConnectedClients(Summary(totals.total, distinct.clients, distinct.users, distinct.nodes)),
                advice,
                **missing(None if found.missing is None else [named(node) for node in found.missing]),
            ),
        )

    return {
        "getHealth": health,
        "getLiveness": lambda _: json_answer(200, Probe("ok", None, [])),
        "getReadiness": lambda _: readyz(),
        "getStatus": ask_status,
        "getMetrics": metrics,
    }
