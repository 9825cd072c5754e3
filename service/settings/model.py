"""The settings themselves: names, forms, defaults and meanings, in the order of the reference.

The only place that decides a default. What involves more than one setting is in `rules`; how they are read, in
`loading`.
"""

from ipaddress import IPv4Network
from typing import Any, Final

from pydantic import AliasGenerator, Field, JsonValue, PrivateAttr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from . import defaults, forms
from .sources import Source, env_name

# Heroku's routers reach a dyno from these private addresses, and nothing else can reach it at all.
PLATFORM_ROUTER: Final = IPv4Network("10.0.0.0/8")

MIB: Final = 2**20


def setting(
    section: str,
    meaning: str,
    default: object = None,
    *,
    derive: defaults.Default | None = None,
    shown: str | None = None,
) -> Any:
    """A field: its place in the reference, what it does, and its default.

    `derive` makes the default from the fields before it; then `shown` must say in words what comes out.
    """
    extra: dict[str, JsonValue] = {"section": section, "default": shown}
    if derive is not None:
        return Field(default_factory=derive, description=meaning, json_schema_extra=extra)
    return Field(default, description=meaning, json_schema_extra=extra)


WHERE: Final = "What listens where"
MODE: Final = "Mode"
ENTRY: Final = "Who gets in"
LIMITS: Final = "Limits"
TIMES: Final = "Times"
WORK: Final = "Workers and requests"
OWN: Final = "Your own code"
CHAT: Final = "Chat"
LOGS: Final = "Names and logs"
OTHERS: Final = "Other services"
BACK: Final = "To back ends"


