"""WorkerAuthentication: who may become a worker. Knows secrets; never logs or returns one.

Two rules, of which each instance has one. As in development: anybody may. As in production: a worker shows the
handshake key (in `handshake`, or as `token` in `connect`) or an API key with the scope `worker` (in `Authorization`, or
in the handshake key's places); where neither is configured nobody may. In development the second one is for workers of
other machines, since any page that a developer opens could connect as one.
Source: protocol reference, "Who gets in".
"""

import hmac
from enum import Enum

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault

from ..api_keys import ApiKey, ApiKeys, lacks
from ..proof import NotProven


class Entry(Enum):
    """What a connection that wants to be a worker is told."""

    IN = "may be one at once"
    PROVE = "must show a secret first"
    REFUSED = "nobody may: no secret is configured"


class InvalidHandshake(NotProven):
    """A wrong handshake key; older workers know it by a code of its own."""

    def __init__(self) -> None:
        super().__init__("worker_secret", "Invalid handshake")


class WorkerAuthentication:
    """Decides about workers. `production`: they need a secret. `handshake_key`, `api_keys`: the configured secrets."""

    def __init__(self, *, production: bool, handshake_key: str | None, api_keys: ApiKeys) -> None:
        self._production = production
        # An empty secret would let in whoever sends none.
        self._handshake_key = handshake_key or None
        self._api_keys = api_keys

    def entry(self, key: ApiKey | None) -> Entry:
        """What a connection is told on arrival; `key`: the API key that its handshake bore."""
        if not self._production or (key is not None and key.may("worker")):
            return Entry.IN
        return Entry.PROVE if self._handshake_key or self._api_keys.configured else Entry.REFUSED

    def check_handshake(self, secret: str | None, key: ApiKey | None) -> ApiKey | None:
        """A `handshake` message. Returns the API key that let it in, if one did. Raises PeerFault, closing with 4001 or
        4003."""
        if self._handshake_key:
            if not self._is_handshake_key(secret):
                raise InvalidHandshake
            return key
        return self.check_token(secret, key)

    def check_token(self, token: str | None, key: ApiKey | None) -> ApiKey | None:
        """A `connect` message with role `worker`. Returns the API key that let it in, if one did. Raises PeerFault,
        closing with 4001 or 4003."""
        entry = self.entry(key)
        if entry is Entry.REFUSED:
            raise refused()
        if entry is Entry.IN or self._is_handshake_key(token):
            return key
        shown = self._api_keys.find(token) or key
        if shown is None:
            if token:
                raise NotProven("worker_secret", "This is neither the handshake key nor one of the API keys.")
            raise NotProven("missing", "A worker needs a secret here: the handshake key, or an API key.")
        if not shown.may("worker"):
            raise lacks("worker")
        return shown

    def proven(self, token: str | None, key: ApiKey | None) -> bool:
        """Whether a connection has shown a secret that makes it a worker, also where none is needed."""
        shown = key if key is not None and key.may("worker") else self._api_keys.find(token)
        return (shown is not None and shown.may("worker")) or self._is_handshake_key(token)

    def trusts(self, token: str | None, key: ApiKey | None) -> bool:
        """Whether a worker's large messages are taken: it has shown a secret, or none is configured."""
        return self.proven(token, key) or not (self._handshake_key or self._api_keys.configured)

    def _is_handshake_key(self, given: str | None) -> bool:
        if self._handshake_key is None:
            return False
        return hmac.compare_digest((given or "").encode("utf-8", "surrogatepass"), self._handshake_key.encode())


def refused() -> PeerFault:
    """The fault where no secret is configured."""
    return PeerFault(
        ErrorCode.FORBIDDEN,
        "Workers are not allowed here: set WEBSOCKET_HANDSHAKE_KEY or PORTICO_API_KEYS on the gateway.",
        close=CloseCode.NOT_ALLOWED,
    )
