"""Assembly: makes those parts of a node that depend on its settings and nothing else, or are refused for them.

Each function takes the settings, and returns the part, or None where the settings want none. What cannot be made is a
StartError whose sentence names the setting; it is what `portico serve` and `portico check` print.

What a part needs that most gateways do without is imported where the part is made: the libraries of tokens, outgoing
requests and keys are a fifth of what a start costs.
"""

import os
import socket
import time
import traceback
from collections.abc import Callable, Collection, Iterable
from errno import ENXIO
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from portico.version import VERSION
from service.backplane.deployment import EventRules, EventsOfDeployment
from service.backplane.redis.plane import SharedRules
from service.chat.faults import NOT_THE_OPERATORS
from service.chat.in_process import InProcessWorker, chat_commands
from service.chat.report import Answered
from service.chat.rules import ChatRules
from service.core.api_keys import ApiKey, is_line, parse_line
from service.core.back_end_events import BackEndEvent
from service.core.gateway import Gateway, Rules
from service.core.hosts import host_of
from service.core.ports import https_headers
from service.core.quotas import Quota, Quotas
from service.log_writer import LogWriter
from service.own_app.loading import OwnAppError, load
from service.own_app.own_app import Limits, OwnApp
from service.settings import Settings
from service.settings.certificates import certificate_problems
from service.settings.fingerprint import fingerprints
from service.transports.connection_rules import ConnectionRules
from service.transports.door import Log
from service.transports.listener import open_listeners, why_it_cannot_listen
from service.transports.pressure import Pressure
from service.transports.server_certificates import Certificates, TlsFiles

if TYPE_CHECKING:
    from service.tokens.connect_hook import ConnectHook
    from service.tokens.key_store import KeyStore
    from service.tokens.watched_file import WatchedFile
    from service.webhooks.courier import Courier


class StartError(Exception):
    """The gateway cannot start; the text is a sentence for the operator."""


def quotas(settings: Settings) -> Quotas | None:
    if not settings.quotas:
        return None
    return Quotas((Quota(*quota) for quota in settings.quotas), time.monotonic)


