"""Access: who may use the routes for back ends, and which web pages may read an answer.

Routes for back ends: where API keys are configured, callers with a key that has the route's scope. Where none are, in
production nobody, and in development programs and pages of the gateway's own machine that come through no proxy. Pages
may read answers if their origin is on the list that holds for WebSocket handshakes. They are never let in by cookies: a
page sends its key like any caller. Knows the keys only through the core's ApiKeys; never logs or repeats one.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.api_keys import ApiKey, ApiKeys, Scope, lacks
from service.core.connections.admission import UNKNOWN_HOST, OriginPolicy
from service.core.hosts import HostPolicy, is_address, is_loopback, network
from service.core.locality import Locality, locality_of
from service.core.ports import HttpAnswer, HttpHead, Monotonic, https_headers
from service.core.refusals import Refusals, SlowedDown
from service.core.token_bucket import TokenBucket

from .answers import NOT_KEPT, fault_answer

ALLOWED_HEADERS: Final = "authorization, content-type"
_PROBES: Final = frozenset({"/livez", "/readyz", "/api/health"})
"""What tells nothing and is asked by machines under any Host."""
_ADDRESSES: Final = 20_000  # whose requests are counted at a time
_VARY: Final = ("vary", "origin")
_PREFLIGHT_SECONDS: Final = "600"


OnRefused = Callable[[str, str], None]


class CallerRates:
    """How many requests each address may make per second, in bursts of two seconds' worth."""

    def __init__(self, per_second: float, now: Monotonic) -> None:
        self._per_second = per_second
        self._now = now
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def allow(self, address: str, count: int = 1) -> bool:
        """Take so many requests of this address; False if one is too many."""
        now = self._now()
        address = network(address)
        bucket = self._buckets.get(address)
        if bucket is None:
            # Who was not heard of for longest begins anew, which costs an attacker with that many addresses nothing.
            if len(self._buckets) >= _ADDRESSES:
                self._buckets.popitem(last=False)
            bucket = self._buckets[address] = TokenBucket(self._per_second, max(1.0, 2 * self._per_second), now)
        else:
            self._buckets.move_to_end(address)
        return bucket.take(count, now)


