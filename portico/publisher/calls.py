"""Calls of the HTTP API, without any I/O: what is sent, what an answer means, and whether to send again.

`Publisher` and `AsyncPublisher` are thin shells around this: they send a `Call`, hand what came to `Attempts`, and are
told what to do next. So both behave alike.

When a call is sent again. A call is never repeated if that could do something twice:
- A push has an `id` (one is made where none is given), and the gateway delivers an id once within 5 minutes. So it is
  sent again whatever went wrong, until `patience` is over, which is less than these 5 minutes.
- Reading, ending a login and kicking are harmless to repeat.
- A request to a worker is repeated after a broken connection only if it is `idempotent`.
- Starting a login, and asking a client, is repeated only if it never reached the gateway: no connection came about.
A proxy that answers in the gateway's place (502, 503 or 504, and no JSON) counts as a broken connection: the gateway
may have done it. A 429 says that nothing was done, so everything is sent again after it, when it says (`Retry-After`).

Source: the HTTP API reference.
"""

import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

import httpx
import msgspec

from portico.client.errors import BadAddress, ClientError, GaveUp, Unreachable, Unsendable, printable, reason_of

from .answers import (
    Came,
    Receipt,
    Refused,
    read_answer,
    read_deleted,
    read_kicked,
    read_list,
    read_object,
    read_receipt,
    read_receipts,
)

T = TypeVar("T")

FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0
LONGEST_PATIENCE: Final = 240.0
"""Seconds; the gateway remembers a push's id for 300."""
MAX_BATCH: Final = 10_000
PAGE: Final = 1000
"""Rows of one page of clients."""
BEFORE_SENDING: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Failures after which the gateway has not got the call."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a push is for: exactly one of these."""

    client_id: str | None = None
    user_id: str | None = None
    node_id: str | None = None
    domain_id: str | None = None
    cluster_id: str | None = None
    channel_id: str | None = None
    all: bool = False

    def as_json(self) -> dict[str, object]:
        """The one address. Raises ValueError where there is none, or more than one."""
        named: dict[str, object] = {
            name: value
            for name in ("client_id", "user_id", "node_id", "domain_id", "cluster_id", "channel_id")
            if (value := getattr(self, name)) is not None
        }
        if self.all:
            named["all"] = True
        if len(named) != 1:
            raise ValueError(
                "A push has exactly one target: client_id, user_id, node_id, domain_id, cluster_id, channel_id, "
                "or all=True."
            )
        return named


@dataclass(frozen=True, slots=True)
class Push:
    """One push, for `push_many`: the arguments of `push`."""

    target: Target
    type: str
    data: Mapping[str, object] | None = None
    durable: bool = False
    ttl: float | None = None
    id: str | None = None

    def as_json(self) -> dict[str, object]:
        """As the API takes it, with an id in any case."""
        found: dict[str, object] = {
            "target": self.target.as_json(),
            "type": self.type,
            "id": uuid4().hex if self.id is None else self.id,
        }
        if self.data is not None:
            found["data"] = self.data
        if self.durable:
            found["durable"] = True
        if self.ttl is not None:
            found["ttl"] = self.ttl
        return found


@dataclass(frozen=True, slots=True)
class ApiCall(Generic[T]):
    """One call: what to send, and how to read what comes.

    `repeatable`: it may be sent again although the gateway may have done it. `patient`: it is sent again after a 503
    (not where 503 is an answer, as for a request that no worker serves). `timeout`: seconds that the gateway may take
    longer than usual, since it waits for a worker or a client.
    """

    method: str
    path: str
    read: Callable[[Came], T]
    body: bytes | None = None
    repeatable: bool = True
    patient: bool = True
    timeout: float = 0.0


@dataclass(slots=True)
class Attempts:
    """The attempts of one call, so far. `patience`: seconds from the first one within which another may begin."""

    call: ApiCall[Any]
    patience: float
    count: int = 0
    random: Callable[[], float] = field(default=random.SystemRandom().random, repr=False)

    def after_answer(self, came: Came, elapsed: float) -> float | None:
        """Seconds until the call is sent again; None if it isn't, as this answer counts. `elapsed`: seconds since the
        first try began."""
        self.count += 1
        again = self.call.repeatable if came.by_proxy else came.status == 503 and self.call.patient
        return self._delay(_seconds(came.retry_after), elapsed) if again or came.status == 429 else None

    def after_failure(self, reached: bool, elapsed: float) -> float | None:
        """The same where no answer came. `reached`: the gateway may have got the call."""
        self.count += 1
        return None if reached and not self.call.repeatable else self._delay(0.0, elapsed)

    def _delay(self, at_least: float, elapsed: float) -> float | None:
        bound = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self.count - 1, 16))
        delay = at_least + self.random() * bound
        return delay if elapsed + delay <= self.patience else None


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        return 0.0


def base_address(base_url: str) -> str:
    """A gateway's HTTP address without a slash at its end. Raises BadAddress."""
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        good = good and (parts.port is None or parts.port > 0) and base_url.isprintable() and " " not in base_url
    except (ValueError, AttributeError, TypeError):
        good = False
    if not good:
        raise BadAddress(f"{printable(str(base_url))!r} is not an address like http://localhost:8000.")
    if parts.username is not None or parts.password is not None:
        raise BadAddress("An address must not contain a user name or password; give an api_key instead.")
    return base_url.rstrip("/")


