"""What Redis says on a connection that subscribes, out of its bytes: sans-I/O.

Knows the part of RESP2 that such a connection hears, and refuses all else; nothing of channels or sockets. Promises
that a message beyond the limit is passed over as it comes and never kept: a general parser holds it as a whole, and
Redis lets anybody publish half a gigabyte. It costs 2 µs a message.
"""

from collections.abc import Iterator
from typing import Final

from .faults import MalformedReply

MESSAGE: Final = b"message"
SUBSCRIBED: Final = b"subscribe"
UNSUBSCRIBED: Final = b"unsubscribe"
ERROR: Final = b"-"

Reply = tuple[bytes, bytes, bytes | None]
"""One of the above, the very object; then the channel and, of a message, its payload (None: too large); or the text of
an error and None."""

LONGEST_LINE: Final = 65_536
"""Bytes of an error or a channel's name."""
_MESSAGE_HEAD: Final = b"*3\r\n$7\r\nmessage\r\n$"
_SHARDED_HEAD: Final = b"*3\r\n$8\r\nsmessage\r\n$"
_HEAD_LENGTH: Final = len(_MESSAGE_HEAD)
_SHARDED_LENGTH: Final = len(_SHARDED_HEAD)
# What is published on one shard of a cluster is a message like any other.
_KINDS: Final = {more + kind: kind for kind in (MESSAGE, SUBSCRIBED, UNSUBSCRIBED) for more in (b"", b"s")}


class _Unfinished(Exception):
    """More bytes are needed."""


class PubSubReader:
    """What comes on one connection. `limit`: bytes of a payload that is kept; so much, too, is buffered."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # An unfinished reply: joined only when it can be whole, so that a long one is not copied over and over.
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = 0
        self._passing_over = 0

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Each reply that is whole by now; exhaust it before feeding more. Raises MalformedReply."""
        if self._passing_over:
            passed = min(self._passing_over, len(data))
            self._passing_over -= passed
            data = data[passed:]
        elif self._parts:
            self._parts.append(data)
            self._size += len(data)
            if self._size < self._needed:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        at, end = 0, len(data)
        find, starts = data.find, data.startswith
        try:
            while at < end:
                if starts(_MESSAGE_HEAD, at):
                    head = at + _HEAD_LENGTH
                elif starts(_SHARDED_HEAD, at):
                    head = at + _SHARDED_LENGTH
                else:
                    reply, at = _other(data, at)
                    yield reply
                    continue
                line = find(b"\r\n", head)
                if line < 0:
                    raise _Unfinished
                channel = line + 2
                after = channel + int(data[head:line])
                line = find(b"\r\n", after + 3)
                if line < 0:
                    raise _Unfinished
                if after < channel or data[after : after + 3] != b"\r\n$":
                    raise MalformedReply("a channel's name that is not as long as it says")
                payload = line + 2
                size = int(data[after + 3 : line])
                beyond = payload + size
                if size < 0:
                    raise MalformedReply("a message without a payload")
                if size > self._limit:
                    yield MESSAGE, data[channel:after], None
                    self._passing_over = max(0, beyond + 2 - end)
                elif beyond + 2 > end:
                    self._keep(data[at:], beyond + 2 - at)
                    return
                elif data[beyond : beyond + 2] != b"\r\n":
                    raise MalformedReply("a message that is not as long as it says")
                else:
                    yield MESSAGE, data[channel:after], data[payload:beyond]
                at = beyond + 2
        except _Unfinished:
            self._keep(data[at:], 0)
        except ValueError:
            raise MalformedReply("a length that is no number") from None

    def _keep(self, rest: bytes, needed: int) -> None:
        if not needed and len(rest) > 2 * LONGEST_LINE:
            raise MalformedReply("a line without end")
        self._parts.append(rest)
        self._size = len(rest)
        self._needed = needed


def _other(data: bytes, at: int) -> tuple[Reply, int]:
    """What is no message, and where it ends."""
    first = data[at : at + 1]
    if first == ERROR:
        text, at = _line(data, at + 1)
        return (ERROR, text, None), at
    count, at = _line(data, at)
    if count != b"*3":
        raise MalformedReply("neither a message nor the answer to a command of ours")
    kind, at = _bulk(data, at)
    if kind not in _KINDS:
        raise MalformedReply("neither a message nor the answer to a command of ours")
    channel, at = _bulk(data, at)
    remaining, at = _line(data, at)
    if not remaining.startswith(b":"):
        raise MalformedReply("an acknowledgement without a count")
    return (_KINDS[kind], channel, None), at


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", at)
    if end < 0:
        raise _Unfinished
    return data[at:end], end + 2


def _bulk(data: bytes, at: int) -> tuple[bytes, int]:
    head, at = _line(data, at)
    if not head.startswith(b"$"):
        raise MalformedReply("a name was due")
    end = at + int(head[1:])
    if end + 2 > len(data):
        raise _Unfinished
    if end < at or data[end : end + 2] != b"\r\n":
        raise MalformedReply("a name that is not as long as it says")
    return data[at:end], end + 2
