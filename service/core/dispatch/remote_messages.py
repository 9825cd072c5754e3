"""What nodes say to one another about requests: the kinds of messages, and their form as MessagePack arrays.

New fields go to the end, with defaults, so that nodes of two versions understand one another while one is replaced.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from ..cluster.backplane import LARGEST_MESSAGE
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


LARGEST_COMMANDS: Final = LARGEST_MESSAGE - (64 << 10)
"""Bytes that one worker's commands may take, so that other nodes can be told of them."""


def size_of_commands(commands: Iterable[str]) -> int:
    """Bytes that these take in an offer, at most."""
    return sum(len(command.encode()) + 5 for command in commands)


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
    sets of commands by number (None: every command), all if `whole`, otherwise the new ones. `follow`: the numbers of
    workers that are there too, and told of in the messages right after this one, since all are too much for one.
    `process`: a name that the sender has from its start to its end, whatever its node is called. `asks`: the sender
    may not know the receiver's workers, so answer with all of them."""

    whole: bool
    waits: bool
    command_sets: dict[int, list[str] | None]
    workers: list[OfferedWorker]
    gone: list[int]
    follow: list[int] = []
    process: str = ""
    asks: bool = False


class Attempt(Struct, array_like=True, frozen=True):
    """One attempt at a request. `name`: the sender's for this attempt; `caller` tells the sender's callers apart;
    `data` is JSON. `worker`: the number of the worker that the sender chose (None: any); `may_wait`: it may wait for
    room. `client_id`: for this client, and no worker. `trusted`: the caller has shown a key. `party`: whom the
    caller counts for ("": the sender doesn't say)."""

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
    party: str = ""


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


def offer_messages(offer: Offer, limit: int = LARGEST_MESSAGE) -> list[bytes]:
    """An offer as the messages, of at most `limit` bytes each, that tell it: one, but for thousands of workers, or sets
    of very many commands. What is lost of several does no lasting harm, like a lost message.

    A worker whose set of commands is too large for any message is left out. (None becomes one with such a set.)
    """
    whole = encode(offer)
    if len(whole) <= limit:
        return [whole]
    # What the first one has besides: a number takes at most 9 bytes.
    room = limit - 64 - len(offer.process.encode()) - 9 * (len(offer.workers) + len(offer.gone))
    parts: list[tuple[dict[int, list[str] | None], list[OfferedWorker]]] = [({}, [])]
    size = 0
    told: set[int] = set()
    for worker in offer.workers:
        new = worker.commands in offer.command_sets and worker.commands not in told
        commands = offer.command_sets[worker.commands] if new else None
        cost = len(encode(worker)) + (len(encode(commands)) + 9 if new else 0)
        if cost > room:
            continue
        if size + cost > room:
            parts.append(({}, []))
            size = 0
        size += cost
        sets, workers = parts[-1]
        workers.append(worker)
        if new:
            sets[worker.commands] = commands
            told.add(worker.commands)
    (first_sets, first), *others = parts
    follow = [worker.number for _, workers in others for worker in workers]
    return [
        encode(Offer(offer.whole, offer.waits, first_sets, first, offer.gone, follow, offer.process, offer.asks)),
        *(encode(Offer(False, offer.waits, sets, workers, [], process=offer.process)) for sets, workers in others),
    ]
