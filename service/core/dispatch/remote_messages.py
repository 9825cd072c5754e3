"""What nodes say to one another about requests: the kinds of messages, and their form as MessagePack arrays.

New fields go to the end, with defaults, so that nodes of two versions understand one another while one is replaced.
"""

from typing import Final

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from .model import OutcomeKind

OFFER: Final = "offer"
ATTEMPT: Final = "attempt"
RECALL: Final = "recall"
CANCEL: Final = "cancel"
EXPIRED: Final = "expired"
RESULT: Final = "result"
CHECK: Final = "check"
GONE: Final = "gone"
"""The kinds. OFFER, ATTEMPT and RESULT have the forms below; RECALL, CHECK and GONE lists of names of attempts; CANCEL
and EXPIRED (its time is up) one name, as UTF-8."""


class OfferedWorker(Struct, array_like=True, frozen=True):
    """A worker of the sender, and how it is doing. `number` names it; `commands` is the number of its set of commands;
    `average`: seconds; `outstanding` counts all its requests, and `has` those of them that other nodes sent to this
    very worker, by node."""

    number: int
    commands: int
    client_id: str | None
    weight: float
    capacity: int
    outstanding: int
    average: float
    sick: bool
    has: dict[str, int]


class Offer(Struct, array_like=True, frozen=True):
    """What the sender's workers take. `whole`: all of them are here; otherwise those that changed, and the numbers of
    those that are `gone`. `waits`: requests wait at the sender, so tell it at once of any room. `command_sets`: the
    sets of commands by number (None: every command), all if `whole`, otherwise the new ones."""

    whole: bool
    waits: bool
    command_sets: dict[int, list[str] | None]
    workers: list[OfferedWorker]
    gone: list[int]


class Attempt(Struct, array_like=True, frozen=True):
    """One attempt at a request. `name`: the sender's for this attempt; `caller` tells the sender's callers apart;
    `data` is JSON. `worker`: the number of the worker that the sender chose (None: any); `may_wait`: it may wait for
    room. `client_id`: for this client, and no worker. `trusted`: the caller has shown a key."""

    name: str
    caller: int
    command: str
    data: bytes
    deadline_ms: int
    stream: bool
    attempt: int
    affinity: str | None
    tried: tuple[str, ...]
    worker: int | None
    may_wait: bool
    client_id: str | None = None
    trusted: bool = False


class AttemptResult(Struct, array_like=True, frozen=True):
    """What came of an attempt. `kind` NO_WORKERS or BUSY: no worker was sent it; LOST: the worker `processed_by` was
    sent it, and is gone. `seconds`: for how long a worker had it."""

    name: str
    kind: OutcomeKind
    partial: bool
    data: bytes | None
    error: str | None
    processed_by: str | None
    seconds: float = 0.0


encode: Final = Encoder().encode
decode_offer: Final = Decoder(Offer).decode
decode_attempt: Final = Decoder(Attempt).decode
decode_result: Final = Decoder(AttemptResult).decode
decode_names: Final = Decoder(list[str]).decode