class Values(BaseSettings):
    """Every setting, with everything derived; frozen. `Settings` is this class with the means to load it."""

    model_config = SettingsConfigDict(
        defer_build=True,  # of Settings it is built, and once is enough
        frozen=True,
        # A derived default may break a rule (65535 + 1): that is told by the rules, in their words.
        validate_default=False,
        extra="forbid",
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=env_name),
    )

    # What others depend on comes first: a derived default sees the fields before it.
    environment: forms.EnvironmentName = setting(
        MODE,
        "Which defaults apply: production wants secrets and limits rates, development lets anyone try everything.",
        "development",
        shown="production if the process environment (not `.env`) has `PORT`, else development",
    )
    service_role: forms.Role = setting(
        MODE,
        "What this process does where HTTP and WebSockets are processes of their own, which share Redis: api answers "
        "HTTP, websocket serves WebSockets on its `PORT`. Unset: both.",
    )
    api_type: forms.ApiType = setting(
        MODE,
        "Whether this process answers HTTP, WebSockets or both (combined). http and websocket want `REDIS_URL`.",
        derive=defaults.api_type,
        shown="combined (http for `SERVICE_ROLE=api`, websocket for `SERVICE_ROLE=websocket`)",
    )
    workers: forms.Workers = setting(
        MODE,
        "How many processes `portico serve` runs on the same ports, a core for each. Without `REDIS_URL` they share a "
        "Redis of their own, if `redis-server` is installed. Hypercorn has an option for this: `--workers`.",
        1,
    )
    debug: forms.Flag = setting(MODE, "Log at level debug, unless `PORTICO_LOG_LEVEL` says otherwise.", False)
    dyno: forms.PlatformText = setting(
        MODE,
        "Set by Heroku, never by hand, and read from the process environment only. One port is routed there, so "
        "`WEBSOCKET_PORT` defaults to same, and the platform's routers (10.0.0.0/8) are trusted proxies.",
    )

    host: forms.Host = setting(WHERE, "The address that the ports are bound to.", "0.0.0.0")
    port: forms.Port = setting(
        WHERE,
        "HTTP, and WebSockets too.",
        derive=defaults.port,
        shown="8000 (8001 for `SERVICE_ROLE=websocket`)",
    )
    tls_cert: forms.FilePath = setting(
        WHERE,
        "The certificate, in PEM form, with which all ports speak HTTPS and wss, and nothing else: first the server's "
        "own, then those that lead to the authority's. It is read again when it changes, and on SIGHUP.",
    )
    tls_key: forms.FilePath = setting(
        WHERE, "The key of that certificate, in PEM form and without a password. Set both, or neither."
    )
    tls_client_ca: forms.FilePath = setting(
        WHERE,
        "Certificates of an authority, in PEM form: who shows one of its client certificates is let in as a worker, "
        "under the name in it. Those who show none are treated as without this setting. Read again with the server's "
        "certificate.",
    )
    redirect_port: forms.PortOrOff = setting(
        WHERE,
        "A port in plain HTTP that sends everybody to https on `PORT`, such as 80. Wants `PORTICO_TLS_CERT`.",
        shown="off",
    )
    websocket_port: forms.PortOrSame = setting(
        WHERE,
        "A second port for WebSockets; same means that `PORT` is the only one.",
        derive=defaults.websocket_port,
        shown="8766 in development, `PORT` + 1 in production, same where `DYNO` or `PORTICO_TLS_CERT` is set",
    )
    worker_port: forms.PortOrOff = setting(
        WHERE,
        "A port where every connection is a worker, whatever its path. Empty is the same as off.",
        derive=defaults.worker_port,
        shown="8765 in development, off in production and where `PORTICO_TLS_CERT` is set",
    )
    public_websocket_url: forms.WebSocketUrl = setting(
        WHERE, "What discovery tells clients to connect to, instead of what it makes of the request's own host."
    )
    advertised_host: forms.OptionalHost = setting(
        WHERE,
        "The host by which clients reach this node, where another process tells them where to connect. Unset: the host "
        "that they asked for, if that process runs on this machine, else this machine's own address.",
    )
    trusted_proxies: forms.Networks = setting(
        WHERE,
        "The proxies whose `X-Forwarded-For`, `-Host`, `-Proto`, `-Port` and `-Prefix` are believed. Of several in a "
        "row, the outermost that is among these says what the client asked for.",
        (),
        shown="none (10.0.0.0/8 where `DYNO` is set, and then also beside what is set here)",
    )

    h2c: forms.Flag = setting(
        WHERE,
        "Whether `PORT` speaks HTTP/2 without TLS, to those who begin with it or ask for `Upgrade: h2c`. Only for "
        "platforms whose proxy speaks it: through a proxy that passes `Upgrade` on, it is a way past that proxy.",
        False,
    )
    allowed_origins: forms.Origins = setting(
        ENTRY,
        "The web pages that may connect and call, besides those served from the gateway's own host.",
        shown="any in development, none in production",
    )
    allowed_hosts: forms.Hosts = setting(
        ENTRY,
        "The names under which the gateway may be asked for, as `gw.example.com`, `*.example.com`, or `*` for any: a "
        "page whose own name was made to lead to the gateway (DNS rebinding) is refused (403). Addresses, localhost, "
        "names without a dot and those of a network's own (`.internal`, `.local`, `.svc`) always may. In development "
        "the name is looked at only where no key is needed there, and localhost and addresses may.",
        derive=lambda known: ("*",) if known["dyno"] else None,
        shown="any in development and where `DYNO` is set; in production the hosts of the other settings, the "
        "machine's own name, and any by https",
    )
    api_keys: forms.ApiKeys = setting(
        ENTRY,
        "The keys of back ends for the HTTP API (`Authorization: Bearer …`), which open everything; workers may use "
        "one too. Or, instead of a key, the line that `portico token key` prints: a name, scopes and a hash. Without "
        "any, the API answers callers on the same machine in development, and nobody in production.",
        (),
    )
    api_keys_file: forms.KeyFile = setting(
        ENTRY,
        "A file with more API keys: on each line a name, scopes joined by `+`, and a hash, as `portico token key` "
        "prints it. It is read again when it changes; one that can't be used changes nothing.",
    )
    websocket_handshake_key: forms.HandshakeKey = setting(
        ENTRY,
        "What a worker must say to be let in. In production workers need this or an API key; in development "
        "anyone may be a worker. A wrong key is refused wherever this is set.",
    )
    auth: forms.AuthMode = setting(
        ENTRY,
        "What connections must prove by a token. off: no token is looked at. optional: who shows a token must be who "
        "it says. required: nobody registers without one. Unset in production counts as off, which the gateway says.",
        "off",
    )
    jwt_secret: forms.Secret = setting(
        ENTRY, "The shared secret of tokens that are signed with HS256, HS384 or HS512: 32 bytes or more."
    )
    jwt_public_keys: forms.KeyFile = setting(
        ENTRY,
        "A file with the public keys of tokens that are signed with RS, PS, ES or EdDSA: PEM blocks, a JWK or a JWKS. "
        "It is read again when it changes.",
    )
    jwks_url: forms.OptionalHttpUrl = setting(
        ENTRY, "Where such keys are fetched: every 5 minutes, and when a token isn't signed by one that is known."
    )
    connect_url: forms.OptionalHttpUrl = setting(
        ENTRY,
        "A program of yours that is asked (POST) who a connection is, with its headers, address and first message, "
        "where it has shown no token. It answers with the claims that a token has.",
    )
    connect_headers: forms.Headers = setting(
        ENTRY,
        "The headers of the handshake that it is shown.",
        ("authorization", "cookie", "origin", "sec-websocket-protocol", "user-agent"),
    )
    connect_timeout: forms.Seconds = setting(ENTRY, "How long it may take to answer, in seconds (then 1013).", 5.0)
    token_issuer: forms.OptionalText = setting(ENTRY, "What a token's `iss` must be; unset: anything.")
    token_audience: forms.Texts = setting(
        ENTRY, "What a token's `aud` must have one of. Unset: a token for any audience is refused.", ()
    )
    token_leeway: forms.Seconds = setting(ENTRY, "How far clocks may differ where a token's times are checked.", 30.0)
    open_requesters: forms.Flag = setting(
        ENTRY,
        "Whether `/requester` is open to those who prove nothing.",
        derive=defaults.open_in_development,
        shown="true in development, false in production",
    )
    open_metrics: forms.Flag = setting(
        ENTRY,
        "Whether `/metrics` is open to everybody; else it wants an API key with the scope `metrics`.",
        True,
    )
    page: forms.Flag = setting(
        ENTRY,
        "Whether the pages are served: the one to try the gateway with, at `/` (at `/portico` beside "
        "`PORTICO_APP`), and the one for streamed answers, at `/streaming/socket`.",
        True,
    )
    hsts: forms.Count = setting(
        ENTRY,
        "For how many seconds browsers that came by https are told to come by nothing else "
        "(`Strict-Transport-Security`), such as 31536000; 0: they aren't told.",
        0,
    )
    open_users: forms.Flag = setting(
        ENTRY,
        "Whether `/ws/{user_id}` is open to those who prove nothing.",
        derive=defaults.open_in_development,
        shown="true in development, false in production",
    )
    duplicate_client: forms.Duplicates = setting(
        ENTRY,
        "A client that is connected already connects again: replace closes the older connection, on whatever node; "
        "keep rejects the newer, if both are on one node; allow lets both be.",
        "replace",
    )

    announce_others: forms.Flag = setting(
        ENTRY,
        "Whether a user's other clients are told that one more has connected "
        "(`user_connected_on_another_client`, `user_connected_on_another_node`), and back ends with them.",
        False,
    )

    outbound_limit: forms.Size = setting(
        LIMITS,
        "With more than this waiting for a connection that takes next to nothing for PORTICO_SLOW_SECONDS, it is "
        "closed (4008).",
        MIB,
    )
    slow_seconds: forms.Seconds = setting(
        LIMITS,
        "How long a connection may take next to nothing (less than 16 KiB) while more than PORTICO_OUTBOUND_LIMIT "
        "waits for it.",
        5.0,
    )
    outbound_hard_limit: forms.Size = setting(
        LIMITS,
        "How much may wait for a connection beyond what it took within the last PORTICO_SLOW_SECONDS; with more it is "
        "closed at once (4008).",
        32 * MIB,
    )
    outbound_total_limit: forms.Size = setting(
        LIMITS,
        "How much may wait for all connections of a process together; with more, those that take least are closed "
        "(4008). A message that several wait for counts once. As much again may be kept of messages that have come in "
        "part; with more, the connection that holds most is closed (1013), at the address that holds most.",
        256 * MIB,
    )
    max_message_size: forms.Size = setting(LIMITS, "The largest message that is taken (else 1009).", MIB)
    max_worker_message_size: forms.Size = setting(LIMITS, "The largest message that is taken from a worker.", 5 * MIB)
    max_requester_message_size: forms.Size = setting(
        LIMITS,
        "The largest message that is taken from a requester that has shown a key (in development: from any).",
        5 * MIB,
    )
    max_connections: forms.Count = setting(LIMITS, "Connections at a time; 0: no limit.", 0)
    max_connections_per_address: forms.Count = setting(
        LIMITS,
        "Connections at a time from one address, of IPv6 from one /64; 0: no limit. A whole school may share one. The "
        "default doesn't count this machine's own addresses, at which a proxy may be.",
        derive=defaults.by_environment(0, 2000),
        shown="0 in development, 2000 in production",
    )
    max_connections_per_user: forms.Count = setting(
        LIMITS,
        "Connections at a time of one user, over all nodes; the newest is refused (`rate_limited`, 1013). 0: no limit.",
        0,
    )
    max_handshakes_per_second: forms.Count = setting(
        LIMITS,
        "New connections a second, in bursts of two seconds; 0: no limit. The default lets a crowd come back after a "
        "restart, and doesn't count those from this machine's own addresses.",
        derive=defaults.by_environment(0, 1000),
        shown="0 in development, 1000 in production",
    )
    max_http_requests_per_second: forms.Count = setting(
        LIMITS,
        "HTTP requests a second from one address without an API key, in bursts of two seconds (else 429 with "
        "`Retry-After`); 0: no limit, since a whole office may share an address.",
        0,
    )
    max_messages_per_second: forms.Count = setting(
        LIMITS,
        "Messages a second from one connection, in bursts of two seconds (else 4029); 0: no limit. The default "
        "leaves room for a back end that sends its requests in bulk. Workers that have shown a secret are exempt.",
        derive=defaults.by_environment(0, 1000),
        shown="0 in development, 1000 in production",
    )
    max_bytes_per_second: forms.Count = setting(
        LIMITS,
        "Bytes a second from one connection, in bursts of two seconds (else 4029); 0: no limit. The default lets "
        "the largest message of a worker through in one burst. Workers that have shown a secret are exempt.",
        derive=defaults.by_environment(0, 4 * MIB),
        shown=f"0 in development, {4 * MIB} in production",
    )

    quotas: forms.Quotas = setting(
        LIMITS,
        "What an address, a user or a tenant may have or do over all nodes together, such as "
        "`connections/user=20, messages/user=50, requests/tenant=500`: connections at a time; of the others "
        "(handshakes, messages, bytes, pushes, requests) so many a second, in bursts of two seconds. Workers, and "
        "who has shown an API key, are exempt, but for pushes.",
        (),
        shown="none",
    )

    compression: forms.Flag = setting(
        LIMITS,
        "Compress messages for those who offer it (permessage-deflate), from 256 bytes on: about a third of the bytes. "
        "A connection keeps nothing for it between messages; one that is receiving a compressed message takes 40 KiB "
        "more until the message is whole. Compressing takes 10 µs a KiB, once for all who get the same message.",
        False,
    )

    handshake_timeout: forms.Seconds = setting(TIMES, "How long a handshake may take, in seconds.", 5.0)
    registration_timeout: forms.Seconds = setting(
        TIMES,
        "How long a connection may stay unidentified, in seconds (then 4000).",
        60.0,
    )
    ping_interval: forms.Seconds = setting(
        TIMES, "The longest time between two pings of a connection, in seconds; the shortest is 80 % of it.", 25.0
    )
    pong_timeout: forms.Seconds = setting(TIMES, "How long an answer to a ping may take, in seconds.", 10.0)
    drain_seconds: forms.SecondsOrNone = setting(
        TIMES,
        "The time over which connections are closed before the gateway ends, in seconds.",
        derive=defaults.by_environment(1.0, 20.0),
        shown="1 in development, 20 in production",
    )

    worker_capacity: forms.Positive = setting(
        WORK, "Requests at a time for a worker that doesn't say how many it takes.", 16
    )
    worker_timeout: forms.Seconds = setting(
        WORK, "How long an answer may take, in seconds, if the request doesn't say.", 30.0
    )
    max_request_timeout: forms.Seconds = setting(
        WORK, "The longest `timeout` that a request may ask for, in seconds.", 3600.0
    )
    queue_limit: forms.Count = setting(
        WORK,
        "Requests that may wait for a worker; with 0 none waits: `Workers busy` at once. Each address, proven user or "
        "key has a share of it, and may have what others leave.",
        1000,
    )
    queue_bytes: forms.Size = setting(
        WORK, "Bytes that the requests may have that wait for a worker; shared as `PORTICO_QUEUE_LIMIT` is.", 64 * MIB
    )
    max_attempts: forms.Positive = setting(
        WORK, "How many workers may be tried for one request when they disconnect.", 3
    )
    lb_strategy: forms.Strategy = setting(WORK, "How a worker is chosen.", "least_loaded")
    cleanup_interval: forms.Seconds = setting(
        WORK, "How often the statistics of workers that are gone are dropped, in seconds.", 60.0
    )

    extensions: forms.Modules = setting(
        OWN, "Modules that extend the gateway: each is imported, and its `extend(context)` called.", ()
    )
    app: forms.App = setting(
        OWN,
        "Your own app, in the gateway's process: a WSGI app, or an ASGI app that runs on trio. It answers every route "
        "on `PORT` that is not the gateway's. Each process that answers HTTP runs it.",
    )
    app_timeout: forms.SecondsOrNone = setting(
        OWN,
        "How long your app may take until its answer begins, in seconds, before it is answered by 504; and how long it "
        "may go on after its client has gone. 0: no bound.",
        30.0,
    )
    app_concurrency: forms.Count = setting(
        OWN, "Requests that your app may have at a time; what is more gets 503. 0: no bound.", 1000
    )
    app_threads: forms.Positive = setting(OWN, "Threads that a WSGI app runs in; each has one request.", 32)
    app_max_body: forms.Size = setting(OWN, "Bytes that the body of a request to your app may have.", 16 * MIB)

    webhook_url: forms.OptionalHttpUrl = setting(
        BACK,
        "Where events are posted: who came and went, which requests failed, what clients said that the gateway has no "
        "use for.",
    )
    webhook_networks: forms.Networks = setting(
        BACK,
        "The private networks in which that may be, such as 10.0.0.0/8; public addresses always may.",
        derive=defaults.own_machine_in_development,
        shown="127.0.0.0/8,::1/128 in development, none in production",
    )
    webhook_timeout: forms.Seconds = setting(BACK, "How long it may take to accept an event, in seconds.", 10.0)
    webhook_give_up: forms.Seconds = setting(
        BACK, "How old an event may get that is not accepted, in seconds; then it goes to the dead letters.", 86400.0
    )
    webhook_outbox: forms.Positive = setting(
        BACK, "Events that may wait for the webhook; with more, the oldest are dropped.", 100_000
    )
    event_stream: forms.Count = setting(
        BACK,
        "How many events are kept in the stream `portico:events` of Redis, for back ends that read it; 0: no stream.",
        0,
    )
    relay_types: forms.Texts = setting(
        BACK,
        "Which messages of clients that the gateway doesn't know are passed on to back ends, by `type`; `*` stands for "
        "any type, `-` for messages without one. What is not among them gets an error, as all do where nobody listens.",
        ("*", "-"),
        shown="*,-",
    )
    offline_seconds: forms.Seconds = setting(
        BACK, "How long a user must have been without a connection to be reported as offline, in seconds.", 10.0
    )
    webhook_keys: forms.SigningKeys = setting(
        BACK,
        "The secrets with which what goes to `PORTICO_WEBHOOK_URL` and `PORTICO_CONNECT_URL` is signed; each signs, so "
        "that they can be changed without a gap.",
        (),
    )

    name: forms.NodeName = setting(
        LOGS,
        "The name of this node in answers, logs and metrics.",
        derive=defaults.name,
        shown="the host's name and the process's number",
    )
    log_format: forms.LogFormat = setting(
        LOGS,
        "Lines for machines or for people.",
        derive=defaults.by_environment("console", "json"),
        shown="console in development, json in production",
    )
    log_level: forms.LogLevel = setting(
        LOGS,
        "The least important level that is logged.",
        derive=lambda known: "debug" if known["debug"] else "info",
        shown="info (debug with `DEBUG=true`)",
    )

    access_log: forms.Flag = setting(
        LOGS,
        "A line for each HTTP request: method, path without its query, status, address, bytes, seconds.",
        False,
    )

    advise_split_at: forms.Count = setting(
        LOGS,
        "From how many connections of a node it says which mode is advised, by its own figures: one process, or split "
        "mode where its core, loop or memory is used up; 0: never.",
        1000,
    )
    advise_streams_at: forms.Count = setting(
        LOGS, "From how many it says so of split mode, and of split mode with streams; 0: never.", 10_000
    )

    audit_log: forms.AuditTarget = setting(
        LOGS,
        'Where the audit log goes: stderr, beside the other lines and marked `"log": "audit"`; off; or the path of a '
        "file that is appended to. It has kicks, revocations, pushes by key, refused keys and tokens, and drains.",
        derive=defaults.by_environment("off", "stderr"),
        shown="off in development, stderr in production",
    )

    history_length: forms.Positive = setting(OTHERS, "Durable events that are kept for each stream, at most.", 1000)
    history_ttl: forms.Seconds = setting(OTHERS, "How long a durable event is kept, in seconds, at most.", 86400.0)
    history_bytes: forms.Size = setting(
        OTHERS,
        "Bytes of durable events in a process's memory. Without Redis: the history of all streams. With Redis: what "
        "was read for clients that come back and is on its way to them; of a stream 16 MiB are read in any case.",
        128 * MIB,
    )
    redis_host: forms.OptionalHost = setting(OTHERS, "The host of Redis, if `REDIS_URL` is unset.")
    redis_port: forms.RedisPort = setting(OTHERS, "The port of Redis, beside `REDIS_HOST`.", 6379)
    redis_url: forms.RedisUrl = setting(
        OTHERS,
        "Where the Redis is that joins several processes into one gateway. Unset: this process is alone.",
        derive=defaults.redis_url,
        shown="made from `REDIS_HOST` and `REDIS_PORT`, if the host is set",
    )
    node_lease: forms.Seconds = setting(
        OTHERS,
        "Seconds within which a node that died is known to be gone. Each says three times in that time that it lives.",
        5.0,
    )
    ingress: forms.Flag = setting(
        OTHERS,
        "Whether this node publishes what other programs put on the ingress stream of Redis.",
        derive=lambda known: known["service_role"] != "websocket",
        shown="true (false for `SERVICE_ROLE=websocket`)",
    )
    redis_prefix: forms.RedisPrefix = setting(
        OTHERS,
        "What the names of everything in Redis begin with, but for the channels `notifications:{user_id}`. "
        "Deployments that share a Redis have one each.",
        "portico:",
    )
    open_api_key: forms.HeaderSecret = setting(
        CHAT,
        "The key of an API in the style of OpenAI's. With it the gateway answers the command `chat`, as "
        "`portico worker --commands chat` does. A server that wants no key takes any text.",
    )
    open_api_base_url: forms.HttpUrl = setting(
        CHAT,
        "Where that API is; `/chat/completions` is added. The proxies and authorities of `HTTPS_PROXY`, `HTTP_PROXY`, "
        "`NO_PROXY` and `SSL_CERT_FILE` hold for it.",
        "https://api.openai.com/v1",
    )
    chat_model: forms.Text = setting(CHAT, "The model that answers.", "gpt-4o-mini")
    chat_models: forms.Texts = setting(
        CHAT, "The other models that a request may name; `*` for any that the API has.", (), shown="none"
    )
    chat_max_tokens: forms.Count = setting(
        CHAT, "Tokens of one answer, at most; a request may ask for fewer. 0: no limit.", 4096
    )
    chat_max_messages: forms.Positive = setting(CHAT, "Messages that a conversation may have.", 200)
    chat_max_characters: forms.Positive = setting(CHAT, "Characters that a conversation may have in all.", 200_000)
    chat_concurrency: forms.Positive = setting(
        CHAT, "Answers at a time, for each process that serves `chat`; what is beyond waits, as for any worker.", 16
    )
    chat_connect_timeout: forms.Seconds = setting(CHAT, "How long connecting to the API may take, in seconds.", 10.0)
    chat_first_token_timeout: forms.Seconds = setting(
        CHAT, "How long the API may take to begin its answer, in seconds.", 60.0
    )
    chat_stall_timeout: forms.Seconds = setting(
        CHAT, "How long nothing more may come of an answer that has begun, in seconds.", 30.0
    )

    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load` hands in what it collected: that way a given mapping is all there is, an unknown name can be
        # told from another program's, and it is known for every value where it came from.
        return (init_settings,)

    @field_validator("trusted_proxies")
    @classmethod
    def _trust_the_platform(cls, networks: tuple[forms.Network, ...], info: ValidationInfo) -> object:
        if info.data.get("dyno") and PLATFORM_ROUTER not in networks:
            return (*networks, PLATFORM_ROUTER)
        return networks

    @field_validator("websocket_port", "worker_port")
    @classmethod
    def _only_what_is_opened(cls, port: int | None, info: ValidationInfo) -> int | None:
        name = env_name(str(info.field_name))
        return None if name in defaults.ignored_ports(info.data.get("api_type", "combined")) else port

    @property
    def http_port(self) -> int:
        """The port of HTTP: another name of `port`."""
        return self.port

    @property
    def production(self) -> bool:
        """Whether the environment is production."""
        return self.environment == "production"

    def source(self, field: str) -> Source:
        """Where the value of a field (by its name here, such as `port`) comes from."""
        return self._sources[env_name(field)]
