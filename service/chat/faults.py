"""What goes wrong with an answer of the API's, each as a sentence for the person who asked.

Promises that no sentence holds the key, whatever the API says: its own words are passed on only where they help (a
request that it can't take), without anything that looks like the key, shortened and on one line. Nothing of them is
ever logged.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from math import ceil
from string import ascii_lowercase, ascii_uppercase
from typing import Final

import msgspec

from portico.wire.safe_text import safe_text

LONGEST_QUOTE: Final = 300
"""Characters of the API's own words that are passed on, at most."""
LONGEST_WAIT: Final = 24 * 3600
"""Seconds of a Retry-After that are believed."""
_PIECE: Final = 8
"""So many characters of the key in a row count as the key."""
_SMALL: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
_CHECK_URL: Final = "check OPEN_API_BASE_URL, which mostly ends in /v1"


class Ending(StrEnum):
    """How an answer ended: the label of its metric, and of its line in the log."""

    ANSWERED = "answered"
    CUT_SHORT = "cut_short"  # at the limit of tokens
    FILTERED = "filtered"
    CANCELLED = "cancelled"
    BAD_REQUEST = "bad_request"
    TOO_LONG = "too_long"
    UNKNOWN_MODEL = "unknown_model"
    KEY_REFUSED = "key_refused"
    BUSY = "busy"
    API_ERROR = "api_error"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    BROKEN = "broken"
    MALFORMED = "malformed"
    INTERNAL = "internal"


NOT_THE_OPERATORS: Final = frozenset(
    {Ending.ANSWERED, Ending.CUT_SHORT, Ending.FILTERED, Ending.CANCELLED, Ending.BAD_REQUEST, Ending.TOO_LONG}
)
"""Endings that are no affair of the operator's."""


class ChatFault(Exception):
    """There is no answer, or no whole one. The text is for the person who asked."""

    def __init__(self, ending: Ending, sentence: str) -> None:
        super().__init__(sentence)
        self.ending: Final = ending


def without_key(text: str, key: str) -> str:
    """`text` with `***` for the key and for every longer piece of it, in small or capital letters."""
    size = min(_PIECE, len(key))
    if not size:
        return text
    # A key is ASCII; the small form of other letters may be two letters, and places would not match.
    small, lowered = text.translate(_SMALL), key.translate(_SMALL)
    pieces = {lowered[at : at + size] for at in range(len(lowered) - size + 1)}
    shown: list[str] = []
    hidden_to = 0
    for at, letter in enumerate(text):
        if small[at : at + size] in pieces:
            if at >= hidden_to:
                shown.append("***")
            hidden_to = at + size
        if at >= hidden_to:
            shown.append(letter)
    return "".join(shown)


class _ErrorBody(msgspec.Struct):
    error: object = None
    message: object = None
    detail: object = None


_error_body = msgspec.json.Decoder(_ErrorBody)


def error_of(body: bytes) -> tuple[str, str]:
    """The text and the code (or type) in an error's body, as the various servers write it; empty where there is
    none."""
    try:
        said = _error_body.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "", ""
    return error_in(said.error if said.error is not None else said.message or said.detail)


def error_in(error: object) -> tuple[str, str]:
    """The same, of a decoded `error`."""
    if isinstance(error, Mapping):
        text = error.get("message")
        code = error.get("code") or error.get("type")
        return (text if isinstance(text, str) else "", str(code) if isinstance(code, str | int) else "")
    return (error if isinstance(error, str) else "", "")


def retry_after(value: str | None, now: datetime) -> int | None:
    """The seconds that a Retry-After asks for (RFC 9110, section 10.2.3: a number of them, or a date), at least 1; None
    where it says nothing that can be understood."""
    text = (value or "").strip()
    if not text:
        return None
    try:
        # Fractions are not in the RFC, and are sent.
        seconds = float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else None
        if seconds is None:
            date = parsedate_to_datetime(text)
            seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(1, ceil(min(seconds, LONGEST_WAIT))), LONGEST_WAIT)


