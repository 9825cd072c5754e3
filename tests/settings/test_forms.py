"""By tables: what each setting accepts, what comes of it, and in which words the rest is refused."""

from ipaddress import ip_network

import pytest
from pydantic import SecretStr

from service.settings import Settings
from tests.settings.given import KEY, LINE, NAMES, problems

REFUSALS = [
    ({"SERVICE_ROLE": "websocket", "API_TYPE": "http"}, "SERVICE_ROLE=websocket contradicts API_TYPE=http"),
    ({"SERVICE_ROLE": "websocket", "API_TYPE": "combined"}, "SERVICE_ROLE=websocket contradicts API_TYPE=combined"),
    ({"SERVICE_ROLE": "api", "API_TYPE": "websocket"}, "SERVICE_ROLE=api contradicts API_TYPE=websocket"),
    ({"SERVICE_ROLE": "api"}, "SERVICE_ROLE=api makes this process a part of a gateway, whose parts find one another"),
    ({"SERVICE_ROLE": "API"}, "set REDIS_URL, or leave SERVICE_ROLE and API_TYPE unset."),
    ({"PORTICO_EXTENSIONS": "a,b c"}, "PORTICO_EXTENSIONS has 'b c': write the name of a Python module"),
    ({"PORTICO_APP": "my shop"}, "PORTICO_APP has 'my shop': write module:app, such as myshop.web:app, or module:cr"),
    ({"PORTICO_APP": "shop:app('x')"}, "PORTICO_APP has"),
    ({"PORTICO_APP_TIMEOUT": "-1"}, "PORTICO_APP_TIMEOUT must be a number of seconds from 0 to 3600"),
    ({"PORTICO_APP_CONCURRENCY": "-1"}, "PORTICO_APP_CONCURRENCY must be a whole number from 0"),
    ({"PORTICO_APP_THREADS": "0"}, "PORTICO_APP_THREADS must be a whole number from 1"),
    ({"PORTICO_APP_MAX_BODY": "0"}, "PORTICO_APP_MAX_BODY must be a whole number of bytes from 1"),
    ({"SERVICE_ROLE": "websocket"}, "SERVICE_ROLE=websocket makes this process a part of a gateway"),
    ({"API_TYPE": "http"}, "API_TYPE=http makes this process a part of a gateway"),
    ({"API_TYPE": "websocket"}, "API_TYPE=websocket makes this process a part of a gateway"),
    ({"PORTICO_WORKERS": "0"}, "PORTICO_WORKERS must be a whole number from 1 to 256, but it is '0'."),
    ({"PORTICO_WORKERS": "257"}, "PORTICO_WORKERS must be a whole number from 1 to 256"),
    ({"PORTICO_REDIS_PREFIX": "a b"}, "PORTICO_REDIS_PREFIX must be 1 to 64 letters, digits, colons, dots, hyphens"),
    ({"PORTICO_REDIS_PREFIX": "notifications:x"}, "PORTICO_REDIS_PREFIX must not begin with notifications:, which"),
    ({"SERVICE_ROLE": "web"}, "SERVICE_ROLE must be api or websocket, but it is 'web'."),
    ({"API_TYPE": "both"}, "API_TYPE must be combined, http or websocket, but it is 'both'."),
    ({"PORT": "65535"}, "PORT=65535 leaves no port above it for WebSockets"),
    ({"WEBSOCKET_PORT": "8000"}, "PORT and WEBSOCKET_PORT are both 8000 (PORT by default)"),
    ({"PORT": "8766", "ENVIRONMENT": "development"}, "are both 8766 (WEBSOCKET_PORT by default): set another port"),
    ({"PORT": "9000", "WORKER_PORT": "9000"}, "PORT and WORKER_PORT are both 9000: set another port, or WORKER_PORT"),
    ({"PORT": "9000", "WORKER_PORT": "9001"}, "WEBSOCKET_PORT and WORKER_PORT are both 9001 (WEBSOCKET_PORT by def"),
    ({"PORT": "65536"}, "PORT must be a port from 1 to 65535 (or 0: any free one), but it is '65536'."),
    ({"PORT": "-1"}, "PORT must be a port"),
    ({"PORT": "http"}, "PORT must be a port"),
    ({"PORT": "9" * 400}, "PORT must be a port"),
    ({"WEBSOCKET_PORT": "none"}, "any free one), or same, but it is 'none'."),
    ({"WEBSOCKET_PORT": "70000"}, "WEBSOCKET_PORT must be a port"),
    ({"WORKER_PORT": "same"}, "any free one), or off, but it is 'same'."),
    ({"HOST": "10.0.0.256"}, "HOST must be an address or a host name"),
    ({"HOST": "a b"}, "HOST must be an address or a host name"),
    ({"DEBUG": "maybe"}, "DEBUG must be true or false, but it is 'maybe'."),
    ({"REDIS_HOST": "redis://x"}, "REDIS_HOST must be an address or a host name"),
    ({"REDIS_PORT": "0"}, "REDIS_PORT must be a port from 1 to 65535, but it is '0'."),
    (
        {"REDIS_URL": "http://localhost"},
        "REDIS_URL must be a redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://",
    ),
    ({"REDIS_URL": "redis+sentinel://a,b"}, "must be a URL of sentinels and their master, such as redis+sentinel://"),
    ({"REDIS_URL": "redis+sentinel://a,/mymaster"}, "must be a URL of sentinels and their master"),
    ({"REDIS_URL": "redis+sentinel://a:x,b/mymaster"}, "must be a URL of sentinels and their master"),
    ({"REDIS_URL": "redis+sentinel://a,b/mymaster/one"}, "must be a URL of sentinels and their master"),
    ({"REDIS_URL": "redis+cluster://a:0"}, "must be a URL of nodes of a cluster, such as redis+cluster://c1:6379,"),
    ({"REDIS_URL": "rediss+cluster://a,b/1"}, "must be a URL of nodes of a cluster"),
    ({"REDIS_URL": "redis+ring://a,b"}, "REDIS_URL must be a redis://"),
    ({"REDIS_URL": "unix://socket"}, "REDIS_URL must be"),
    ({"OPEN_API_KEY": "two words"}, "OPEN_API_KEY must be printable ASCII characters without spaces."),
    ({"PORTICO_CHAT_MODEL": "m" * 257}, "PORTICO_CHAT_MODEL must be 1 to 256 printable characters."),
    ({"PORTICO_CHAT_MODELS": "m,a\tb"}, "PORTICO_CHAT_MODELS must be 1 to 256 printable characters."),
    ({"PORTICO_CHAT_MAX_TOKENS": "-1"}, "PORTICO_CHAT_MAX_TOKENS must be a whole number from 0"),
    ({"PORTICO_CHAT_MAX_MESSAGES": "0"}, "PORTICO_CHAT_MAX_MESSAGES must be a whole number from 1"),
    ({"PORTICO_CHAT_MAX_CHARACTERS": "0"}, "PORTICO_CHAT_MAX_CHARACTERS must be a whole number from 1"),
    ({"PORTICO_CHAT_CONCURRENCY": "0"}, "PORTICO_CHAT_CONCURRENCY must be a whole number from 1"),
    ({"PORTICO_CHAT_CONNECT_TIMEOUT": "0"}, "PORTICO_CHAT_CONNECT_TIMEOUT must be a number of seconds, more than 0"),
    ({"PORTICO_CHAT_FIRST_TOKEN_TIMEOUT": "0"}, "PORTICO_CHAT_FIRST_TOKEN_TIMEOUT must be a number of seconds"),
    ({"PORTICO_CHAT_STALL_TIMEOUT": "x"}, "PORTICO_CHAT_STALL_TIMEOUT must be a number of seconds"),
    ({"OPEN_API_BASE_URL": "api.openai.com"}, "OPEN_API_BASE_URL must be an http:// or https:// URL"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "https://gw.example.com"}, "must be a ws:// or wss:// URL with a host"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "wss://"}, "must be a ws:// or wss:// URL with a host"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "wss://gw:99999"}, "must be a ws:// or wss:// URL with a host"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "wss://gw:0"}, "must be a ws:// or wss:// URL with a host"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "wss://[::1"}, "must be a ws:// or wss:// URL with a host"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "ws://gw/#top"}, "PORTICO_PUBLIC_WEBSOCKET_URL must not hold a fragment"),
    ({"PORTICO_PUBLIC_WEBSOCKET_URL": "ws://a:b@gw"}, "must not hold a user name or password"),
    ({"PORTICO_TRUSTED_PROXIES": "proxy"}, "has 'proxy': write an address or a network"),
    ({"PORTICO_TRUSTED_PROXIES": "10.0.0.0/33"}, "has '10.0.0.0/33': write an address or a network"),
    ({"PORTICO_TRUSTED_PROXIES": "fe80::1%eth0"}, "has 'fe80::1%eth0': write an address or a network"),
    ({"PORTICO_TRUSTED_PROXIES": "10.0.0.5/8"}, "an address within a network: write 10.0.0.0/8 for the network."),
    ({"PORTICO_ALLOWED_HOSTS": "https://a.com"}, "has 'https://a.com': write a name without scheme and port"),
    ({"PORTICO_ALLOWED_HOSTS": "a.com:80,b.com"}, "has 'a.com:80': write a name without scheme and port"),
    ({"ENVIRONMENT": "prod"}, "ENVIRONMENT must be development or production, but it is 'prod'."),
    ({"ENVIRONMENT": "staging"}, "ENVIRONMENT must be development or production"),
    ({"PORTICO_ALLOWED_ORIGINS": "example.com"}, "'example.com', which has no scheme: write https://example.com."),
    ({"PORTICO_ALLOWED_ORIGINS": "*.example.com"}, "which has no scheme: write https://*.example.com."),
    ({"PORTICO_ALLOWED_ORIGINS": "https://a.com/"}, "an origin ends with its host and port: write https://a.com."),
    ({"PORTICO_ALLOWED_ORIGINS": "https://a.com:0"}, "whose port is out of range"),
    ({"PORTICO_ALLOWED_ORIGINS": "https://a.com:65536"}, "whose port is out of range"),
    ({"PORTICO_ALLOWED_ORIGINS": "https://*"}, "write origins such as"),
    ({"PORTICO_ALLOWED_ORIGINS": "https://a.*.com"}, "write origins such as"),
    ({"PORTICO_ALLOWED_ORIGINS": "null"}, "has no scheme"),
    ({"PORTICO_ALLOWED_ORIGINS": "https://müller.de"}, "write the host as browsers send it (xn--…)"),
    ({"PORTICO_ALLOWED_ORIGINS": "http://[::g]"}, "write origins such as"),
    ({"PORTICO_ALLOWED_ORIGINS": "http://[1::2::3]"}, "which holds no valid IPv6 address"),
    ({"PORTICO_ALLOWED_ORIGINS": "http://10.0.0.999"}, "which holds no valid host"),
    ({"PORTICO_API_KEYS": "short"}, "has a key that is too short (number 1): use 16 characters or more."),
    ({"PORTICO_API_KEYS": f"{KEY},short"}, "has a key that is too short (number 2)"),
    ({"PORTICO_API_KEYS": "a key with several words"}, "has a key (number 1) that is not all printable ASCII"),
    (
        {"PORTICO_API_KEYS": "shop publish+all sha256:" + "0" * 64},
        "has a key (number 1) that has a scope that does not",
    ),
    ({"PORTICO_AUDIT_LOG": "\0"}, "PORTICO_AUDIT_LOG must be the path of a file"),
    ({"PORTICO_API_KEYS_FILE": "\0"}, "PORTICO_API_KEYS_FILE must be the path of a file"),
    ({"WEBSOCKET_HANDSHAKE_KEY": "short"}, "WEBSOCKET_HANDSHAKE_KEY is too short: use 16 characters or more"),
    ({"WEBSOCKET_HANDSHAKE_KEY": "\udcff" * 16}, "WEBSOCKET_HANDSHAKE_KEY must be UTF-8 text."),
    ({"PORTICO_AUTH": "yes"}, "PORTICO_AUTH must be off, optional or required, but it is 'yes'."),
    ({"PORTICO_AUTH": "required"}, "there is nothing to check tokens with: set PORTICO_JWT_SECRET"),
    ({"PORTICO_JWT_SECRET": "\udcff"}, "PORTICO_JWT_SECRET must be UTF-8 text."),
    ({"PORTICO_JWT_PUBLIC_KEYS": "\0"}, "PORTICO_JWT_PUBLIC_KEYS must be the path of a file"),
    ({"PORTICO_JWKS_URL": "ftp://id.example.com/keys"}, "PORTICO_JWKS_URL must be an http:// or https:// URL"),
    ({"PORTICO_CONNECT_URL": "file:///who"}, "PORTICO_CONNECT_URL must be an http:// or https:// URL"),
    ({"PORTICO_CONNECT_URL": "http://a:b@shop/who"}, "PORTICO_CONNECT_URL must not hold a user name or password"),
    ({"PORTICO_CONNECT_HEADERS": "cookie, x y"}, "PORTICO_CONNECT_HEADERS has 'x y': write the name of a header"),
    ({"PORTICO_ANNOUNCE_OTHERS": "maybe"}, "PORTICO_ANNOUNCE_OTHERS must be true or false"),
    ({"PORTICO_WEBHOOK_URL": "shop/hook"}, "PORTICO_WEBHOOK_URL must be an http:// or https:// URL"),
    ({"PORTICO_WEBHOOK_NETWORKS": "lan"}, "PORTICO_WEBHOOK_NETWORKS has 'lan': write an address or a network"),
    ({"PORTICO_WEBHOOK_OUTBOX": "0"}, "PORTICO_WEBHOOK_OUTBOX must be a whole number from 1 to 1000000"),
    ({"PORTICO_EVENT_STREAM": "1000"}, "PORTICO_EVENT_STREAM is set, but there is no Redis to keep a stream in"),
    ({"PORTICO_RELAY_TYPES": "a,\x07"}, "PORTICO_RELAY_TYPES must be 1 to 256 printable characters"),
    ({"PORTICO_WEBHOOK_KEYS": "short"}, "PORTICO_WEBHOOK_KEYS has a key that is too short (number 1): use 32"),
    ({"PORTICO_WEBHOOK_KEYS": "\udcff" * 32}, "PORTICO_WEBHOOK_KEYS must be UTF-8 text"),
    ({"PORTICO_TOKEN_ISSUER": "a" * 257}, "PORTICO_TOKEN_ISSUER must be 1 to 256 printable characters"),
    ({"PORTICO_TOKEN_AUDIENCE": "a,\x07"}, "PORTICO_TOKEN_AUDIENCE must be 1 to 256 printable characters"),
    ({"PORTICO_NAME": "a b"}, "PORTICO_NAME must be 1 to 128 letters, digits, dots, hyphens or underscores"),
    ({"PORTICO_NAME": "a" * 129}, "PORTICO_NAME must be"),
    ({"PORTICO_DUPLICATE_CLIENT": "drop"}, "PORTICO_DUPLICATE_CLIENT must be replace, keep or allow, but it is 'drop'"),
    ({"PORTICO_LB_STRATEGY": "best"}, "PORTICO_LB_STRATEGY must be least_loaded, round_robin, random or weighted"),
    ({"PORTICO_TLS_CERT": "/cert.pem"}, "PORTICO_TLS_CERT is set without PORTICO_TLS_KEY: set both, or neither."),
    ({"PORTICO_QUOTAS": "messages=5"}, "has 'messages=5': write what, whose and how much, such as messages/user=50"),
    ({"PORTICO_QUOTAS": "pushes/tenant=5"}, "a push is to a user and from an address, and has no tenant"),
    ({"PORTICO_TLS_CLIENT_CA": "/ca.pem"}, "PORTICO_TLS_CLIENT_CA is set without PORTICO_TLS_CERT"),
    ({"PORTICO_REDIRECT_PORT": "80"}, "PORTICO_REDIRECT_PORT=80 would send everybody to a port that speaks no TLS"),
    ({"PORTICO_TLS_KEY": "/key.pem"}, "PORTICO_TLS_KEY is set without PORTICO_TLS_CERT: set both, or neither."),
    ({"PORTICO_HSTS": "-1"}, "PORTICO_HSTS must be a whole number from 0 to 1000000000"),
    ({"PORTICO_LOG_FORMAT": "xml"}, "PORTICO_LOG_FORMAT must be json or console, but it is 'xml'."),
    ({"PORTICO_LOG_LEVEL": "loud"}, "PORTICO_LOG_LEVEL must be debug, info, warning, error or critical"),
]


