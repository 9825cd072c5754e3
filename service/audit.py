"""The audit log: a line of JSON for everything that was done to others by name, and for refused keys and tokens.

Each line has `"log": "audit"`, the event, who did it (the name of the API key) and from which address. Untrusted text
is made harmless by the logger, as in every line of the gateway; secrets are never given to it. Two things come in bulk:

- pushes are told once a second for each key: how many, to how many connections, and to whom (the first TARGETS);
- refusals come at most REFUSALS lines a second, and then one that says how many more there were, so that whoever tries
  keys by the thousand doesn't fill a disk.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from portico.wire.messages import Target
from service.core.audit import Act
from service.core.ports import Monotonic

REFUSALS: Final = 20
TARGETS: Final = 20
KEYS: Final = 200
"""Keys whose pushes are counted at a time; the rest of a second's counts together, under none."""


class Say(Protocol):
    """Writes a line: an event and its fields."""

    def __call__(self, event: str, /, **fields: object) -> object: ...


class _Pushes:
    __slots__ = ("connections", "more", "pushes", "targets")

    def __init__(self) -> None:
        self.pushes = 0
        self.connections = 0
        self.targets: dict[tuple[str, str], None] = {}
        self.more = False


class AuditLog:
    """The core's Audit, as lines. `tick` is to be called every 100 ms or so, `flush` at the end."""

    def __init__(self, say: Say, *, now: Monotonic) -> None:
        self._say = say
        self._now = now
        self._since = now()
        self._pushes: dict[str | None, _Pushes] = {}
        self._refusals = 0
        self._untold: Counter[str] = Counter()

    def on_act(self, act: Act, by: str | None = None, address: str | None = None, **fields: object) -> None:
        """See Audit."""
        self.flush()  # what came before it stands before it
        self._say(act, by=by, address=address, **fields)

    def on_push(self, by: str | None, target: Target, connections: int) -> None:
        """See Audit."""
        pushes = self._pushes.get(by)
        if pushes is None:
            if len(self._pushes) >= KEYS:
                by = None
            pushes = self._pushes.setdefault(by, _Pushes())
        pushes.pushes += 1
        pushes.connections += connections
        if len(pushes.targets) < TARGETS:
            pushes.targets[target.kind, target.value] = None
        elif (target.kind, target.value) not in pushes.targets:
            pushes.more = True

    def on_refused(self, cause: str, address: str) -> None:
        """See Audit."""
        self._refusals += 1
        if self._refusals <= REFUSALS:
            self._say("refused", cause=cause, address=address)
        else:
            self._untold[cause] += 1

    def tick(self) -> None:
        """Write what has come together, once a second."""
        now = self._now()
        if now - self._since >= 1.0:
            self._since = now
            self.flush()

    def flush(self) -> None:
        """Write what has come together."""
        pushed, self._pushes = self._pushes, {}
        for by, pushes in pushed.items():
            named = ", ".join(f"{kind}:{value[:64]}" if value else kind for kind, value in pushes.targets)
            self._say(
                "push",
                by=by,
                pushes=pushes.pushes,
                connections=pushes.connections,
                targets=named + (", …" if pushes.more else ""),
            )
        untold, self._untold = self._untold, Counter()
        self._refusals = 0
        for cause, count in untold.items():
            self._say("more refused", cause=cause, count=count)


def every_line(say: Callable[..., object]) -> Say:
    """A Say whose lines are marked as the audit log's."""

    def marked(event: str, /, **fields: object) -> object:
        return say(event, log="audit", **fields)

    return marked
