"""The forms that a setting's value can have: how each is read from text, and how it is put in words.

Every type here carries a `Form`, the words that follow "must be" when a value is refused; the reference shows
the same words. A form that can say more exactly what is wrong raises `Wrong`. Nothing here knows the name of
a setting, and nothing quotes a secret.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints
from pydantic.fields import FieldInfo

from service.core.api_keys import MIN_LENGTH, BadKeyLine, is_line, parse_line

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

QUOTE_LIMIT: Final = 60
SIGNING_KEY_LENGTH: Final = 32

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_HEADER: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_APP: Final = re.compile(r"\w+(?:\.\w+)*(?::\w+(?:\.\w+)*(?:\(\))?)?")
_ORIGIN = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>(?:\*\.)?{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?",
    re.ASCII,
)
_PLACES = r"://(?:[^@/?#]*@)?(?P<places>[^@/?#]+)"
_OF_SEVERAL = {
    "sentinel": re.compile(rf"{_PLACES}/[^/?#]+(?:/[0-9]+)?/?(?:\?[^#]*)?"),
    "cluster": re.compile(rf"{_PLACES}(?:/0?)?(?:\?[^#]*)?"),
}
QUOTA_KINDS = ("connections", "handshakes", "messages", "bytes", "pushes", "requests")
QUOTA_HOLDERS = ("address", "user", "tenant")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Form:
    """A form in words, to follow "must be": `a whole number, 1 or more`."""

    words: str


class Wrong(ValueError):
    """Says what is wrong with a value. Each problem is the rest of a sentence that begins with the name."""

    def __init__(self, *problems: str) -> None:
        self.problems: Final = problems
        super().__init__("; ".join(problems))


def quoted(text: str) -> str:
    """A piece of untrusted text, cut to 60 characters, with everything that doesn't print escaped."""
    return repr(text if len(text) <= QUOTE_LIMIT else text[: QUOTE_LIMIT - 1] + "…")


def is_secret(field: FieldInfo) -> bool:
    """Whether a field's value must never be shown."""
    return "SecretStr" in str(field.annotation)


def is_host(text: str) -> bool:
    """Whether it is an IP address (IPv6 without brackets) or a host name in lower case."""
    if _is_address(text):
        return True
    # A last label of digits only is an address that went wrong, such as 10.0.0.256.
    return bool(_HOST_NAME.fullmatch(text)) and not text.rpartition(".")[2].isdigit()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def items(text: str) -> list[str]:
    """The items of a comma-separated list, without the empty ones and without repetitions."""
    return list(dict.fromkeys(item for part in text.split(",") if (item := part.strip())))


def _host(value: object) -> object:
    if not isinstance(value, str):
        return value
    host = value.lower()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not is_host(host):
        raise Wrong(f"must be an address or a host name, such as 0.0.0.0, :: or localhost, but it is {quoted(value)}")
    return host


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _none_for(word: str) -> Callable[[object], object]:
    def read(value: object) -> object:
        return None if isinstance(value, str) and value.lower() == word else value

    return read


def _printable_secret(value: object) -> object:
    if isinstance(value, str) and not _printable_ascii(value):
        raise Wrong("must be printable ASCII characters without spaces")
    return value


def _utf8_secret(value: object) -> object:
    if isinstance(value, str) and not _is_utf8(value):
        raise Wrong("must be UTF-8 text")
    return value


def _handshake_key(value: object) -> object:
    if isinstance(value, str) and len(value) < MIN_LENGTH:
        raise Wrong(f"is too short: use {MIN_LENGTH} characters or more, best random ones")
    return _utf8_secret(value)


def _redis_prefix(value: object) -> object:
    if isinstance(value, str) and value.startswith("notifications:"):
        raise Wrong("must not begin with notifications:, which is where other programs publish")
    return value


def _printable_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _api_keys(value: object) -> object:
    if not isinstance(value, str):
        return value
    keys = items(value)
    problems = []
    for number, key in enumerate(keys, start=1):
        if is_line(key):
            try:
                parse_line(key)
            except BadKeyLine as bad:
                problems.append(f"has a key (number {number}) that {bad}")
        elif len(key) < MIN_LENGTH:
            problems.append(f"has a key that is too short (number {number}): use {MIN_LENGTH} characters or more")
        elif not _printable_ascii(key):
            problems.append(f"has a key (number {number}) that is not all printable ASCII: use letters and digits")
    if problems:
        raise Wrong(*problems)
    return tuple(SecretStr(key) for key in keys)


