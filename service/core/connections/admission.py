"""Admission: from a handshake's path, subprotocols, origin and address to an Admission, or to an HTTP refusal.

Five rules, in this order: the path leads somewhere; the gateway may be asked for by that name; a page of that origin
may use it (programs, which send no Origin, may); there are not too many connections; it proves what the path wants.
What one connection may send is the transports' affair. 0 means no limit.
Source: protocol reference, "Who gets in, and in which dialect" and "Limits".
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Final

from portico.wire.codes import ErrorCode
from portico.wire.dialects.negotiate import BY_SUBPROTOCOL, Dialect
from portico.wire.faults import PeerFault
from portico.wire.messages import check_name, encode

from ..api_keys import ApiKeys, bearer
from ..hosts import HostPolicy, host_of, is_loopback, network, read_origin
from ..locality import locality_of
from ..ports import UNDECIDED, Admission, Handshake, HttpAnswer, Monotonic, https_headers
from ..proof import KeyAwaited, NotProven, cause_of
from ..refusals import Refusals, SlowedDown
from ..token_bucket import TokenBucket
from .authentication import Authentication, NothingProven
from .handshake_tokens import bearer_of, looks_like_token, token_of

USER_PATH: Final = "/ws/"
MAX_USER_ID: Final = 256
RETRY_AFTER: Final = 5
"""Seconds that a refused client is asked to wait."""

UNKNOWN_HOST: Final = "This Host is not the gateway's; ask for it by its name or address (PORTICO_ALLOWED_HOSTS)."
"""The answer to a Host that isn't allowed."""

_DRAINING: Final = HttpAnswer(
    503, (("content-type", "text/plain; charset=utf-8"), ("retry-after", "1")), b"Draining.\n"
)
_NEITHER: Final = "This is neither one of the API keys nor a token; send one of them: Authorization: Bearer <key>."
_FULL: Final = "the gateway is at its limit of connections"
_FULL_FOR_ADDRESS: Final = "there are too many connections from this address"


@dataclass(frozen=True, slots=True)
class Entrance:
    """What a path leads to: a dialect (or UNDECIDED), and whether the connection is a worker by its path."""

    dialect: str
    worker: bool = False


class OriginPolicy:
    """`allowed`: exact origins, `https://*.example.com`, or `*`; None where nothing was configured, which allows
    any origin if `open_by_default` and else only pages from the gateway's own host."""

    def __init__(self, allowed: Sequence[str] | None, *, open_by_default: bool) -> None:
        self._any = (allowed is None and open_by_default) or "*" in (allowed or ())
        self._exact = frozenset(o.lower().rstrip("/") for o in allowed or () if "*" not in o)
        self._below = tuple(
            (scheme, "." + domain)
            for scheme, star, domain in (o.lower().rstrip("/").partition("://*.") for o in allowed or ())
            if star
        )

    def allows(self, origin: str | None, host: str) -> bool:
        """True if a page of `origin` may use a gateway that was asked for as `host` (`name[:port]`).

        No origin at all is a program, which may. The host is compared without the port.
        """
        if origin is None or self._any:
            return True
        origin = origin.lower()
        if origin in self._exact:
            return True
        asking = read_origin(origin)
        if asking is None:
            return False
        if asking.scheme in ("http", "https") and asking.host == host_of(host):
            return True
        # A wildcard takes one label or more, on the same scheme, on any port that the pattern itself names.
        return any(asking.scheme == scheme and asking.authority.endswith(below) for scheme, below in self._below)