def refusal(status: int, text: str, code: str, *, key: str, model: str, wait: int | None = None) -> ChatFault:
    """What an answer with an error's status means. `text`, `code`: of its body; `wait`: what its Retry-After asks
    for."""
    about = f"{code} {text}".lower()
    again = "later" if wait is None else f"in {wait} s"
    if status in (401, 403):
        return ChatFault(
            Ending.KEY_REFUSED,
            f"The model's API refused the key (HTTP {status}): set OPEN_API_KEY to one that it knows and that may use "
            f"the model {_named(model)}.",
        )
    if "insufficient_quota" in about or status == 402:
        return ChatFault(
            Ending.BUSY, "The account at the model's API has no credit left: look at its plan and billing."
        )
    if status == 429:
        return ChatFault(Ending.BUSY, f"The model's API is busy: try again {again}.")
    if "context_length" in about or "context length" in about or "maximum context" in about or status == 413:
        return ChatFault(
            Ending.TOO_LONG,
            "The conversation is too long for the model: begin a new one, or shorten it.",
        )
    if "content_filter" in about or "content management policy" in about:
        return filtered()
    if "model_not_found" in about or (status == 404 and "model" in about):
        return ChatFault(
            Ending.UNKNOWN_MODEL,
            f"The model's API doesn't know the model {_named(model)}: set PORTICO_CHAT_MODEL to one that it has.",
        )
    if status in (404, 405):
        return ChatFault(
            Ending.API_ERROR, f"There is no chat at the address of the model's API (HTTP {status}): {_CHECK_URL}."
        )
    if 300 <= status < 400:
        return ChatFault(
            Ending.API_ERROR,
            f"The model's API answered with a redirect (HTTP {status}), which is not followed, since the key would go "
            "with it: set OPEN_API_BASE_URL to where it leads.",
        )
    if status >= 500:
        return ChatFault(Ending.API_ERROR, f"The model's API has a problem (HTTP {status}): try again {again}.")
    said = safe_text(without_key(text[: 4 * LONGEST_QUOTE], key).strip(), LONGEST_QUOTE)
    quote = f", and says: {said}" if said else "."
    return ChatFault(Ending.BAD_REQUEST, f"The model's API can't take the request (HTTP {status}){quote}")


def filtered() -> ChatFault:
    """The API's filter did not let the question, or the answer, pass."""
    return ChatFault(
        Ending.FILTERED, "The content filter of the model's API let no answer pass: put the question another way."
    )


def web_page() -> ChatFault:
    """A page for people where events should be."""
    return ChatFault(Ending.MALFORMED, f"The model's API answered with a web page instead of an answer: {_CHECK_URL}.")


def malformed(what: str) -> ChatFault:
    """What came is not what such an API says. `what`: in our words."""
    return ChatFault(
        Ending.MALFORMED, f"The model's API sent {what}: check that OPEN_API_BASE_URL leads to an API like OpenAI's."
    )


def late(seconds: float) -> ChatFault:
    """No answer began in time."""
    return ChatFault(
        Ending.TIMEOUT,
        f"The model's API gave no answer within {seconds:g} s: try again, or set PORTICO_CHAT_FIRST_TOKEN_TIMEOUT "
        "higher for a model that thinks longer.",
    )


def stalled(seconds: float) -> ChatFault:
    """An answer began and did not go on."""
    return ChatFault(
        Ending.TIMEOUT, f"The answer stopped: nothing more came from the model's API for {seconds:g} s. Try again."
    )


def cut() -> ChatFault:
    """The connection ended within the answer."""
    return ChatFault(
        Ending.BROKEN, "The answer broke off: the model's API closed the connection before its end. Try again."
    )


def _named(model: str) -> str:
    return f"'{safe_text(model, 100)}'"