_SECONDS = (
    "SLOW_SECONDS",
    "HANDSHAKE_TIMEOUT",
    "REGISTRATION_TIMEOUT",
    "PING_INTERVAL",
    "PONG_TIMEOUT",
    "TOKEN_LEEWAY",
    "CONNECT_TIMEOUT",
    "WEBHOOK_TIMEOUT",
    "WEBHOOK_GIVE_UP",
    "OFFLINE_SECONDS",
    "WORKER_TIMEOUT",
)


for _name in (*_SECONDS, "HISTORY_TTL", "NODE_LEASE"):
    REFUSALS += [
        ({f"PORTICO_{_name}": bad}, f"PORTICO_{_name} must be a number of seconds, more than 0 and at most 86400")
        for bad in ("0", "-1", "86401", "nan", "inf", "1e999", "5s", "1,5")
    ]


for _name in (
    "MAX_CONNECTIONS",
    "MAX_CONNECTIONS_PER_ADDRESS",
    "MAX_HANDSHAKES_PER_SECOND",
    "QUEUE_LIMIT",
    "MAX_HTTP_REQUESTS_PER_SECOND",
):
    REFUSALS += [
        ({f"PORTICO_{_name}": bad}, f"PORTICO_{_name} must be a whole number from 0")
        for bad in ("-1", "1.5", "many", "1" + 400 * "0")
    ]


