"""PeerFault: what a peer did wrong, and the answer it gets.

A fault is expected: strangers send anything. A decoder raises nothing else. It carries the error code, a sentence, the
field concerned, and, if the connection is to end, the close code. The session turns it into the error frame of its
dialect, HTTP into a 4xx answer.
"""

from collections.abc import Iterable

from .codes import CloseCode, ErrorCode


class PeerFault(Exception):
    """A peer's message that cannot be accepted.

    `message` is one sentence for the peer: what was wrong and what would be right; it never quotes what
    the peer sent. `field` is the name of the field concerned. `close` ends the connection after the
    answer; None leaves it open. `msg_id` is the peer's own id for the message, where it was readable.
    `retry_after`: seconds after which the same may be accepted.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        field: str | None = None,
        close: CloseCode | None = None,
        msg_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.field = field
        self.close = close
        self.msg_id = msg_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        # Made only when it is looked at: strangers choose how many faults there are, and hardly one is shown.
        return f"{self.code}: {self.message}"


def unknown_type(kinds: Iterable[str], noun: str = "type", *, field: str = "type") -> PeerFault:
    """The fault for a type that is none of `kinds`, which the sentence names: those that are taken. `noun`: what they
    are called, in the singular."""
    sentence = f"This {noun} is not known here; the {noun}s are: {', '.join(sorted(kinds))}."
    return PeerFault(ErrorCode.UNKNOWN_TYPE, sentence, field=field)
