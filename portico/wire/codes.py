"""The catalogue of close codes and error codes: every number and word that a peer may act on.

Knows no dialect and no transport. A close code carries its own reconnect advice, so that the gateway, the SDK and the
load test have the same: for example 4009 (replaced by a newer connection) says not to come back, and 1012 (the node
restarts) to come back within the window in its reason. Source: protocol reference, "Close codes" and "Error codes".
"""

from enum import Enum, IntEnum, StrEnum
from typing import Final


class Advice(Enum):
    """What a client that was closed should do."""

    AS_IT_LIKES = "as it likes"
    NO = "no"
    YES = "yes"
    SPREAD = "yes, at a random moment within the window in the reason"
    BACK_OFF = "yes, with back-off"
    RESUME = "yes, and resume"


class CloseCode(IntEnum):
    """Every code that the gateway closes a connection with (RFC 6455 section 7.4, and our own 4000s)."""

    advice: Advice
    meaning: str

    def __new__(cls, value: int, advice: Advice, meaning: str) -> "CloseCode":
        member = int.__new__(cls, value)
        member._value_ = value
        member.advice = advice
        member.meaning = meaning
        return member

    NORMAL = 1000, Advice.AS_IT_LIKES, "normal"
    GOING_AWAY = 1001, Advice.AS_IT_LIKES, "going away"
    PROTOCOL_ERROR = 1002, Advice.NO, "not the WebSocket protocol"
    NOT_A_DIALECT = 1003, Advice.NO, "not a dialect"
    NOT_UTF8 = 1007, Advice.NO, "not UTF-8"
    POLICY = 1008, Advice.NO, "policy"
    TOO_LARGE = 1009, Advice.NO, "message too large"
    INTERNAL = 1011, Advice.BACK_OFF, "internal error"
    RESTARTING = 1012, Advice.SPREAD, "the node is restarting"
    TRY_LATER = 1013, Advice.BACK_OFF, "at its limit of connections"
    SILENT = 4000, Advice.YES, "said nothing in time"
    NOT_AUTHENTICATED = 4001, Advice.NO, "not authenticated"
    NOT_ALLOWED = 4003, Advice.NO, "not allowed"
    TOO_SLOW = 4008, Advice.RESUME, "reads too slowly"
    REPLACED = 4009, Advice.NO, "replaced by a newer connection of the same client"
    KICKED = 4010, Advice.NO, "kicked"
    RATE_LIMITED = 4029, Advice.BACK_OFF, "over the message rate limit"


_BY_NUMBER: Final = {int(member): member for member in CloseCode}


def close_label(code: int) -> str:
    """A close code as text of which there are few: those of the standard and our own; `other` for a client's own."""
    return str(code) if code in _BY_NUMBER or 1000 <= code <= 1015 else "other"


# What our side of a connection records where no Close frame came (RFC 6455 section 7.1.5); never sent.
ABNORMAL: Final = 1006


def advice_for(code: int) -> Advice:
    """The reconnect advice for any close code a client may see, ours or not.

    A code that is not in the catalogue (a proxy's, or 1006 for a connection that was just gone) means
    that the network decided, not the gateway: come back with back-off.
    """
    known = _BY_NUMBER.get(code)
    return Advice.BACK_OFF if known is None else known.advice


class ErrorCode(StrEnum):
    """Why something was refused: the same words in every dialect and in HTTP."""

    BAD_JSON = "bad_json"
    NOT_AN_OBJECT = "not_an_object"
    BINARY_NOT_SUPPORTED = "binary_not_supported"
    MISSING_FIELD = "missing_field"
    BAD_FIELD = "bad_field"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_DIALECT = "unknown_dialect"
    NOT_REGISTERED = "not_registered"
    UNKNOWN_REQUEST = "unknown_request"
    TOO_LARGE = "too_large"
    RATE_LIMITED = "rate_limited"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"
