"""Header fields: a request's as one mapping, the same from every parser, and which of them must not come twice.

A header that comes several times is a list, and its values are joined by commas (RFC 9110 section 5.3); cookies by
semicolons (RFC 9113 section 8.2.3). A header that can have one value only must come once: if a proxy in front reads the
first of two `Origin` headers and the gateway the last, a request gets in that the proxy would have kept out. So a
request with two of one in SINGLE is refused with 400 on every transport, even if both are the same.

For example `Authorization: Bearer a` and `Authorization: Bearer b` is no list of tokens, but no request.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

SINGLE: Final = frozenset(
    {
        "authorization",
        "content-length",
        "content-type",
        "expect",
        "host",
        "origin",
        "sec-fetch-site",
        "sec-websocket-key",
        "sec-websocket-version",
        "upgrade",
    }
)
"""The headers that are read here and have one value."""
NOT_PRINTABLE: Final = "A request head is printable ASCII; this one has other bytes in it."
NO_PATH: Final = "The request target is not a path."
_FORBIDDEN: Final = re.compile(rb"[^\t\x20-\x7e]")
_TARGET: Final = re.compile(rb"(?:/|\*(?=\?)|[A-Za-z]+://)[\x21-\x7e]*")


def twice(name: str) -> str:
    """What is said where one of SINGLE came more than once."""
    return f"There is more than one {name} header."


def malformed(scope: Mapping[str, Any]) -> str | None:
    """What is wrong with the head in an ASGI scope, in a sentence; None where nothing is.

    HTTP/2 lets through what no head of HTTP/1.1 may have, such as a space in its target (RFC 9113 section 8.2.1 leaves
    it to the receiver). Who reads the head after us may go by the stricter rule, so it holds for both.
    """
    if _FORBIDDEN.search(b"".join(value for _, value in scope["headers"])) is not None:
        return NOT_PRINTABLE
    target = (scope.get("raw_path") or b"/") + b"?" + scope.get("query_string", b"")
    return None if _TARGET.fullmatch(target) else NO_PATH


def path_of(target: str) -> str:
    """The path of a request's target, which may be a whole `http://host/path` (RFC 9112 section 3.2.2)."""
    if target.startswith("/") or "://" not in target:
        return target
    _, slash, rest = target.partition("://")[2].partition("/")
    return slash + rest or "/"


def names_another(target: str, host: str | None) -> bool:
    """Whether a request's target, where it is a whole `http://host/path`, names another host than the header.

    A proxy in front goes by the target (RFC 9112 section 3.2.2), while the gateway checks the header.
    """
    authority = target.partition("://")[2].partition("/")[0].partition("?")[0]
    return host is not None and authority.lower() != host.lower()


def joined(name: str, before: str, value: str) -> str:
    """The value of a header that came again."""
    return f"{before}; {value}" if name == "cookie" else f"{before}, {value}"


def fields_of(pairs: Iterable[tuple[bytes, bytes]]) -> tuple[dict[str, str], str | None]:
    """The fields by lower-case name, as text of any bytes, and the first of SINGLE that came again (None: none did).

    Source: RFC 9110 sections 5.2 and 5.3.
    """
    fields: dict[str, str] = {}
    doubled: str | None = None
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name in fields:
            if name in SINGLE and doubled is None:
                doubled = name
            value = joined(name, fields[name], value)
        fields[name] = value
    return fields, doubled
