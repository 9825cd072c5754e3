"""RESP2, both ways: commands as Redis reads them, and a parser of what it answers to them.

Knows bytes and nothing of what they mean. (What comes on a connection that subscribes is read by `pubsub`, which bounds
it.) Source: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from collections.abc import Sequence

import hiredis

from .faults import MalformedReply, Refusal

Word = bytes | str | int
Command = Sequence[Word]


def encode(command: Command) -> bytes:
    """A command as Redis reads it."""
    words: tuple[str | int | float | bytes | memoryview[int], ...] = tuple(command)
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # the stub says a tuple of one
    return packed


def new_reader() -> hiredis.Reader:
    """A parser of answers; an error that Redis answers is a Refusal among them, nonsense raises
    MalformedReply."""
    return hiredis.Reader(protocolError=MalformedReply, replyError=Refusal)