def _signing_keys(value: object) -> object:
    if not isinstance(value, str):
        return value
    keys = items(value)
    short = [number for number, key in enumerate(keys, start=1) if len(key) < SIGNING_KEY_LENGTH]
    if short:
        raise Wrong(f"has a key that is too short (number {short[0]}): use {SIGNING_KEY_LENGTH} characters or more")
    if not all(_is_utf8(key) for key in keys):
        raise Wrong("must be UTF-8 text")
    return tuple(SecretStr(key) for key in keys)


def _headers(value: object) -> object:
    return _each(items(value.lower()), _header) if isinstance(value, str) else value


def _header(text: str) -> str:
    if _HEADER.fullmatch(text):
        return text
    raise Wrong(f"has {quoted(text)}: write the name of a header, such as cookie")


def _text(value: object) -> object:
    if isinstance(value, str) and not (0 < len(value) <= 256 and value.isprintable()):
        raise Wrong("must be 1 to 256 printable characters")
    return value


def _texts(value: object) -> object:
    return tuple(_text(item) for item in items(value)) if isinstance(value, str) else value


def _quotas(value: object) -> object:
    return tuple(_quota(item) for item in items(value)) if isinstance(value, str) else value


def _quota(text: str) -> tuple[str, str, int]:
    found = re.fullmatch(r"([a-z]+)/([a-z]+)=([1-9][0-9]{0,11})", text)
    if found is None or found[1] not in QUOTA_KINDS or found[2] not in QUOTA_HOLDERS:
        raise Wrong(
            f"has {quoted(text)}: write what, whose and how much, such as messages/user=50, with what one of "
            f"{', '.join(QUOTA_KINDS)}, and whose one of {', '.join(QUOTA_HOLDERS)}"
        )
    if found[1] == "pushes" and found[2] == "tenant":
        raise Wrong(f"has {quoted(text)}, but a push is to a user and from an address, and has no tenant")
    return found[1], found[2], int(found[3])


