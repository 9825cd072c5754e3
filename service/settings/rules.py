"""The rules that involve more than one setting: what contradicts itself, and what is allowed but odd.

Knows the meaning of the settings, not how they are read. Every rule gives a whole sentence that says what is
wrong and what would be right, and quotes no secret.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Final

from .certificates import CERT, CLIENT_CA, KEY, certificate_problems
from .defaults import ignored_ports
from .model import Values

Contradiction = tuple[frozenset[str], str]
"""The variables involved, and the sentence."""

_MODE: Final = frozenset({"SERVICE_ROLE", "API_TYPE"})
_PARTS: Final = frozenset({"REDIS_URL", "REDIS_HOST", *_MODE})
_PORTS: Final = frozenset({"PORT", "WEBSOCKET_PORT", "WORKER_PORT", "ENVIRONMENT", *_MODE})
_TLS: Final = frozenset({CERT, KEY, CLIENT_CA})
_PROOFS: Final = ("PORTICO_JWT_SECRET", "PORTICO_JWT_PUBLIC_KEYS", "PORTICO_JWKS_URL", "PORTICO_CONNECT_URL")
_AUTH: Final = frozenset({"PORTICO_AUTH", *_PROOFS})
_EVENTS: Final = frozenset({"PORTICO_EVENT_STREAM", "REDIS_URL", "REDIS_HOST"})
# Bursts of two seconds are let through: a message larger than that is over the rate by itself.
_BURST_SECONDS: Final = 2


def contradictions(settings: Values) -> Iterator[Contradiction]:
    """Whatever cannot be served as it is set."""
    yield from ((_MODE, sentence) for sentence in _mode(settings))
    yield from ((_PARTS, sentence) for sentence in _parts(settings))
    yield from ((_PORTS, sentence) for sentence in _ports(settings))
    yield from ((_AUTH, sentence) for sentence in _tokens(settings))
    yield from ((_EVENTS, sentence) for sentence in _events(settings))
    problems = certificate_problems(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    yield from ((_TLS, sentence) for sentence in problems)
    if settings.redirect_port is not None and settings.tls_cert is None:
        yield (
            _TLS | {"PORTICO_REDIRECT_PORT"},
            f"PORTICO_REDIRECT_PORT={settings.redirect_port} would send everybody to a port that speaks no TLS: set "
            f"{CERT} and {KEY}, or leave it unset where a proxy has the certificate.",
        )


def _tokens(settings: Values) -> Iterator[str]:
    sources = (settings.jwt_secret, settings.jwt_public_keys, settings.jwks_url, settings.connect_url)
    if settings.auth != "off" and all(source is None for source in sources):
        yield (
            f"PORTICO_AUTH is {settings.auth}, but there is nothing to check tokens with: set PORTICO_JWT_SECRET, "
            "PORTICO_JWT_PUBLIC_KEYS, PORTICO_JWKS_URL or PORTICO_CONNECT_URL."
        )


def _mode(settings: Values) -> Iterator[str]:
    role, kind = settings.service_role, settings.api_type
    allowed = {None: (kind,), "api": ("http", "combined"), "websocket": ("websocket",)}[role]
    if kind not in allowed:
        right = " or ".join(allowed)
        yield f"SERVICE_ROLE={role} contradicts API_TYPE={kind}: leave API_TYPE unset, or set it to {right}."


def _parts(settings: Values) -> Iterator[str]:
    if settings.api_type != "combined" and settings.redis_url is None:
        role = settings.service_role
        told = f"SERVICE_ROLE={role}" if role else f"API_TYPE={settings.api_type}"
        yield (
            f"{told} makes this process a part of a gateway, whose parts find one another through Redis: set "
            "REDIS_URL, or leave SERVICE_ROLE and API_TYPE unset."
        )


def _ports(settings: Values) -> Iterator[str]:
    ports = {
        "PORT": settings.port,
        "WEBSOCKET_PORT": settings.websocket_port,
        "WORKER_PORT": settings.worker_port,
        "PORTICO_REDIRECT_PORT": settings.redirect_port,
    }
    if settings.websocket_port == 65536:
        yield "PORT=65535 leaves no port above it for WebSockets: set WEBSOCKET_PORT to another port, or to same."
    for (one, number), (other, its_number) in combinations(ports.items(), 2):
        if not number or number != its_number:
            continue
        by_default = [
            n for n in (one, other) if settings.source(n.lower().removeprefix("portico_")) in ("default", "derived")
        ]
        note = f" ({by_default[0]} by default)" if by_default else ""
        remedy = {"WEBSOCKET_PORT": "WEBSOCKET_PORT=same for one port", "WORKER_PORT": "WORKER_PORT=off for none"}
        remedy["PORTICO_REDIRECT_PORT"] = "PORTICO_REDIRECT_PORT=off for none"
        yield f"{one} and {other} are both {number}{note}: set another port, or {remedy[other]}."


def _events(settings: Values) -> Iterator[str]:
    if settings.event_stream and settings.redis_url is None:
        yield "PORTICO_EVENT_STREAM is set, but there is no Redis to keep a stream in: set REDIS_URL, or unset it."


def plain_ports(settings: Values) -> Iterator[str]:
    """A sentence for each port that somebody asked for and that speaks no TLS."""
    for field, right in (("websocket_port", "same"), ("worker_port", "off")):
        number = getattr(settings, field)
        if number is not None and settings.source(field) not in ("default", "derived"):
            name = field.upper()
            yield (
                f"{name}={number} would be a port without TLS, since Hypercorn has its certificate for PORT only: set "
                f"PORTICO_TLS_CERT and PORTICO_TLS_KEY instead of it, or {name}={right}."
            )


def warnings(settings: Values, values: Mapping[str, str]) -> Iterator[str]:
    """What is allowed, but worth a line at start. `values`: what the sources hold, by variable."""
    yield from _read_otherwise(settings, values)
    if settings.production:
        yield from _open_or_shut(settings)
    if settings.app is not None and settings.api_type == "websocket":
        yield "PORTICO_APP is ignored where API_TYPE is websocket: the processes that answer HTTP run your app."
    if settings.auth == "off":
        for name in _PROOFS:
            if name in values:
                yield f"{name} is set, but PORTICO_AUTH is off: set it to optional or required, or unset this one."
    if settings.webhook_url is not None and not settings.webhook_keys:
        yield (
            "PORTICO_WEBHOOK_URL is set without PORTICO_WEBHOOK_KEYS, so your back end can't tell the gateway's events "
            "from anybody's: set one or more keys."
        )
    if any(network.prefixlen == 0 for network in settings.trusted_proxies):
        yield (
            "PORTICO_TRUSTED_PROXIES trusts every address, so anyone can forge where a request comes from: "
            "list the proxies' own addresses."
        )
    if settings.api_type == "http" and settings.trusted_proxies and not settings.public_websocket_url:
        yield (
            "Behind a proxy with TLS, discovery answers 503 to those who ask by https, unless the nodes that take "
            "WebSockets have a TLS or a public address of their own: set PORTICO_PUBLIC_WEBSOCKET_URL to the wss:// "
            "address at which the proxy serves them."
        )
    if settings.dyno and settings.tls_cert is not None:
        yield f"{CERT} is set, but the platform's routers speak plain HTTP to PORT and end TLS by themselves: unset it."
    if settings.dyno:
        for name, number, right in (
            ("WEBSOCKET_PORT", settings.websocket_port, "same"),
            ("WORKER_PORT", settings.worker_port, "off"),
        ):
            if number is not None:
                yield f"{name}={number} can't be reached where the platform routes PORT only: set {name}={right}."
    largest = max(settings.max_message_size, settings.max_worker_message_size, settings.max_requester_message_size)
    if 0 < settings.max_bytes_per_second * _BURST_SECONDS < largest:
        yield (
            f"A message of the largest size ({largest} bytes) is over the rate by itself: set "
            f"PORTICO_MAX_BYTES_PER_SECOND to {-(-largest // _BURST_SECONDS)} or more, or to 0."
        )


def _read_otherwise(settings: Values, values: Mapping[str, str]) -> Iterator[str]:
    if settings.redis_url is None and "REDIS_PORT" in values:
        yield "REDIS_PORT is set without REDIS_HOST and means nothing by itself: set REDIS_HOST, or REDIS_URL."
    if settings.open_api_key is None:
        for name in ("OPEN_API_BASE_URL", *(name for name in values if name.startswith("PORTICO_CHAT_"))):
            if name in values:
                yield f"{name} is set without OPEN_API_KEY, so nobody answers chat: set it, or unset this one."
    elif settings.api_type == "http" and "OPEN_API_KEY" in values:
        yield (
            "OPEN_API_KEY is set, but this process takes no WebSockets and answers no chat: set it for those with "
            "SERVICE_ROLE=websocket."
        )
    for name in ignored_ports(settings.api_type):
        if name in values:
            ours = "it takes WebSockets on PORT" if settings.api_type == "websocket" else "it takes no WebSockets"
            yield f"{name} is ignored where API_TYPE is {settings.api_type}: {ours}."


def _open_or_shut(settings: Values) -> Iterator[str]:
    if settings.auth == "off":
        yield (
            "PORTICO_AUTH is off, so in production anybody may connect as any user: set it to required, or to optional "
            "while some clients have no tokens yet."
        )
    keys = settings.api_keys or settings.api_keys_file
    if not keys:
        yield "PORTICO_API_KEYS is not set, so in production the HTTP API answers 403: set one or more keys."
    if not keys and settings.websocket_handshake_key is None:
        yield (
            "Neither WEBSOCKET_HANDSHAKE_KEY nor PORTICO_API_KEYS is set, so in production workers are refused "
            "(4003): set one of them."
        )
    if "*" in (settings.allowed_origins or ()):
        yield "PORTICO_ALLOWED_ORIGINS has *, so in production every web page may connect: list the origins you know."
    if settings.debug:
        yield "DEBUG is on in production: the log grows fast and tells much, so set DEBUG=false."
