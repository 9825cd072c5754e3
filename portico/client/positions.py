"""Where a client is in its streams: the offset of the last durable event that it has had of each.

Fed with what comes in, it says what to resume from, which events came a second time, and of which streams something may
be missing. Knows no connection and passes nothing on. Promises that a stream whose position is not known is never taken
for one of which nothing was missed: its name comes out of `registered` or `is_in_doubt` before any event that follows.

For example, a client registers while its node has no Redis: the answer names no position. Then the connection is lost,
and the next answer does name one. What was pushed in between can't be asked for, so `registered` names the stream.

Source: the protocol reference, "Durable events".
"""

from collections.abc import Collection
from itertools import islice
from typing import Any, Final, TypeGuard

LEFT: Final = 32
"""How many streams that the client has left are remembered, with the position in each."""


class Positions:
    """The streams of one client. Offsets that are no whole numbers are not trusted, and left alone."""

    def __init__(self) -> None:
        self._epoch: str | None = None
        self._streams: set[str] = set()  # of the present identity
        self._offsets: dict[str, int] = {}  # the positions in these streams, where they are known
        self._doubtful: set[str] = set()  # streams whose position the gateway's last answer did not name
        self._left: dict[str, int] = {}  # the positions in streams that the client has left, in this epoch

    @property
    def resume(self) -> dict[str, Any] | None:
        """What to send with the first registration on a connection; None before any position is known."""
        return None if self._epoch is None else {"epoch": self._epoch, "offsets": dict(self._offsets)}

    def registered(self, message: dict[str, Any], streams: Collection[str], *, resumed: bool) -> list[str]:
        """Note a `registration_success` for an identity that has these streams.

        `resumed`: the registration named positions, so streams that it did not name are not replayed. Returns, sorted,
        the streams of which something may be missing: those that the answer calls lost, and those that the client had
        before and could not resume.
        """
        said = message.get("resume")
        said = said if isinstance(said, dict) else {}
        epoch = said.get("epoch")
        now = _offsets_in(said) if isinstance(epoch, str) and epoch else {}
        lost = _names_in(said.get("lost"))
        if resumed and said.get("recovered") is False and not lost:
            # The answer doesn't say which streams are lost, so it may be any that we named.
            lost = set(self._offsets) & set(streams)
        if not now:
            # The gateway could not tell anything: we stay where we are, and ask again with the next registration.
            self._leave(streams)
            self._streams, self._doubtful = set(streams), set(streams)
            return sorted(lost)
        if epoch == self._epoch:
            self._leave(streams)
        else:
            self._left.clear()
        gone_on = set()
        for stream, at in now.items():
            known = self._offsets.get(stream)
            if known is not None and epoch == self._epoch and stream not in lost:
                now[stream] = known  # what comes after it is still to come
            elif stream in self._streams:
                gone_on.add(stream)
            else:
                # A node that is behind the one before would give us events again that we have had.
                now[stream] = max(at, self._left.pop(stream, at))
        kept = self._offsets if epoch == self._epoch else {}
        self._epoch = epoch
        self._offsets = kept | now
        self._streams = {*streams, *now}
        self._doubtful = self._streams - set(now)
        return sorted(lost | gone_on)

    def _leave(self, streams: Collection[str]) -> None:
        """Note that the client has only these streams from now on."""
        self._left |= {stream: at for stream, at in self._offsets.items() if stream not in streams}
        self._offsets = {stream: at for stream, at in self._offsets.items() if stream in streams}
        for stream in list(islice(self._left, max(0, len(self._left) - LEFT))):
            del self._left[stream]

    def gap(self, message: dict[str, Any]) -> None:
        """Note a `stream_gap`: go on from the position that it tells, or, where it tells none, from the next event."""
        named = _names_in(message.get("streams")) & self._streams
        epoch = message.get("epoch")
        now = {stream: at for stream, at in _offsets_in(message).items() if stream in named}
        if not isinstance(epoch, str) or not epoch:
            now = {}
        elif named and epoch != self._epoch:
            # Offsets of the old epoch mean nothing in this one. The other streams' gaps may still be on their way.
            self._epoch = epoch
            self._offsets = {}
            self._left.clear()
            self._doubtful = set(self._streams)
        for stream in named:
            self._offsets.pop(stream, None)
        self._offsets |= now
        self._doubtful -= named

    def is_new(self, push: dict[str, Any]) -> bool:
        """Whether this is no durable event, or one that we have not had."""
        stream, offset = push.get("stream"), push.get("offset")
        return not (isinstance(stream, str) and _is_offset(offset)) or offset > self._offsets.get(stream, -1)

    def is_in_doubt(self, push: dict[str, Any]) -> bool:
        """Whether something may be missing right before this push, which nobody has told."""
        return push.get("stream") in self._doubtful and _is_offset(push.get("offset"))

    def took(self, push: dict[str, Any]) -> None:
        """Note a push that was passed on."""
        stream, offset = push.get("stream"), push.get("offset")
        if isinstance(stream, str) and stream in self._streams and _is_offset(offset):
            self._offsets[stream] = offset
            self._doubtful.discard(stream)


def _offsets_in(message: dict[str, Any]) -> dict[str, int]:
    offsets = message.get("offsets")
    return {name: at for name, at in offsets.items() if _is_offset(at)} if isinstance(offsets, dict) else {}


def _names_in(value: object) -> set[str]:
    return {name for name in value if isinstance(name, str)} if isinstance(value, list) else set()


def _is_offset(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
