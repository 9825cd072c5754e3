"""Where a client is in its streams: of each, the offset of the last durable event that it has had.

Fed with what comes in, it says what to resume from, and which events came a second time. Knows no connection.
Source: the protocol reference, "Durable events".
"""

from typing import Any, TypeGuard


class Positions:
    """The streams of one client. Offsets that are no whole numbers are not trusted, and left alone."""

    def __init__(self) -> None:
        self._epoch: str | None = None
        self._offsets: dict[str, int] = {}

    @property
    def resume(self) -> dict[str, Any] | None:
        """What to send with the next registration; None before the first."""
        return None if self._epoch is None else {"epoch": self._epoch, "offsets": dict(self._offsets)}

    def registered(self, message: dict[str, Any]) -> list[str]:
        """A `registration_success`. Returns the streams of which something was lost.

        Streams that we know we stay where we are in: what was missed is still to come.
        """
        resume = message.get("resume")
        if not isinstance(resume, dict) or not isinstance(resume.get("epoch"), str):
            return []
        offsets = resume.get("offsets")
        now = {name: at for name, at in offsets.items() if _is_offset(at)} if isinstance(offsets, dict) else {}
        named = resume.get("lost")
        lost = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
        if not now:
            return lost  # the gateway could not tell: we ask again from where we were
        if resume["epoch"] == self._epoch:
            for name, at in self._offsets.items():
                if name in now and name not in lost:
                    now[name] = at
        self._epoch = resume["epoch"]
        self._offsets = now
        return lost

    def is_new(self, push: dict[str, Any]) -> bool:
        """Note a push; False for a durable event that we have had."""
        stream, offset = push.get("stream"), push.get("offset")
        if not (isinstance(stream, str) and _is_offset(offset)):
            return True
        if offset <= self._offsets.get(stream, -1):
            return False
        if stream in self._offsets:
            self._offsets[stream] = offset
        return True


def _is_offset(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
