"""What can go wrong for a program that uses the SDK: one class per cause, all of them `ClientError`.

Knows no library and no socket: what httpx, websockets or trio raise is translated by the modules that use
them. Promises that every message is one printable sentence, whatever text the other side sent.
"""

from typing import Final

from portico.wire.safe_text import safe_text

_LONGEST_QUOTE: Final = 200
_DEEPEST_CAUSE: Final = 16


def printable(text: str, limit: int = _LONGEST_QUOTE) -> str:
    """Text from the other side, safe in a log line or a terminal: escaped and at most `limit` characters."""
    return safe_text(text, limit)


def reason_of(error: BaseException) -> str:
    """Why an attempt failed, printable: the text of the innermost cause that has any, else the name of the exception.

    For example, of an untrusted certificate only the innermost exception says so. Groups say nothing but their size.
    There is no full stop at its end, since it goes into sentences.
    """
    said = ""
    found: BaseException | None = error
    for _ in range(_DEEPEST_CAUSE):
        if found is None:
            break
        if not isinstance(found, BaseExceptionGroup):
            said = str(found) or said
        found = found.__cause__ or (None if said else found.__context__)
    return printable(said).rstrip(".") or type(error).__name__


class ClientError(Exception):
    """What the SDK raises on purpose, but for the ValueError or TypeError of arguments that are wrong in themselves."""


class BadAddress(ClientError, ValueError):
    """The address that was given is not one that can be connected to. Misuse: no retry helps."""


class Unsendable(ClientError, TypeError):
    """The value that was given cannot be written as JSON. Misuse: nothing was sent."""


class MessageTooLarge(ClientError, ValueError):
    """The message is larger than the gateway takes, which would cost the connection. Nothing was sent."""


class Unreachable(ClientError):
    """No connection came about this time. `retry_after`: seconds the gateway asked to wait, at least."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DiscoveryFailed(Unreachable):
    """The gateway's HTTP address did not say where its WebSocket is."""


class ConnectFailed(Unreachable):
    """The WebSocket could not be opened: no route, no answer in time, or a server that can't right now."""


class NoGreeting(Unreachable):
    """The connection stood, but the gateway never confirmed who we are."""


class HandshakeRefused(ClientError):
    """The gateway refused the WebSocket upgrade for good (HTTP 4xx): asking again would not help."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RegistrationRejected(ClientError):
    """The gateway would not register this client. `reason` is its error code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"The gateway rejected the registration ({printable(reason)}): {printable(message)}")
        self.reason = reason


class NoToken(ClientError):
    """There is no further token, so the client has stopped. A program's `refresh_token` may raise it; returning None is
    the same."""


class Superseded(ClientError):
    """A registration was overtaken by a later one, and never answered: the later one is who the client is."""


class ConnectionLost(ClientError):
    """The connection ended under a call. `code` is the close code, 1006 where none came."""

    def __init__(self, code: int, reason: str = "") -> None:
        said = f": {printable(reason)}" if reason else ""
        super().__init__(f"The connection to the gateway was lost (close code {code}{said}).")
        self.code = code
        self.reason = reason


class SentAway(ConnectionLost):
    """The gateway closed the connection with a code that says not to come back."""

    def __init__(self, code: int, reason: str = "", meaning: str = "") -> None:
        super().__init__(code, reason)
        said = f" ({printable(reason)})" if reason else ""
        self.args = (f"The gateway sent us away with close code {code}, {meaning or 'for good'}{said}.",)


class GaveUp(ClientError):
    """As many attempts as were allowed have failed in a row; the last failure is the `__cause__`."""

    def __init__(self, attempts: int, last: Exception) -> None:
        super().__init__(f"Gave up after {attempts} failed attempts. {last}")
        self.attempts = attempts


class NotRunning(ClientError):
    """A call was made outside `async with`, or under another loop than trio's. Misuse."""


class RequestFailed(ClientError):
    """A request was answered with an error. `error` is the answer's text."""

    def __init__(self, error: str, *, request_id: str = "", processed_by: str | None = None) -> None:
        super().__init__(printable(error, 2000))
        self.error = error
        self.request_id = request_id
        self.processed_by = processed_by


class NoWorkers(RequestFailed):
    """No worker that is connected serves the command."""


class WorkersBusy(RequestFailed):
    """Every worker is at its capacity, and the queue is full."""


class WorkerLost(RequestFailed):
    """The worker went away, and the request could not be moved to another."""


class RequestTimeout(RequestFailed):
    """No answer in time, whether the gateway noticed or we did."""


class StreamOverrun(ClientError):
    """Partial answers came faster than they were read, and their buffer is full; the rest is dropped."""


_BY_TEXT: Final[dict[str, type[RequestFailed]]] = {
    "No available workers": NoWorkers,
    "Workers busy": WorkersBusy,
    "Worker lost": WorkerLost,
    "Worker response timeout": RequestTimeout,
}


def request_failed(error: str, request_id: str, processed_by: str | None) -> RequestFailed:
    """The exception for an error answer: the class of its cause, or `RequestFailed` for a worker's own."""
    return _BY_TEXT.get(error, RequestFailed)(error, request_id=request_id, processed_by=processed_by)
