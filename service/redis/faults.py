"""What goes wrong between us and Redis, and the one function that says it to operators.

Nothing here is a password: what Redis answers to AUTH may repeat one, so `refused` keeps only its error code.
"""

from typing import Final

import trio


class Refusal(Exception):
    """Redis answered with an error; its text begins with a word for it (`OOM`, `NOSCRIPT`, …)."""

    @property
    def word(self) -> str:
        """The kind of error."""
        return str(self).partition(" ")[0]


class Unreachable(Exception):
    """Redis was not asked, or what it answered is not known."""


class MalformedReply(Exception):
    """What came is not what Redis says: it is something else, or out of step."""


FAULTS: Final = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    Refusal,
    Unreachable,
    MalformedReply,
    ValueError,  # an answer of another form
    KeyError,
)
"""What connecting and asking may end in."""
_LONGEST: Final = 200


def refused(command: str, refusal: Refusal) -> Refusal:
    """The refusal of a command, fit to be shown: of AUTH no more than the error's code is told."""
    if command != "AUTH":
        return refusal
    code = refusal.word[:32]
    code = code if code.isascii() and code.isupper() else "ERR"
    return Refusal(f"{code} it refuses user or password; check those in REDIS_URL")


def reason(error: BaseException, seconds: float | None = None) -> str:
    """Why Redis could not be used, as a clause without passwords; `seconds` is what it had to answer."""
    match error:
        case BaseExceptionGroup():
            return reason(error.exceptions[0], seconds)
        case Refusal():
            return f"it answers {str(error)[:_LONGEST]!r}"
        case Unreachable():
            return str(error)
        case MalformedReply():
            return f"what answers there is not Redis, or out of step ({error})"
        case trio.TooSlowError():
            return "it did not answer in time" if seconds is None else f"it did not answer within {seconds:g} s"
        case trio.BrokenResourceError(__cause__=OSError() as cause):
            return reason(cause, seconds)
        case trio.BrokenResourceError() | trio.ClosedResourceError():
            return "the connection broke"
        case OSError():
            return error.strerror or str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}"