class Access:
    """Decides who may. `production`: nobody may without a key."""

    def __init__(
        self,
        api_keys: ApiKeys,
        origins: OriginPolicy,
        *,
        production: bool,
        hosts: HostPolicy,
        refusals: Refusals,
        on_refused: OnRefused,
        hsts: int = 0,
    ) -> None:
        """`on_refused(cause, address)` is told of every key that is refused, or missing; `refusals` of all else.
        `hsts`: seconds for which browsers that came by https are to come by nothing else; 0: they aren't told."""
        self._secure: Final = https_headers(hsts)
        self._api_keys = api_keys
        self._refusals = refusals
        self._on_refused = on_refused
        self._origins = origins
        self._production = production
        self._hosts = hosts

    def refuse_host(self, head: HttpHead) -> HttpAnswer | None:
        """The answer to a request whose Host is none of the gateway's names, whatever its route; None if it is one."""
        if head.path in _PROBES or self._hosts.allows(head.host, head.scheme):
            return None
        self._refusals.on_refused("host", head.address)
        return _forbidden(UNKNOWN_HOST)

    @property
    def version(self) -> int:
        """Changes with the keys: what was decided under another has to be decided anew."""
        return self._api_keys.version

    def check(self, head: HttpHead, scope: Scope) -> ApiKey | HttpAnswer | None:
        """Whether the caller may use a route for back ends that wants this scope: its key, None where none is needed,
        else the answer that says why not."""
        if not self._origins.allows(head.headers.get("origin"), head.host):
            self._refusals.on_refused("origin", head.address)
            return _forbidden("Pages of this origin may not use this gateway (PORTICO_ALLOWED_ORIGINS).")
        if self._api_keys.configured:
            return self._check_key(head, scope)
        if self._production:
            self._refusals.on_refused("no_api_key", head.address)
            return _forbidden("This route is closed until PORTICO_API_KEYS is set on the gateway.")
        if not _from_this_machine(head):
            self._refusals.on_refused("locality", head.address)
            return _forbidden(
                "Without PORTICO_API_KEYS this route answers programs and pages of the gateway's own machine only, by "
                "localhost or an address, and through no proxy. Set it on the gateway, and send a key."
            )
        return None

    def is_stranger(self, head: HttpHead) -> bool:
        """Whether the caller, in production, has shown no key: it is told nothing about the machine."""
        return self._production and not self.has_key(head)

    def has_key(self, head: HttpHead) -> bool:
        """Whether the caller has sent one of the API keys."""
        return self._key_of(head) is not None

    def on_over_rate(self, head: HttpHead) -> None:
        """The caller makes too many requests, and is refused."""
        self._refusals.on_refused("limit_http", head.address)

    def cors(self, head: HttpHead) -> tuple[tuple[str, str], ...]:
        """The headers that tell a browser whether the page that asks may read the answer, and to come by https."""
        origin = head.headers.get("origin")
        secure = self._secure if head.scheme == "https" else ()
        if origin is None or not self._may_read(origin, head.host):
            return (_VARY, *secure)
        return (("access-control-allow-origin", origin), _VARY, *secure)

    def preflight(self, head: HttpHead, methods: Collection[str]) -> HttpAnswer:
        """The answer to OPTIONS on a path that takes `methods`, with CORS where the page may use it."""
        allowed = ", ".join(sorted({*methods, "OPTIONS"}))
        headers = (("allow", allowed), NOT_KEPT, *self.cors(head))
        origin = head.headers.get("origin")
        if origin is None or not self._may_read(origin, head.host):
            return HttpAnswer(204, headers, b"")
        details = (
            ("access-control-allow-methods", allowed),
            ("access-control-allow-headers", ALLOWED_HEADERS),
            ("access-control-max-age", _PREFLIGHT_SECONDS),
        )
        return HttpAnswer(204, headers + details, b"")

    def _key_of(self, head: HttpHead) -> ApiKey | None:
        return self._refusals.key_of(self._api_keys, head.headers.get("authorization"), head.address)

    def _may_read(self, origin: str, host: str) -> bool:
        # What is sent back as a header must be one line of ASCII, whatever the allow-list says.
        return origin.isascii() and origin.isprintable() and self._origins.allows(origin, host)

    def _check_key(self, head: HttpHead, scope: Scope) -> ApiKey | HttpAnswer:
        authorization = head.headers.get("authorization")
        key = self._key_of(head)
        if key is None:
            wait = 0.0 if authorization is None else self._refusals.wait(head.address)
            if wait:
                self._refusals.on_refused("slowed_down", head.address)
                return fault_answer(SlowedDown(wait))
            self._on_refused("no_api_key" if authorization is None else "api_key", head.address)
            return _unauthorized(authorization)
        if key.may(scope):
            return key
        self._on_refused("scope", head.address)
        named = f'Bearer realm="portico", error="insufficient_scope", scope="{scope}"'
        return fault_answer(lacks(scope), headers=[("www-authenticate", named)])


def _unauthorized(authorization: str | None) -> HttpAnswer:
    if authorization is None:
        fault = PeerFault(ErrorCode.UNAUTHORIZED, "Send an API key: Authorization: Bearer <key>.")
        return fault_answer(fault, headers=[("www-authenticate", 'Bearer realm="portico"')])
    fault = PeerFault(ErrorCode.UNAUTHORIZED, "This is not one of the API keys; send Authorization: Bearer <key>.")
    return fault_answer(fault, headers=[("www-authenticate", 'Bearer realm="portico", error="invalid_token"')])


def _forbidden(sentence: str) -> HttpAnswer:
    return fault_answer(PeerFault(ErrorCode.FORBIDDEN, sentence))


def _from_this_machine(head: HttpHead) -> bool:
    """Whether a program on this machine asks, or a page of it. A proxy that nobody has declared as trusted may say
    nothing of itself, but HTTP/1.0 is what nginx speaks then, and no program of today's does."""
    if not head.http_1_1 or not is_loopback(head.peer) or not is_address(head.peer):
        return False
    return locality_of(head.headers, head.host, head.address) is Locality.LOCAL