for _name in ("COMPRESSION", "H2C", "INGRESS", "ACCESS_LOG", "OPEN_REQUESTERS", "OPEN_USERS", "OPEN_METRICS", "PAGE"):
    REFUSALS += [({f"PORTICO_{_name}": bad}, f"PORTICO_{_name} must be true or false") for bad in ("maybe", "2")]


REFUSALS += [
    ({"PORTICO_HISTORY_LENGTH": "0"}, "PORTICO_HISTORY_LENGTH must be a whole number from 1"),
    ({"PORTICO_CLEANUP_INTERVAL": "0"}, "PORTICO_CLEANUP_INTERVAL must be a number of seconds"),
    ({"PORTICO_DRAIN_SECONDS": "-1"}, "PORTICO_DRAIN_SECONDS must be a number of seconds from 0 to 3600"),
    ({"PORTICO_DRAIN_SECONDS": "3601"}, "PORTICO_DRAIN_SECONDS must be a number of seconds from 0 to 3600"),
    ({"PORTICO_WORKER_CAPACITY": "0"}, "PORTICO_WORKER_CAPACITY must be a whole number from 1"),
    ({"PORTICO_MAX_ATTEMPTS": "0"}, "PORTICO_MAX_ATTEMPTS must be a whole number from 1"),
    ({"PORTICO_QUEUE_BYTES": "0"}, "PORTICO_QUEUE_BYTES must be a whole number of bytes from 1"),
    ({"PORTICO_MAX_REQUEST_TIMEOUT": "0"}, "PORTICO_MAX_REQUEST_TIMEOUT must be a number of seconds"),
    ({"PORTICO_MAX_MESSAGES_PER_SECOND": "x"}, "PORTICO_MAX_MESSAGES_PER_SECOND must be a whole number from 0"),
    ({"PORTICO_MAX_BYTES_PER_SECOND": "x"}, "PORTICO_MAX_BYTES_PER_SECOND must be a whole number from 0"),
    ({"PORTICO_ADVISE_SPLIT_AT": "-1"}, "PORTICO_ADVISE_SPLIT_AT must be a whole number from 0"),
    ({"PORTICO_ADVISE_STREAMS_AT": "x"}, "PORTICO_ADVISE_STREAMS_AT must be a whole number from 0"),
    ({"PORTICO_MAX_CONNECTIONS_PER_USER": "-1"}, "PORTICO_MAX_CONNECTIONS_PER_USER must be a whole number from 0"),
    ({"PORTICO_ADVERTISED_HOST": "ws://x"}, "PORTICO_ADVERTISED_HOST must be an address or a host name"),
    ({"PORTICO_OUTBOUND_LIMIT": "0"}, "PORTICO_OUTBOUND_LIMIT must be a whole number of bytes from 1 to 1073741824"),
    ({"PORTICO_OUTBOUND_HARD_LIMIT": "0"}, "PORTICO_OUTBOUND_HARD_LIMIT must be a whole number of bytes from 1"),
    ({"PORTICO_HISTORY_BYTES": "0"}, "PORTICO_HISTORY_BYTES must be a whole number of bytes from 1"),
    ({"PORTICO_OUTBOUND_TOTAL_LIMIT": "-1"}, "PORTICO_OUTBOUND_TOTAL_LIMIT must be a whole number of bytes from 1"),
    ({"PORTICO_MAX_MESSAGE_SIZE": "1MiB"}, "PORTICO_MAX_MESSAGE_SIZE must be a whole number of bytes"),
    ({"PORTICO_MAX_WORKER_MESSAGE_SIZE": "2000000000"}, "PORTICO_MAX_WORKER_MESSAGE_SIZE must be a whole number"),
    ({"PORTICO_MAX_REQUESTER_MESSAGE_SIZE": "0"}, "PORTICO_MAX_REQUESTER_MESSAGE_SIZE must be a whole number"),
]