class ConnectionLimits:
    """Counts connections, and says when there are too many. Of IPv6 a whole /64 is one address, since anybody has as
    many as that. `spare_loopback`: the limits for each address, and the rate, don't hold for this machine's own
    addresses: they may be a proxy's that isn't listed as trusted, which stands for many clients."""

    def __init__(
        self,
        *,
        now: Monotonic,
        total: int,
        per_address: int,
        handshakes_per_second: float,
        refused: Counter[str] | None = None,
        refusals: Refusals | None = None,
        spare_loopback: bool = False,
    ) -> None:
        # Where each refusal is counted, by the limit.
        self._refused: Counter[str] = Counter() if refused is None else refused
        self._refusals = refusals
        self._now = now
        self._spare_loopback = spare_loopback
        self._total = total
        self._per_address = per_address
        self._handshakes: TokenBucket | None = None
        if handshakes_per_second:
            self._handshakes = TokenBucket(handshakes_per_second, max(1.0, 2 * handshakes_per_second), now())
        self._open = 0
        self.http = 0
        """Connections that are no WebSockets, or none yet."""
        self._by_address: Counter[str] = Counter()

    def check(self, address: str) -> HttpAnswer | None:
        """None if one more connection from `address` may come, else the answer that refuses it."""
        name = self._named(address)
        if name is not None and self._handshakes is not None and not self._handshakes.take(1, self._now()):
            self._refuse("handshakes", address)
            return _not_now("too many handshakes per second")
        if self._total and self._open >= self._total:
            self._refuse("connections", address)
            return _not_now(_FULL)
        if self._per_address and name is not None and self._by_address[name] >= self._per_address:
            self._refuse("address", address)
            return _not_now(_FULL_FOR_ADDRESS)
        return None

    def opened(self, address: str) -> str | None:
        """A WebSocket was opened. Why it is one too many, where others came between its handshake and now."""
        self._open += 1
        name = self._named(address)
        if self._per_address and name is not None:
            self._by_address[name] += 1
            if self._by_address[name] > self._per_address:
                self._refuse("address", address)
                return _FULL_FOR_ADDRESS
        if self._total and self._open > self._total:
            self._refuse("connections", address)
            return _FULL
        return None

    def accepted(self, address: str | None) -> None:
        """A connection was accepted and may become anything; it counts from now on. `address`: None where a proxy
        stands between, and who is behind it is not known yet."""
        self._open += 1
        self.http += 1
        name = self._named(address)
        if self._per_address and name is not None:
            self._by_address[name] += 1

    def attributed(self, before: str | None, address: str) -> None:
        """The client behind an accepted connection is known now; `before`: the address that it counted for."""
        if self._per_address and before != address:
            self._uncount(before)
            name = self._named(address)
            if name is not None:
                self._by_address[name] += 1

    def is_full(self, address: str | None) -> bool:
        """Whether there are too many connections, where this one is counted already."""
        over = bool(self._total) and self._open > self._total
        return over or self._has_too_many(address)

    def full(self, address: str | None) -> HttpAnswer | None:
        """As `is_full`: the answer that refuses the connection, counted as a refusal; None if it may stay."""
        if self._total and self._open > self._total:
            self._refuse("connections", address)
            return _not_now(_FULL)
        if self._has_too_many(address):
            self._refuse("address", address)
            return _not_now(_FULL_FOR_ADDRESS)
        return None

    def ended(self, address: str | None) -> None:
        """A connection that was accepted is over, or counts as a WebSocket from now on."""
        self._open -= 1
        self.http -= 1
        if self._per_address:
            self._uncount(address)

    def closed(self, address: str) -> None:
        """A WebSocket is over."""
        self._open -= 1
        if self._per_address:
            self._uncount(address)

    def _refuse(self, limit: str, address: str | None) -> None:
        self._refused[limit] += 1
        if self._refusals is not None:
            self._refusals.on_refused(f"limit_{limit}", address or "")

    def _named(self, address: str | None) -> str | None:
        """What an address counts as; None where it doesn't."""
        return None if address is None else _name(address, self._spare_loopback)

    def _has_too_many(self, address: str | None) -> bool:
        name = self._named(address)
        return bool(self._per_address) and name is not None and self._by_address[name] > self._per_address

    def _uncount(self, address: str | None) -> None:
        name = self._named(address)
        if name is not None:
            self._by_address[name] -= 1
            if self._by_address[name] <= 0:
                del self._by_address[name]


@lru_cache(maxsize=1024)  # asked at each step of a connection's life
def _name(address: str, spare_loopback: bool) -> str | None:
    return None if spare_loopback and is_loopback(address) else network(address)


