"""Answers of the HTTP API: from an HTTP answer to what a caller gets, or to the exception with the gateway's words.

Source: the HTTP API reference.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from portico.client.errors import ClientError, Unreachable, printable, request_failed

T = TypeVar("T")

_NOT_OF_A_GATEWAY: Final = "the answer is none of a gateway's; is this its HTTP address?"
_NOT_FOR_HTTP: Final = (
    "this is a port for WebSockets, which has no HTTP API; give the address of the gateway's HTTP port"
)
_FOR_ANOTHER: Final = (502, 503, 504)
"""What a proxy answers where the gateway behind it did not."""


class Refused(ClientError):
    """The gateway refused a call: nothing was done.

    `status` is the HTTP status, `code` the protocol's error code, `field` the name of the field concerned, if any.
    """

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(f"{printable(message, 1000)} ({printable(code)}, HTTP {status})")
        self.status = status
        self.code = code
        self.message = message
        self.field = field


class Unavailable(Refused):
    """The gateway can't do it now (503, 429, or an `unavailable` of one push of a batch): try again later."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a push: `matched` connections belong to the target, `queued` of them were handed the event.

    `stream` and `offset` are set for durable events.
    """

    id: str
    stream: str | None
    offset: int | None
    matched: int
    queued: int


class _ErrorText(msgspec.Struct):
    code: str = "internal"
    message: str = "no reason was given"
    field: str | None = None


class _Error(msgspec.Struct):
    error: _ErrorText


class _Receipt(msgspec.Struct):
    id: str
    stream: str | None = None
    offset: int | None = None
    matched: int = 0
    queued: int = 0
    error: _ErrorText | None = None


class _ItemError(msgspec.Struct):
    error: _ErrorText


class _Answer(msgspec.Struct):
    success: bool
    request_id: Any = None
    data: Any = None
    result: Any = None
    error: str | None = None
    processed_by: str | None = None


class _Kicked(msgspec.Struct):
    kicked: int


@dataclass(frozen=True, slots=True)
class Came:
    """An HTTP answer, as a publisher got it. `retry_after`: the text of that header."""

    status: int
    body: bytes
    retry_after: str | None = None

    @property
    def by_proxy(self) -> bool:
        """Whether a proxy answered in the gateway's place: 502, 503 or 504, and no JSON object, as a gateway answers.

        The gateway may have done the call all the same, for example if it ended before its answer was through.
        """
        if self.status not in _FOR_ANOTHER:
            return False
        try:
            msgspec.json.decode(self.body, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return True
        return False


def _decoded(came: Came, form: type[T]) -> T:
    try:
        return msgspec.json.decode(came.body, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _refused(came) from None


def _refused(came: Came) -> ClientError:
    if came.by_proxy:
        return Unreachable(f"No answer of the gateway's: a proxy before it answered with HTTP {came.status}.")
    try:
        said = msgspec.json.decode(came.body, type=_Error).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = _ErrorText("internal", _NOT_FOR_HTTP if came.status == 426 else _NOT_OF_A_GATEWAY)
    kind = Unavailable if came.status in (429, 503) else Refused
    return kind(came.status, said.code, said.message, said.field)


def _succeeded(came: Came) -> Came:
    if not 200 <= came.status < 300:
        raise _refused(came)
    return came


def _receipt(found: _Receipt) -> Receipt:
    return Receipt(found.id, found.stream, found.offset, found.matched, found.queued)


def read_receipt(came: Came) -> Receipt:
    """The receipt of one push. Raises Refused or Unreachable."""
    return _receipt(_decoded(_succeeded(came), _Receipt))


def read_receipts(came: Came, count: int) -> list[Receipt | Refused]:
    """A receipt, or a refusal, for each push of a batch. Raises Refused or Unreachable."""
    rows = _decoded(_succeeded(came), list[msgspec.Raw])
    if len(rows) != count:
        raise Refused(
            came.status, "internal", "the answer to a batch has another number of receipts than it had pushes"
        )
    return [_read_row(bytes(row)) for row in rows]


def _read_row(row: bytes) -> Receipt | Refused:
    try:
        return _receipt(msgspec.json.decode(row, type=_Receipt))
    except msgspec.MsgspecError:
        pass
    try:
        said = msgspec.json.decode(row, type=_ItemError).error
    except msgspec.MsgspecError:
        said = _ErrorText("internal", "this push's receipt cannot be read")
    if said.code in ("unavailable", "rate_limited"):
        return Unavailable(503, said.code, said.message, said.field)
    return Refused(400, said.code, said.message, said.field)


def read_object(came: Came) -> dict[str, Any]:
    """An object as it is. Raises Refused or Unreachable."""
    return _decoded(_succeeded(came), dict[str, Any])


def read_list(came: Came, name: str) -> list[dict[str, Any]]:
    """The list that an object has under a name. Raises Refused or Unreachable."""
    found = read_object(came).get(name)
    if not isinstance(found, list):
        raise _refused(came)
    return found


def read_deleted(came: Came) -> bool:
    """Whether there was something to delete. Raises Refused or Unreachable."""
    if came.status == 404:
        return False
    _succeeded(came)
    return True


def read_kicked(came: Came) -> int:
    """How many connections were closed; 0 where the client is not connected. Raises Refused or Unreachable."""
    if came.status == 404:
        return 0
    return _decoded(_succeeded(came), _Kicked).kicked


def read_answer(came: Came) -> Any:
    """What a worker or client answered. Raises RequestFailed for an error answer."""
    try:
        found = msgspec.json.decode(came.body, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _refused(came) from None
    if not found.success:
        raise request_failed(found.error or "unknown error", str(found.request_id or ""), found.processed_by)
    return found.result if found.result is not None else found.data
