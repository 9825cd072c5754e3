"""What nodes say to one another about requests: the messages' form, as MessagePack arrays, and their kinds.

New fields go to the end, with defaults, so that nodes of two versions understand one another while one is replaced.
"""

from typing import Final

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from .model import OutcomeKind

WORKERS: Final = "workers"
REQUEST: Final = "request"
CANCEL: Final = "cancel"
RESPONSE: Final = "response"
CHECK: Final = "check"
GONE: Final = "gone"
"""The kinds. A CANCEL is the request's name, as UTF-8; CHECK and GONE have lists of names."""

LARGEST: Final = 16 << 20
"""Bytes of parameters, or of a result, that are passed between nodes."""


class Offered(Struct, array_like=True, frozen=True):
    """The workers here that serve the same commands (None: every one). `number` names them; `room`: how many requests
    more they take, of `capacity` in all; `has`: how many of each other node's they are working on."""

    number: int
    commands: list[str] | None
    room: int
    capacity: int
    has: dict[str, int]


class Call(Struct, array_like=True, frozen=True):
    """A request. `name` is its sender's for this attempt; `caller` tells the sender's callers apart; `data` is JSON.
    `client_id`: for this client, and no worker."""

    name: str
    caller: int
    command: str
    data: bytes
    deadline_ms: int
    stream: bool
    attempt: int
    affinity: str | None
    tried: tuple[str, ...]
    client_id: str | None = None


class Reply(Struct, array_like=True, frozen=True):
    """What came of a Call. `kind` NO_WORKERS or BUSY: no worker was sent it; LOST: the worker `processed_by` was, and
    is gone."""

    name: str
    kind: OutcomeKind
    partial: bool
    data: bytes | None
    error: str | None
    processed_by: str | None


encode: Final = Encoder().encode
decode_offer: Final = Decoder(list[Offered]).decode
decode_call: Final = Decoder(Call).decode
decode_reply: Final = Decoder(Reply).decode
decode_names: Final = Decoder(list[str]).decode