@pytest.mark.parametrize(("environ", "sentence"), REFUSALS)
def test_what_is_refused_and_how(environ: dict[str, str], sentence: str) -> None:
    told = problems(environ)
    assert any(sentence in problem for problem in told), told
    assert all(problem.endswith((".", "?")) for problem in told)
    assert all(problem.isprintable() for problem in told)


def test_every_variable_that_can_be_refused_is_in_the_table() -> None:
    refused = {name for environ, sentence in REFUSALS for name in environ if name in sentence or len(environ) == 1}
    assert refused == set(NAMES) - {"DYNO"}


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("HOST", "[::]", "host", "::"),
        ("HOST", "LocalHost", "host", "localhost"),
        ("DEBUG", "1", "debug", True),
        ("DEBUG", "False", "debug", False),
        ("PORTICO_PUBLIC_WEBSOCKET_URL", "wss://gw.example.com/ws", "public_websocket_url", "wss://gw.example.com/ws"),
        ("PORTICO_PUBLIC_WEBSOCKET_URL", "ws://[::1]:9000", "public_websocket_url", "ws://[::1]:9000"),
        ("PORTICO_TRUSTED_PROXIES", "10.0.0.5", "trusted_proxies", (ip_network("10.0.0.5/32"),)),
        (
            "PORTICO_TRUSTED_PROXIES",
            " 10.0.0.0/8, ::1 ,,10.0.0.0/8",
            "trusted_proxies",
            (ip_network("10.0.0.0/8"), ip_network("::1/128")),
        ),
        ("PORTICO_ALLOWED_ORIGINS", "*", "allowed_origins", ("*",)),
        ("PORTICO_ALLOWED_ORIGINS", "HTTPS://A.example:443", "allowed_origins", ("https://a.example",)),
        ("PORTICO_ALLOWED_ORIGINS", "http://localhost:5173", "allowed_origins", ("http://localhost:5173",)),
        ("PORTICO_ALLOWED_ORIGINS", "https://*.a.com:8443", "allowed_origins", ("https://*.a.com:8443",)),
        ("PORTICO_ALLOWED_ORIGINS", "http://[0:0::1]:80", "allowed_origins", ("http://[::1]",)),
        ("PORTICO_ALLOWED_ORIGINS", "app://a, app://b", "allowed_origins", ("app://a", "app://b")),
        ("PORTICO_API_KEYS", f"{KEY}, {KEY}2,{KEY}", "api_keys", (SecretStr(KEY), SecretStr(KEY + "2"))),
        ("PORTICO_API_KEYS", "k" * 16, "api_keys", (SecretStr("k" * 16),)),
        ("PORTICO_API_KEYS", f"{LINE},{KEY}", "api_keys", (SecretStr(LINE), SecretStr(KEY))),
        ("WEBSOCKET_HANDSHAKE_KEY", " söhne und töchter ", "websocket_handshake_key", SecretStr("söhne und töchter")),
        ("OPEN_API_KEY", "sk-1", "open_api_key", SecretStr("sk-1")),
        ("OPEN_API_BASE_URL", "http://127.0.0.1:11434/v1", "open_api_base_url", "http://127.0.0.1:11434/v1"),
        ("REDIS_URL", "rediss://:pw@redis.example:6380/1", "redis_url", SecretStr("rediss://:pw@redis.example:6380/1")),
        (
            "REDIS_URL",
            "rediss+sentinel://u:p,w@s1,[::1]:26380/mymaster/1?sentinel_password=pw",
            "redis_url",
            SecretStr("rediss+sentinel://u:p,w@s1,[::1]:26380/mymaster/1?sentinel_password=pw"),
        ),
        ("REDIS_URL", "redis+cluster://:pw@a,b:1", "redis_url", SecretStr("redis+cluster://:pw@a,b:1")),
        ("REDIS_URL", "unix:///run/redis.sock", "redis_url", SecretStr("unix:///run/redis.sock")),
        ("REDIS_HOST", "redis", "redis_url", SecretStr("redis://redis:6379/0")),
        ("REDIS_HOST", "::1", "redis_url", SecretStr("redis://[::1]:6379/0")),
        ("PORTICO_REDIS_PREFIX", "shop.gw:", "redis_prefix", "shop.gw:"),
        ("PORTICO_WORKERS", "4", "workers", 4),
        ("PORTICO_DUPLICATE_CLIENT", "Keep", "duplicate_client", "keep"),
        ("PORTICO_LB_STRATEGY", "weighted_random", "lb_strategy", "weighted_random"),
        ("PORTICO_LOG_FORMAT", "json", "log_format", "json"),
        ("PORTICO_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("DEBUG", "true", "log_level", "debug"),
        ("PORTICO_PING_INTERVAL", "0.5", "ping_interval", 0.5),
        ("PORTICO_DRAIN_SECONDS", "0", "drain_seconds", 0.0),
        ("PORTICO_MAX_MESSAGES_PER_SECOND", "7", "max_messages_per_second", 7),
        ("PORTICO_QUEUE_LIMIT", "0", "queue_limit", 0),
        ("API_TYPE", "combined", "api_type", "combined"),
    ],
)
def test_what_is_accepted(name: str, text: str, attribute: str, value: object) -> None:
    settings = Settings.load({name: text})
    assert getattr(settings, attribute) == value
