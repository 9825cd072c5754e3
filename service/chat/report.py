"""What is told of an answer that is over: numbers and words of our own, nothing that a person or the API said."""

from dataclasses import dataclass

from .faults import Ending
from .reading import Usage


@dataclass(frozen=True, slots=True)
class Answered:
    """How one answer went. Times in seconds, from the request on; None: it never came to that."""

    ending: Ending
    seconds: float
    first_token: float | None
    usage: Usage | None