def certificates(settings: Settings, log: Log) -> Certificates | None:
    """What TLS is spoken with, or None where the ports speak plain HTTP."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    return Certificates(files, lambda: certificate_problems(*files), log)


def audit_file(settings: Settings) -> LogWriter | None:
    """What writes to the file of the audit log; None where there is none. Raises StartError."""
    if settings.audit_log in ("off", "stderr"):
        return None
    # Not blocking: to open a named pipe that nobody reads would keep the gateway from starting, without a word.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return LogWriter(os.open(settings.audit_log, flags, 0o640))
    except OSError as error:
        reason = "nobody reads this pipe" if error.errno == ENXIO else error.strerror
        raise StartError(f"PORTICO_AUDIT_LOG: the file cannot be written to ({reason}).") from None


def key_store(settings: Settings, log: structlog.typing.FilteringBoundLogger) -> "KeyStore | None":
    """Where tokens are checked, or None where nobody looks at them. Raises StartError."""
    sources = (settings.jwt_secret, settings.jwt_public_keys, settings.jwks_url)
    if settings.auth == "off" or all(source is None for source in sources):
        return None
    from service.tokens.key_store import KeyLog, KeyStore, TokenRules
    from service.tokens.keys import BadKey

    rules = TokenRules(
        secret=None if settings.jwt_secret is None else settings.jwt_secret.get_secret_value(),
        key_file=None if settings.jwt_public_keys is None else Path(settings.jwt_public_keys),
        jwks_url=settings.jwks_url,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        leeway=settings.token_leeway,
    )
    try:
        return KeyStore(rules, KeyLog(log), wall=time.time)
    except BadKey as bad:
        name = "PORTICO_JWT_SECRET" if str(bad).startswith("A shared secret") else "PORTICO_JWT_PUBLIC_KEYS"
        raise StartError(f"{name}: {bad}") from None


def api_key_file(
    settings: Settings, gateway: Gateway, log: structlog.typing.FilteringBoundLogger
) -> "WatchedFile | None":
    """The file of API keys, read once; None where none is set. Raises StartError."""
    if settings.api_keys_file is None:
        return None
    from service.tokens import api_key_file as keys_in_file
    from service.tokens.key_store import KeyLog
    from service.tokens.keys import BadKey

    file = keys_in_file.api_key_file(Path(settings.api_keys_file), gateway.api_keys, KeyLog(log))
    try:
        file.load()
    except BadKey as bad:
        raise StartError(f"PORTICO_API_KEYS_FILE: {bad}") from None
    return file


def _api_keys(settings: Settings) -> tuple[ApiKey | str, ...]:
    texts = (secret.get_secret_value() for secret in settings.api_keys)
    return tuple(parse_line(text) if is_line(text) else text for text in texts)


def connect_hook(settings: Settings, log: structlog.typing.FilteringBoundLogger) -> "ConnectHook | None":
    """Who is asked about connections, or None where nobody is."""
    if settings.auth == "off" or settings.connect_url is None:
        return None
    from service.tokens.connect_hook import ConnectHook

    return ConnectHook(
        settings.connect_url,
        headers=settings.connect_headers,
        timeout=settings.connect_timeout,
        keys=[key.get_secret_value().encode() for key in settings.webhook_keys],
        wall=time.time,
        log=log,
    )


def event_rules(settings: Settings, present: Callable[[], Iterable[BackEndEvent]]) -> EventRules | None:
    """How events for back ends are kept; None where nobody listens."""
    outbox = settings.webhook_outbox if settings.webhook_url is not None else 0
    if not outbox and not settings.event_stream:
        return None
    return EventRules(outbox, settings.event_stream, settings.offline_seconds, present)


def courier(
    settings: Settings, events: EventsOfDeployment | None, log: structlog.typing.FilteringBoundLogger
) -> "Courier | None":
    """Who delivers events, or None where nobody does."""
    if settings.webhook_url is None or events is None:
        return None
    from service.outgoing.network import public_and
    from service.outgoing.post import Poster
    from service.webhooks.courier import CONCURRENT, MAX_ANSWER, Courier

    poster = Poster(
        settings.webhook_url,
        public_and(settings.webhook_networks),
        limit=MAX_ANSWER,
        connections=CONCURRENT,
        keys=[key.get_secret_value().encode() for key in settings.webhook_keys],
        agent=f"Portico/{VERSION}",
    )
    return Courier(
        events, poster, timeout=settings.webhook_timeout, give_up=settings.webhook_give_up, wall=time.time, log=log
    )


def chat_rules(settings: Settings) -> ChatRules | None:
    """How chat is answered; None where there is no key."""
    if settings.open_api_key is None:
        return None
    return ChatRules(
        base_url=settings.open_api_base_url,
        key=settings.open_api_key.get_secret_value(),
        model=settings.chat_model,
        models=settings.chat_models,
        max_tokens=settings.chat_max_tokens,
        max_messages=settings.chat_max_messages,
        max_characters=settings.chat_max_characters,
        concurrency=settings.chat_concurrency,
        connect_timeout=settings.chat_connect_timeout,
        first_token_timeout=settings.chat_first_token_timeout,
        stall_timeout=settings.chat_stall_timeout,
    )


def chat_worker(
    settings: Settings,
    gateway: Gateway,
    name: Callable[[], str],
    log: structlog.typing.FilteringBoundLogger,
    on_error: Callable[[Exception], None],
) -> InProcessWorker | None:
    """The worker of this process that answers chat; None where there is no key, or no WebSocket to answer on."""
    rules = chat_rules(settings)
    if rules is None or settings.api_type == "http":
        return None

    def report(answered: Answered) -> None:
        say = log.debug if answered.ending in NOT_THE_OPERATORS else log.warning
        say(
            "chat answered",
            ending=answered.ending.value,
            seconds=round(answered.seconds, 3),
            first_token=None if answered.first_token is None else round(answered.first_token, 3),
        )

    return InProcessWorker(
        gateway.dispatcher,
        lambda: f"chat-{name()}",
        ("chat",),
        lambda: chat_commands(rules, gateway.counters, report),
        capacity=rules.concurrency,
        on_error=on_error,
    )


def rules(settings: Settings) -> Rules:
    key = settings.websocket_handshake_key
    return Rules(
        production=settings.production,
        handshake_key=None if key is None else key.get_secret_value(),
        api_keys=_api_keys(settings),
        more_api_keys=settings.api_keys_file is not None,
        authentication=settings.auth,
        open_requesters=settings.open_requesters,
        open_users=settings.open_users,
        open_metrics=settings.open_metrics,
        page=settings.page,
        hsts=settings.hsts,
        allowed_origins=settings.allowed_origins,
        allowed_hosts=_known_hosts(settings),
        any_host_over_tls=settings.allowed_hosts is None,
        registration_timeout=settings.registration_timeout,
        heartbeat_interval=settings.ping_interval,
        duplicates=settings.duplicate_client,
        max_message_size=settings.max_message_size,
        max_worker_message_size=settings.max_worker_message_size,
        max_requester_message_size=settings.max_requester_message_size,
        max_connections=settings.max_connections,
        max_connections_per_address=settings.max_connections_per_address,
        spare_loopback=all(
            settings.source(name) == "derived" for name in ("max_connections_per_address", "max_handshakes_per_second")
        ),
        max_connections_per_user=settings.max_connections_per_user,
        max_handshakes_per_second=settings.max_handshakes_per_second,
        worker_capacity=settings.worker_capacity,
        worker_timeout=settings.worker_timeout,
        max_request_timeout=settings.max_request_timeout,
        queue_limit=settings.queue_limit,
        queue_bytes=settings.queue_bytes,
        max_attempts=settings.max_attempts,
        strategy=settings.lb_strategy,
        relayed=settings.relay_types,
        announce_others=settings.announce_others,
        offline_seconds=settings.offline_seconds,
    )


def connection_rules(settings: Settings) -> ConnectionRules:
    return ConnectionRules(
        handshake_timeout=settings.handshake_timeout,
        ping_interval=settings.ping_interval,
        pong_timeout=settings.pong_timeout,
        max_messages_per_second=settings.max_messages_per_second,
        max_bytes_per_second=settings.max_bytes_per_second,
        compression=settings.compression,
        h2c=settings.h2c,
        https_headers=https_headers(settings.hsts),
    )


def pressure(settings: Settings) -> Pressure:
    return Pressure(
        limit=settings.outbound_limit,
        hard_limit=settings.outbound_hard_limit,
        total_limit=settings.outbound_total_limit,
        slow_seconds=settings.slow_seconds,
    )


def shared_rules(settings: Settings) -> SharedRules:
    return SharedRules(
        prefix=settings.redis_prefix,
        length=settings.history_length,
        ttl=settings.history_ttl,
        lease=settings.node_lease,
        history_bytes=settings.history_bytes,
        settings=fingerprints(settings),
    )


def own_app(settings: Settings, log: structlog.typing.FilteringBoundLogger) -> OwnApp | None:
    """The operator's own app, imported but not started; None where this process has none. Raises StartError."""
    if settings.app is None or settings.api_type == "websocket":
        return None
    try:
        loaded = load(settings.app)
    except OwnAppError as error:
        log.debug("the app could not be loaded", trace="".join(traceback.format_exception(error.__cause__ or error)))
        raise StartError(str(error)) from None
    limits = Limits(
        timeout=settings.app_timeout,
        concurrency=settings.app_concurrency,
        max_body=settings.app_max_body,
        threads=settings.app_threads,
    )
    return OwnApp(loaded, limits, log)


def _known_hosts(settings: Settings) -> Collection[str] | None:
    """The names by which the gateway may be asked for: those that are set, or those that the other settings and the
    machine have; None for any."""
    if settings.allowed_hosts is not None or not settings.production:
        return settings.allowed_hosts
    urls = (settings.public_websocket_url, *(settings.allowed_origins or ()))
    named = [host_of(url.partition("://")[2].partition("/")[0]) for url in urls if url]
    machine = socket.gethostname().lower()
    return [name for name in (*named, settings.host, settings.advertised_host, machine) if name and name != "*"]


async def listen(host: str, port: int, setting: str, reuse_port: bool = False) -> list[socket.socket]:
    try:
        return await open_listeners(host, port, reuse_port)
    except OSError as error:
        raise StartError(why_it_cannot_listen(error, host, port, setting)) from error


def local_ip() -> str:
    """The address that this machine would use towards others. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation, RFC 5737
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