def headers_for(api_key: str | None) -> dict[str, str]:
    """The headers of every call. Raises ValueError for a key that no header can hold."""
    found = {"content-type": "application/json", "accept": "application/json"}
    if api_key is not None:
        if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
            raise ValueError("An API key has only visible ASCII characters.")
        found["authorization"] = f"Bearer {api_key}"
    return found


def checked_patience(patience: float) -> float:
    """Raises ValueError for one that outlives the gateway's memory of ids."""
    if not 0 <= patience <= LONGEST_PATIENCE:
        raise ValueError(
            f"patience must be 0 to {LONGEST_PATIENCE:g} seconds: the gateway knows a push again for 5 minutes."
        )
    return patience


def trusted(base_url: str, ssl_context: ssl.SSLContext | None) -> ssl.SSLContext | bool:
    """What the gateway's certificate is checked against: `ssl_context`, or the authorities that this machine trusts.

    Those are OpenSSL's, so SSL_CERT_FILE counts, as it does for Client, Worker and Requester; httpx would take a list
    that it brings along. Over http there is nothing to check, and reading the authorities' certificates takes 20 ms.
    """
    if ssl_context is not None:
        return ssl_context
    return False if base_url.startswith("http:") else ssl.create_default_context()


def unreachable(base_url: str, error: BaseException, attempts: int) -> ClientError:
    """No answer came, because of this."""
    last = Unreachable(f"No answer from {printable(base_url)}: {reason_of(error)}.")
    return last if attempts == 1 else GaveUp(attempts, last)


# The calls


def push(one: Push) -> ApiCall[Receipt]:
    """`POST /api/notifications` with one push. Raises ValueError or Unsendable."""
    return ApiCall("POST", "/api/notifications", read_receipt, _encoded(one.as_json()))


def push_many(pushes: Sequence[Push]) -> ApiCall[list[Receipt | Refused]]:
    """`POST /api/notifications` with a list. Raises ValueError or Unsendable."""
    if len(pushes) > MAX_BATCH:
        raise ValueError(f"A batch has at most {MAX_BATCH} pushes; send several.")
    body = _encoded([one.as_json() for one in pushes])
    return ApiCall("POST", "/api/notifications", lambda came: read_receipts(came, len(pushes)), body)


def named(pushes: Sequence[Push]) -> list[Push]:
    """The same pushes, each with an id, so that the gateway knows one that is sent again."""
    return [one if one.id is not None else replace(one, id=uuid4().hex) for one in pushes]


def login(user_id: str, fields: Mapping[str, object]) -> ApiCall[dict[str, Any]]:
    """`POST /api/logins`; fields that are None are left out."""
    body = _encoded({"user_id": user_id, **{name: value for name, value in fields.items() if value is not None}})
    return ApiCall("POST", "/api/logins", read_object, body, repeatable=False, patient=False)


def logout(session_id: str, reason: str) -> ApiCall[bool]:
    """`DELETE /api/logins/{session_id}`: whether there was one."""
    if reason not in ("logout", "revoked"):
        raise ValueError("reason must be 'logout' or 'revoked'")
    query = "" if reason == "logout" else "?reason=revoked"
    return ApiCall("DELETE", f"/api/logins/{_part(session_id)}{query}", read_deleted)


def logins(user_id: str) -> ApiCall[list[dict[str, Any]]]:
    """`GET /api/logins?user_id=`."""
    return ApiCall("GET", f"/api/logins?{urlencode({'user_id': user_id})}", lambda came: read_list(came, "logins"))


def request(command: str, data: object, timeout: float | None, affinity: str | None, idempotent: bool) -> ApiCall[Any]:
    """`POST /api/requests`."""
    asked: dict[str, object] = {"command": command, "request_id": uuid4().hex}
    if data is not None:
        asked["data"] = data
    if timeout is not None:
        asked["timeout"] = timeout
    if affinity is not None:
        asked["affinity"] = affinity
    if not idempotent:
        asked["idempotent"] = False
    waits = 30.0 if timeout is None else timeout
    return ApiCall(
        "POST", "/api/requests", read_answer, _encoded(asked), repeatable=idempotent, patient=False, timeout=waits
    )


def ask_client(client_id: str, action: str, params: object, timeout: float | None) -> ApiCall[Any]:
    """`POST /api/clients/{client_id}/requests`."""
    asked: dict[str, object] = {"action": action}
    if params is not None:
        asked["params"] = params
    if timeout is not None:
        asked["timeout"] = timeout
    path = f"/api/clients/{_part(client_id)}/requests"
    waits = 30.0 if timeout is None else timeout
    return ApiCall("POST", path, read_answer, _encoded(asked), repeatable=False, patient=False, timeout=waits)


def kick(client_id: str) -> ApiCall[int]:
    """`DELETE /api/clients/{client_id}`: how many connections were closed."""
    return ApiCall("DELETE", f"/api/clients/{_part(client_id)}", read_kicked)


def clients(filters: Mapping[str, object], limit: int, offset: int) -> ApiCall[dict[str, Any]]:
    """`GET /api/clients`: one page."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    query = urlencode({**wanted, "limit": limit, "offset": offset})
    return ApiCall("GET", f"/api/clients?{query}", read_object)


def workers() -> ApiCall[list[dict[str, Any]]]:
    """`GET /api/workers`."""
    return ApiCall("GET", "/api/workers", lambda came: read_list(came, "workers"))


def _part(text: str) -> str:
    if not text:
        raise ValueError("An id must not be empty.")
    return quote(text, safe="")


def _encoded(value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unsendable(f"This cannot be written as JSON: {printable(str(error))}.") from error
