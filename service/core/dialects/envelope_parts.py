"""What the envelope dialect is served with, and by which numbers."""

from collections.abc import Callable
from dataclasses import dataclass

from ..back_end_events import BackEndEvents
from ..connections.authentication import Authentication
from ..connections.registration import Registration
from ..connections.worker_authentication import WorkerAuthentication
from ..dispatch.dispatcher import Dispatcher
from ..ports import Wall
from .actions import Actions


@dataclass(frozen=True, slots=True)
class EnvelopeParts:
    """What the envelope dialect is served with. `distant_workers` is asked about those that are not local: they show a
    secret in development too, where any page that a developer opens may connect."""

    registration: Registration
    authentication: Authentication
    actions: Actions
    dispatcher: Dispatcher
    workers: WorkerAuthentication
    distant_workers: WorkerAuthentication
    events: BackEndEvents
    wall: Wall
    make_id: Callable[[], str]


@dataclass(frozen=True, slots=True)
class EnvelopeRules:
    """Seconds, bytes, and how many requests a worker takes that doesn't say."""

    heartbeat_interval: float
    worker_capacity: int
    message_size: int
    worker_message_size: int
    registration_timeout: float