def _file(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise Wrong("must be the path of a file")
    return value


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    networks: list[Network] = []
    problems = []
    for item in items(value):
        try:
            if "%" in item:
                raise ValueError
            network = ipaddress.ip_network(item, strict=False)
        except ValueError:
            problems.append(f"has {quoted(item)}: write an address or a network, such as 10.0.0.5 or 10.0.0.0/8")
            continue
        if "/" in item and not _is_address_of(item, network):
            problems.append(f"has {quoted(item)}, an address within a network: write {network} for the network")
        else:
            networks.append(network)
    if problems:
        raise Wrong(*problems)
    return tuple(dict.fromkeys(networks))


def _is_address_of(item: str, network: Network) -> bool:
    return ipaddress.ip_address(item.partition("/")[0]) == network.network_address


def _origins(value: object) -> object:
    return _each(items(value), origin) if isinstance(value, str) else value


def _hosts(value: object) -> object:
    return _each(items(value), _allowed_host) if isinstance(value, str) else value


def _allowed_host(text: str) -> str:
    host = text.lower()
    if host == "*" or is_host(host.removeprefix("*.")):
        return host
    raise Wrong(f"has {quoted(text)}: write a name without scheme and port, such as gw.example.com or *.example.com")


def _modules(value: object) -> object:
    return _each(items(value), _module) if isinstance(value, str) else value


def _module(text: str) -> str:
    if all(part.isidentifier() for part in text.split(".")):
        return text
    raise Wrong(f"has {quoted(text)}: write the name of a Python module, such as my_gateway")


def _app(value: object) -> object:
    if not isinstance(value, str):
        return value
    if _APP.fullmatch(value.strip()):
        return value.strip()
    raise Wrong(f"has {quoted(value)}: write module:app, such as myshop.web:app, or module:create_app()")


def _each(texts: Iterable[str], read: Callable[[str], str]) -> tuple[str, ...]:
    values = []
    problems: list[str] = []
    for text in texts:
        try:
            values.append(read(text))
        except Wrong as wrong:
            problems += wrong.problems
    if problems:
        raise Wrong(*problems)
    return tuple(dict.fromkeys(values))


def origin(text: str) -> str:
    """An allowed origin as browsers write it (lower case, no default port), or `*`. Raises `Wrong`."""
    if text == "*":
        return text
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        if "://" not in text and _ORIGIN.fullmatch(f"https://{text.lower()}"):
            raise Wrong(f"has {quoted(text)}, which has no scheme: write https://{text.lower()}")
        if not text.isascii():
            raise Wrong(f"has {quoted(text)}, which is not ASCII: write the host as browsers send it (xn--…)")
        raise Wrong(f"has {quoted(text)}: write origins such as https://example.com or https://*.example.com, or *")
    scheme, host, port = found["scheme"], found["host"], found["port"]
    if found["rest"]:
        bare = f"{scheme}://{host}" + (f":{port}" if port else "")
        raise Wrong(f"has {quoted(text)}, but an origin ends with its host and port: write {bare}")
    if host.startswith("["):
        if not _is_address(host[1:-1]):
            raise Wrong(f"has {quoted(text)}, which holds no valid IPv6 address: write one such as http://[::1]")
        host = f"[{ipaddress.ip_address(host[1:-1]).compressed}]"
    elif not is_host(host.removeprefix("*.")):
        raise Wrong(f"has {quoted(text)}, which holds no valid host: write one such as https://example.com")
    if port is None:
        return f"{scheme}://{host}"
    if not 1 <= int(port) <= 65535:
        raise Wrong(f"has {quoted(text)}, whose port is out of range: use one from 1 to 65535")
    return f"{scheme}://{host}" + ("" if int(port) == _DEFAULT_PORTS.get(scheme) else f":{int(port)}")


def _url(form: str, schemes: tuple[str, ...], *, secret: bool = False) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = _split(value)
        ok = parts is not None and parts.scheme in schemes
        if parts is not None and parts.scheme == "unix":
            ok = ok and parts.path.startswith("/") and len(parts.path) > 1
        elif parts is not None:
            ok = ok and is_host(parts.hostname or "")
        # A URL with an @ may hold a password, whatever else is wrong with it.
        if not ok or parts is None:
            raise Wrong(f"must be {form}" if secret or "@" in value else f"must be {form}, but it is {quoted(value)}")
        if not secret and "@" in parts.netloc:
            raise Wrong("must not hold a user name or password: leave out everything up to the @")
        if "#" in value:
            raise Wrong("must not hold a fragment: leave out the # and what follows it")
        return value

    return read


def _redis_url(value: object) -> object:
    """One Redis, or several places to ask for it."""
    if not isinstance(value, str):
        return value
    scheme, _, rest = value.partition("://")
    plain, _, kind = scheme.partition("+")
    if plain not in ("redis", "rediss") or kind not in _OF_SEVERAL:
        return _url(_REDIS_URL, ("redis", "rediss", "unix"), secret=True)(value)
    found = _OF_SEVERAL[kind].fullmatch(f"://{rest}")
    places = [] if found is None else [_split(f"//{place}") for place in found["places"].split(",")]
    if not places or not all(place is not None and is_host(place.hostname or "") for place in places):
        raise Wrong(f"must be {_SENTINELS if kind == 'sentinel' else _CLUSTER}")
    return value


def _split(text: str) -> SplitResult | None:
    """The parts of a URL, or None where its text, brackets or port number make it none."""
    if not _printable_ascii(text):
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    return None if port == 0 else parts


_WEBSOCKET_URL = "a ws:// or wss:// URL with a host, such as wss://gw.example.com"
_HTTP_URL = "an http:// or https:// URL with a host"
_REDIS_URL = (
    "a redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// URL, such as redis://localhost:6379/0"
)
_CLUSTER = "a URL of nodes of a cluster, such as redis+cluster://c1:6379,c2:6379"
_SENTINELS = "a URL of sentinels and their master, such as redis+sentinel://s1:26379,s2:26379/mymaster"
_WHOLE = "a whole number"

Host = Annotated[str, BeforeValidator(_host), Form("an address or a host name")]
OptionalHost = Annotated[str | None, BeforeValidator(_host), Form("an address or a host name")]
_PortNumber = Annotated[int, Field(ge=0, le=65535)]
_PORT = "a port from 1 to 65535 (or 0: any free one)"
Port = Annotated[_PortNumber, Form(_PORT)]
PortOrSame = Annotated[_PortNumber | None, BeforeValidator(_none_for("same")), Form(f"{_PORT}, or same")]
PortOrOff = Annotated[_PortNumber | None, BeforeValidator(_none_for("off")), Form(f"{_PORT}, or off")]
RedisPort = Annotated[int, Field(ge=1, le=65535), Form("a port from 1 to 65535")]

Flag = Annotated[bool, Form("true or false")]
Count = Annotated[int, Field(ge=0, le=10**9), Form(f"{_WHOLE} from 0 to 1000000000")]
Positive = Annotated[int, Field(ge=1, le=10**6), Form(f"{_WHOLE} from 1 to 1000000")]
Workers = Annotated[int, Field(ge=1, le=256), Form(f"{_WHOLE} from 1 to 256")]
Size = Annotated[int, Field(ge=1, le=2**30), Form(f"{_WHOLE} of bytes from 1 to {2**30}")]
Seconds = Annotated[
    float,
    Field(gt=0, le=86400, allow_inf_nan=False),
    Form("a number of seconds, more than 0 and at most 86400"),
]
SecondsOrNone = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False), Form("a number of seconds from 0 to 3600")]

