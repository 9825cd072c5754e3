"""Which web pages may use the gateway: the allow-list of origins, for WebSocket handshakes and CORS alike.

Source: protocol reference, "Who gets in".
"""

from collections.abc import Sequence
from urllib.parse import urlsplit


def host_of(authority: str) -> str:
    """The host of `name[:port]` or `[v6][:port]`, lower case, without port and brackets."""
    authority = authority.strip().lower()
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    name, _, port = authority.rpartition(":")
    return name if name and port.isdigit() else authority


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
        try:
            parts = urlsplit(origin)
            own = parts.hostname is not None and parts.hostname == host_of(host)
        except ValueError:
            return False
        if own and parts.scheme in ("http", "https"):
            return True
        # A wildcard takes one label or more, on the same scheme, on any port that the pattern itself names.
        return any(parts.scheme == scheme and parts.netloc.endswith(below) for scheme, below in self._below)
