"""Portico's SDK: programs that use a gateway import their names from here.

`Client` registers who it is and receives pushes, `Worker` answers requests, `Requester` sends them, and `run` runs a
program that uses them. `Publisher` (blocking) and `AsyncPublisher` push from back ends, over HTTP. What goes wrong with
a connection or a call is a `ClientError`, all of which are exported here; arguments that are wrong in themselves are a
ValueError or a TypeError.

Knows the protocol (`portico.wire`) and never the gateway, so it works in a project that has a `service` package of its
own. A name is loaded when it is first used: the gateway imports `portico.wire`, and must not thereby import trio,
websockets or httpx.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from portico.version import VERSION

if TYPE_CHECKING:
    from portico.client.backoff import Backoff
    from portico.client.client import Client
    from portico.client.envelope import Call
    from portico.client.errors import (
        BadAddress,
        ClientError,
        ConnectFailed,
        ConnectionLost,
        DiscoveryFailed,
        GaveUp,
        HandshakeRefused,
        MessageTooLarge,
        NoGreeting,
        NoToken,
        NotRunning,
        NoWorkers,
        RegistrationRejected,
        RequestFailed,
        RequestTimeout,
        SentAway,
        StreamOverrun,
        Superseded,
        Unreachable,
        Unsendable,
        WorkerLost,
        WorkersBusy,
    )
    from portico.client.events import (
        BadMessage,
        Complaint,
        Connected,
        Connecting,
        Draining,
        Event,
        Lost,
        Report,
        Retrying,
        TokenFailed,
    )
    from portico.client.handlers import CommandFailed, Handler, current_call, send_part
    from portico.client.link import LinkOptions
    from portico.client.program import run
    from portico.client.requester import Answer, Requester
    from portico.client.worker import Worker
    from portico.publisher.answers import Receipt, Refused, Unavailable
    from portico.publisher.asynchronous import AsyncPublisher
    from portico.publisher.blocking import Publisher
    from portico.publisher.calls import Push, Target
    from portico.wire.codes import CloseCode, ErrorCode
    from portico.wire.messages import Identity

__version__: Final = VERSION

__all__ = [
    "Answer",
    "AsyncPublisher",
    "Backoff",
    "BadAddress",
    "BadMessage",
    "Call",
    "Client",
    "ClientError",
    "CloseCode",
    "CommandFailed",
    "Complaint",
    "ConnectFailed",
    "Connected",
    "Connecting",
    "ConnectionLost",
    "DiscoveryFailed",
    "Draining",
    "ErrorCode",
    "Event",
    "GaveUp",
    "Handler",
    "HandshakeRefused",
    "Identity",
    "LinkOptions",
    "Lost",
    "MessageTooLarge",
    "NoGreeting",
    "NoToken",
    "NoWorkers",
    "NotRunning",
    "Publisher",
    "Push",
    "Receipt",
    "Refused",
    "RegistrationRejected",
    "Report",
    "RequestFailed",
    "RequestTimeout",
    "Requester",
    "Retrying",
    "SentAway",
    "StreamOverrun",
    "Superseded",
    "Target",
    "TokenFailed",
    "Unavailable",
    "Unreachable",
    "Unsendable",
    "Worker",
    "WorkerLost",
    "WorkersBusy",
    "__version__",
    "current_call",
    "run",
    "send_part",
]

_HOMES: Final = {
    "portico.client.backoff": ("Backoff",),
    "portico.client.client": ("Client",),
    "portico.client.envelope": ("Call",),
    "portico.client.events": (
        "BadMessage", "Complaint", "Connected", "Connecting", "Draining", "Event", "Lost", "Report", "Retrying",
        "TokenFailed",
    ),
    "portico.client.handlers": ("CommandFailed", "Handler", "current_call", "send_part"),
    "portico.client.link": ("LinkOptions",),
    "portico.client.program": ("run",),
    "portico.client.requester": ("Answer", "Requester"),
    "portico.client.worker": ("Worker",),
    "portico.publisher.answers": ("Receipt", "Refused", "Unavailable"),
    "portico.publisher.asynchronous": ("AsyncPublisher",),
    "portico.publisher.blocking": ("Publisher",),
    "portico.publisher.calls": ("Push", "Target"),
    "portico.wire.codes": ("CloseCode", "ErrorCode"),
    "portico.wire.messages": ("Identity",),
}  # fmt: skip
_HOME_OF: Final = {name: module for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # a type checker that saw it would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """Load an exported name when it is first used (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # What is not listed is an exception.
        value = getattr(import_module(_HOME_OF.get(name, "portico.client.errors")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