Environment = Literal["development", "production"]
EnvironmentName = Annotated[Environment, BeforeValidator(_lower), Form("development or production")]
Role = Annotated[Literal["api", "websocket"] | None, BeforeValidator(_lower), Form("api or websocket")]
ApiType = Annotated[
    Literal["combined", "http", "websocket"], BeforeValidator(_lower), Form("combined, http or websocket")
]
Duplicates = Annotated[Literal["replace", "keep", "allow"], BeforeValidator(_lower), Form("replace, keep or allow")]
Strategy = Annotated[
    Literal["least_loaded", "round_robin", "random", "weighted_random"],
    BeforeValidator(_lower),
    Form("least_loaded, round_robin, random or weighted_random"),
]
AuthMode = Annotated[Literal["off", "optional", "required"], BeforeValidator(_lower), Form("off, optional or required")]
LogFormat = Annotated[Literal["json", "console"], BeforeValidator(_lower), Form("json or console")]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error", "critical"],
    BeforeValidator(_lower),
    Form("debug, info, warning, error or critical"),
]

NodeName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,128}$"),
    Form("1 to 128 letters, digits, dots, hyphens or underscores"),
]
FilePath = Annotated[str | None, Form("the path of a file")]
RedisPrefix = Annotated[
    str,
    BeforeValidator(_redis_prefix),
    StringConstraints(pattern=r"^[A-Za-z0-9:._-]{1,64}$"),
    Form("1 to 64 letters, digits, colons, dots, hyphens or underscores"),
]
PlatformText = Annotated[str | None, Form("what the platform sets it to")]
Secret = Annotated[SecretStr | None, BeforeValidator(_utf8_secret), Form("a secret text")]
HandshakeKey = Annotated[
    SecretStr | None, BeforeValidator(_handshake_key), Form(f"a secret text of {MIN_LENGTH} characters or more")
]
HeaderSecret = Annotated[SecretStr | None, BeforeValidator(_printable_secret), Form("a secret text")]
ApiKeys = Annotated[
    tuple[SecretStr, ...],
    BeforeValidator(_api_keys),
    Form(f"secret keys of {MIN_LENGTH} characters or more, or lines of a name, scopes and a hash, separated by commas"),
]
SigningKeys = Annotated[
    tuple[SecretStr, ...],
    BeforeValidator(_signing_keys),
    Form(f"secrets, separated by commas, each of {SIGNING_KEY_LENGTH} characters or more"),
]
Headers = Annotated[tuple[str, ...], BeforeValidator(_headers), Form("names of HTTP headers, separated by commas")]
Networks = Annotated[
    tuple[Network, ...], BeforeValidator(_networks), Form("addresses and networks, separated by commas")
]
Origins = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(_origins),
    Form("origins such as https://example.com or https://*.example.com, separated by commas, or *"),
]
Hosts = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(_hosts),
    Form("names such as gw.example.com or *.example.com, separated by commas, or *"),
]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts), Form("texts, separated by commas")]
Quotas = Annotated[
    tuple[tuple[str, str, int], ...],
    BeforeValidator(_quotas),
    Form("quotas such as messages/user=50, separated by commas"),
]
Text = Annotated[str, BeforeValidator(_text), Form("a text")]
OptionalText = Annotated[str | None, BeforeValidator(_text), Form("a text")]
KeyFile = Annotated[str | None, BeforeValidator(_file), Form("the path of a file")]
AuditTarget = Annotated[str, BeforeValidator(_file), Form("stderr, off, or the path of a file")]
App = Annotated[str | None, BeforeValidator(_app), Form("module:app, or module:create_app()")]
Modules = Annotated[tuple[str, ...], BeforeValidator(_modules), Form("names of Python modules, separated by commas")]
WebSocketUrl = Annotated[str | None, BeforeValidator(_url(_WEBSOCKET_URL, ("ws", "wss"))), Form(_WEBSOCKET_URL)]
OptionalHttpUrl = Annotated[str | None, BeforeValidator(_url(_HTTP_URL, ("http", "https"))), Form(_HTTP_URL)]
HttpUrl = Annotated[str, BeforeValidator(_url(_HTTP_URL, ("http", "https"))), Form(_HTTP_URL)]
RedisUrl = Annotated[
    SecretStr | None,
    BeforeValidator(_redis_url),
    Form(_REDIS_URL),
]
