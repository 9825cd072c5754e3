"""Redirects: the port in plain HTTP that sends everybody to the one with TLS.

Every request is answered by 308 with the same path and query on the same host; no body is read, no page is served, and
no WebSocket is opened. 308 keeps the method and the body; a key that came in the clear has been seen on the way, so
programs should be given the https address itself.
"""

from collections.abc import Callable
from urllib.parse import quote

from portico.wire.codes import ErrorCode
from service.core.hosts import host_of, read_authority
from service.core.ports import HttpHead

from .access import CallerRates
from .answers import text_answer
from .api import BAD_HOST, Api, HttpCall, OnError
from .parts import Parts


class Redirects(Api):
    """An Api without routes. `port` says which port speaks TLS now."""

    def __init__(
        self,
        parts: Parts,
        port: Callable[[], int],
        on_error: OnError | None = None,
        *,
        rates: CallerRates | None = None,
    ) -> None:
        super().__init__((), {}, parts.access, parts.counters, on_error, rates=rates)
        self._port = port

    def call(self, head: HttpHead) -> HttpCall:
        """The redirect; 400 where the request doesn't say which host it wants."""
        host = head.headers.get("host", "")
        if read_authority(host) is None:
            sentence = BAD_HOST if host else "Say which host you want: there is no Host header."
            return self._refusal(head, 400, ErrorCode.BAD_FIELD, sentence)
        name = host_of(host)
        port = self._port()
        authority = (f"[{name}]" if ":" in name else name) + ("" if port == 443 else f":{port}")
        query = f"?{head.query}" if head.query else ""
        location = f"https://{authority}{_quoted(head.path)}{query}"
        return HttpCall(
            self, head, None, {}, text_answer(308, "Use https (and wss for WebSockets).\n", [("location", location)])
        )


def _quoted(path: str) -> str:
    return quote(path, safe="/:@!$&'()*+,;=-._~")