class AdmissionControl:
    """Decides on handshakes."""

    def __init__(
        self,
        origins: OriginPolicy,
        hosts: HostPolicy,
        limits: ConnectionLimits,
        api_keys: ApiKeys,
        authentication: Authentication,
        refusals: Refusals,
        *,
        max_message_size: int,
        hsts: int = 0,
    ) -> None:
        """`hsts`: seconds for which browsers that came by https are told to come by nothing else; 0: they aren't."""
        self._secure: Final = https_headers(hsts)
        self.origins: Final = origins
        self.hosts: Final = hosts
        self.limits: Final = limits
        self._api_keys = api_keys
        self._authentication = authentication
        self._refusals = refusals
        self._max_message_size = max_message_size
        undecided = Entrance(UNDECIDED)
        self._paths: dict[str, Entrance] = {
            "/": undecided,
            "/ws": undecided,
            "/api/websocket": undecided,
            "/worker": Entrance(Dialect.ENVELOPE.value, worker=True),
            "/requester": Entrance(Dialect.REQUESTER.value),
        }
        self._subprotocols = {name: dialect.value for name, dialect in BY_SUBPROTOCOL.items()}
        self.draining = False

    def add(self, dialect: str, *, path: str | None = None, subprotocol: str | None = None) -> None:
        """Add an entrance for a dialect, by path or subprotocol. ValueError where it is taken."""
        if path is not None:
            if path in self._paths or not path.startswith("/") or path.startswith(USER_PATH):
                raise ValueError(f"the path {path!r} is taken, or doesn't begin with a slash; choose another")
            self._paths[path] = Entrance(dialect)
        if subprotocol is not None:
            if subprotocol in self._subprotocols:
                raise ValueError(f"the subprotocol {subprotocol!r} is taken; choose another name")
            self._subprotocols[subprotocol] = dialect

    def admit(self, handshake: Handshake) -> Admission | HttpAnswer:
        """Decide. Never raises."""
        admission = self._admission(handshake)
        return self.refusing(handshake, admission) if isinstance(admission, HttpAnswer) else admission

    def refusing(self, handshake: Handshake, answer: HttpAnswer) -> HttpAnswer:
        """The answer that refuses a handshake, with what browsers are told besides."""
        if self._secure and handshake.scheme == "https":
            return answer._replace(headers=(*answer.headers, *self._secure))
        return answer

    def _admission(self, handshake: Handshake) -> Admission | HttpAnswer:
        if self.draining:
            return _DRAINING
        user_id: str | None = None
        entrance = self._paths.get(handshake.path)
        if handshake.kind == "worker":
            entrance = self._paths["/worker"]
        elif entrance is None and _names_user(handshake.path):
            try:
                user_id = _user_id(handshake.path[len(USER_PATH) :])
            except PeerFault as fault:
                return _refuse(400, fault.code, fault.message)
            entrance = Entrance(Dialect.USER.value)
        if entrance is None:
            return _refuse(
                404,
                ErrorCode.NOT_FOUND,
                "There is no WebSocket at this path; use /, /ws, /api/websocket, /ws/{user_id}, /worker or /requester.",
            )
        refusal = self._refused_for_whence(handshake)
        if refusal is not None:
            return refusal
        subprotocol = self._choose(handshake.headers.get("sec-websocket-protocol"), entrance.dialect)
        if subprotocol is not None and entrance.dialect == UNDECIDED:
            entrance = Entrance(self._subprotocols[subprotocol])
        authorization = handshake.headers.get("authorization")
        key = self._refusals.key_of(self._api_keys, authorization, handshake.address)
        try:
            proof = self._authentication.of_handshake(handshake, entrance.dialect, user_id, key)
        except PeerFault as fault:
            return self._refuse(handshake, fault)
        if authorization is not None and key is None and proof is None and self._api_keys.configured:
            # It may come in without a proof. What it may do then tells it that the key was wrong, so that is a guess.
            self._refusals.on_refused("api_key", handshake.address)
        presented = self._authentication.presented(handshake, proof, key)
        looked_at = proof is not None or presented is not None
        return Admission(
            subprotocol or (bearer_of(handshake.headers.get("sec-websocket-protocol")) if looked_at else None),
            self._max_message_size,
            entrance.dialect,
            entrance.worker,
            user_id,
            key,
            proof,
            presented,
            locality_of(handshake.headers, handshake.host, handshake.address),
        )

    def leads_somewhere(self, path: str) -> bool:
        """Whether a path is one of the gateway's own."""
        return path in self._paths or path.startswith(USER_PATH)

    def admit_other(self, handshake: Handshake) -> HttpAnswer | None:
        """Decide on a WebSocket that is not the gateway's, but is served by its process: None lets it in."""
        answer = _DRAINING if self.draining else self._refused_for_whence(handshake)
        return None if answer is None else self.refusing(handshake, answer)

    def _refused_for_whence(self, handshake: Handshake) -> HttpAnswer | None:
        if not self.hosts.allows(handshake.host, handshake.scheme):
            self._refusals.on_refused("host", handshake.address)
            return _refuse(403, ErrorCode.FORBIDDEN, UNKNOWN_HOST)
        if not self.origins.allows(handshake.headers.get("origin"), handshake.host):
            self._refusals.on_refused("origin", handshake.address)
            return _refuse(403, ErrorCode.FORBIDDEN, "Pages of this origin may not connect (PORTICO_ALLOWED_ORIGINS).")
        return self.limits.check(handshake.address)

    def _refuse(self, handshake: Handshake, fault: PeerFault) -> HttpAnswer:
        """The answer to who proves nothing, or not enough."""
        cause = cause_of(fault)
        authorization = handshake.headers.get("authorization")
        wait = 0.0 if authorization is None else self._refusals.wait(handshake.address)
        if wait:
            fault, cause = SlowedDown(wait), "slowed_down"
        elif authorization is not None and self._api_keys.configured and not self._api_keys.find(bearer(authorization)):
            if isinstance(fault, NothingProven):
                cause = "api_key"
                fault = PeerFault(fault.code, f"This is not one of the API keys. {fault.message}")
            elif cause == "malformed" and not looks_like_token(token_of(handshake, is_key=False) or ""):
                fault = NotProven("malformed", _NEITHER)
        self._refusals.on_refused(cause, handshake.address)
        if isinstance(fault, SlowedDown):
            return _refuse(429, fault.code, fault.message, ("retry-after", str(ceil(fault.retry_after or 1))))
        if isinstance(fault, KeyAwaited):
            return _refuse(503, fault.code, fault.message, ("retry-after", str(RETRY_AFTER)))
        if isinstance(fault, NotProven):
            return _refuse(401, fault.code, fault.message, ("www-authenticate", "Bearer"))
        return _refuse(403, fault.code, fault.message)

    def _choose(self, offered: str | None, dialect: str) -> str | None:
        # To name a dialect in the answer that is not the one spoken on this path would be a lie.
        for name in map(str.strip, (offered or "").split(",")):
            if name in self._subprotocols and dialect in (UNDECIDED, self._subprotocols[name]):
                return name
        return None


def _names_user(path: str) -> bool:
    return path.startswith(USER_PATH) and path != USER_PATH and "/" not in path[len(USER_PATH) :]


def _user_id(user_id: str) -> str:
    if "\ufffd" in user_id:
        raise PeerFault(ErrorCode.BAD_FIELD, "The user id in the path is not UTF-8.")
    if len(user_id) > MAX_USER_ID:
        raise PeerFault(ErrorCode.BAD_FIELD, f"The path must be /ws/ and a user id of 1 to {MAX_USER_ID} characters.")
    check_name(user_id, "user_id")
    return user_id


def _refuse(status: int, code: ErrorCode, message: str, *headers: tuple[str, str]) -> HttpAnswer:
    body = encode({"error": {"code": code, "message": message}})
    return HttpAnswer(status, (("content-type", "application/json"), *headers), body)


def _not_now(problem: str) -> HttpAnswer:
    return HttpAnswer(
        503,
        (("content-type", "text/plain; charset=utf-8"), ("retry-after", str(RETRY_AFTER))),
        f"Not now: {problem}. Try again later, with back-off.\n".encode(),
    )
