"""WorkerAuthentication: who may become a worker. Knows secrets; never logs or returns one.

In development anyone may. In production it takes a secret: the handshake key (in `handshake`, or as `token` in
`connect`) or an API key in `Authorization`; where none is configured nobody may.
Source: protocol reference, "Who gets in".
"""

import hmac
from collections.abc import Collection
from enum import Enum

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault


class Entry(Enum):
    """What a connection that wants to be a worker is told."""

    IN = "may be one at once"
    PROVE = "must show a secret first"
    REFUSED = "nobody may: no secret is configured"


class InvalidHandshake(PeerFault):
    """A wrong handshake key; older workers know it by a code of its own."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.UNAUTHORIZED, "Invalid handshake", close=CloseCode.NOT_AUTHENTICATED)


class WorkerAuthentication:
    """Decides about workers. `handshake_key` and `api_keys` are the configured secrets, if any."""

    def __init__(self, *, production: bool, handshake_key: str | None, api_keys: Collection[str]) -> None:
        self._production = production
        # An empty secret would let in whoever sends none.
        self._handshake_key = handshake_key or None
        self._api_keys = tuple(key for key in api_keys if key)

    def api_key(self, authorization: str | None) -> bool:
        """True if an Authorization header bears one of the API keys."""
        if authorization is None:
            return False
        scheme, _, key = authorization.partition(" ")
        return scheme.lower() == "bearer" and self._is_one_of(key.strip(), self._api_keys)

    def entry(self, trusted: bool) -> Entry:
        """What a connection is told on arrival; `trusted`: its handshake bore an API key."""
        if not self._production or trusted:
            return Entry.IN
        return Entry.PROVE if self._handshake_key or self._api_keys else Entry.REFUSED

    def check_handshake(self, key: str | None, trusted: bool) -> None:
        """A `handshake` message. Raises PeerFault, closing with 4001 or 4003."""
        if self._handshake_key:
            if not self._is_one_of(key or "", (self._handshake_key,)):
                raise InvalidHandshake
            return
        self.check_token(key, trusted)

    def check_token(self, token: str | None, trusted: bool) -> None:
        """A `connect` message with role `worker`. Raises PeerFault, closing with 4001 or 4003."""
        entry = self.entry(trusted)
        if entry is Entry.REFUSED:
            raise refused()
        secrets = self._api_keys if self._handshake_key is None else (self._handshake_key, *self._api_keys)
        if entry is Entry.PROVE and not self._is_one_of(token or "", secrets):
            raise PeerFault(
                ErrorCode.UNAUTHORIZED,
                "A worker needs a secret here: the handshake key, or an API key.",
                close=CloseCode.NOT_AUTHENTICATED,
            )

    def proven(self, token: str | None, trusted: bool) -> bool:
        """Whether it has shown a secret, which nobody has to in development."""
        return trusted or self._is_one_of(token or "", [key for key in (self._handshake_key, *self._api_keys) if key])

    @staticmethod
    def _is_one_of(given: str, secrets: Collection[str]) -> bool:
        # Every secret is compared, and in constant time, so that timing tells nothing.
        shown = given.encode("utf-8", "surrogatepass")
        matches = [hmac.compare_digest(shown, secret.encode()) for secret in secrets]
        return any(matches)


def refused() -> PeerFault:
    """The fault where no secret is configured."""
    return PeerFault(
        ErrorCode.FORBIDDEN,
        "Workers are not allowed here: set WEBSOCKET_HANDSHAKE_KEY or PORTICO_API_KEYS on the gateway.",
        close=CloseCode.NOT_ALLOWED,
    )
