"""What a program is told about its connection: a value for each thing that happens, such as `Lost`.

Knows nothing of sockets or terminals. Promises that `str(event)` is a single printable line.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from .errors import printable

_log = logging.getLogger("portico.client")


@dataclass(frozen=True, slots=True)
class Connecting:
    """An attempt begins. `attempt` counts from 1 since the last connection that held."""

    where: str
    attempt: int

    def __str__(self) -> str:
        return f"connecting to {self.where}" + (f" (attempt {self.attempt})" if self.attempt > 1 else "")


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection stands. `name`: the `client_id` that the gateway knows us by; empty for a requester, which has
    none."""

    address: str
    name: str = ""

    def __str__(self) -> str:
        at = printable(self.address)
        return f"registered as {printable(self.name)} at {at}" if self.name else f"connected to {at}"


@dataclass(frozen=True, slots=True)
class Lost:
    """A connection ended, or an attempt to connect failed. `why`: the error, such as ConnectionLost."""

    why: Exception

    def __str__(self) -> str:
        return f"lost: {printable(str(self.why), 500)}"


@dataclass(frozen=True, slots=True)
class Retrying:
    """The next attempt follows after `delay` seconds."""

    delay: float

    def __str__(self) -> str:
        return f"retry in {self.delay:.1f} s"


@dataclass(frozen=True, slots=True)
class Draining:
    """The gateway, or this program, is about to end in an orderly way; `what` says which, in words."""

    what: str

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class BadMessage:
    """The gateway sent something that cannot be read: it is skipped, and we go on."""

    why: str

    def __str__(self) -> str:
        return f"bad message: {printable(self.why)}"


@dataclass(frozen=True, slots=True)
class Complaint:
    """The gateway says that it did not accept something that we sent, in its own words; we go on."""

    why: str

    def __str__(self) -> str:
        return f"the gateway says: {printable(self.why)}"


@dataclass(frozen=True, slots=True)
class TokenFailed:
    """There was no new token, or the gateway didn't take it; it is tried again."""

    why: str

    def __str__(self) -> str:
        return f"no new token: {printable(self.why)}"


Event = Connecting | Connected | Lost | Retrying | Draining | BadMessage | Complaint | TokenFailed
Report = Callable[[Event], None]


def log_event(event: Event) -> None:
    """The report that is used where none is given: the logger `portico.client`."""
    level = logging.WARNING if isinstance(event, Lost | BadMessage | Complaint | TokenFailed) else logging.INFO
    _log.log(level, "%s", event)
