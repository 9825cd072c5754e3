"""The gateway's HTTP side as the load test uses it: discovery, and pushing.

Knows HTTP and the two routes; never who is connected. Blocking, which under locust suspends one greenlet.
"""

from __future__ import annotations

import http.client
from types import TracebackType
from urllib.parse import urlsplit

import msgspec

from loadtest._link import tls_context


class ApiError(Exception):
    """The request could not be made, or its answer is not what it should be; the text says which.

    Attributes:
        status: the answer's, or None if there was none.
    """

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class Api:
    """One kept-alive connection to the gateway's HTTP port, opened when it is first needed."""

    def __init__(self, base_url: str, key: str | None, timeout: float) -> None:
        """
        Args:
            base_url: the gateway's address, http or https; a path in it is put before every route.
            key: what to show as `Authorization: Bearer …`, if anything.
            timeout: seconds for each wait.

        Raises:
            ApiError: the address is none.
        """
        parts = urlsplit(base_url)
        try:
            port = parts.port
        except ValueError as error:
            raise ApiError(f"not an address: {base_url!r}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ApiError(f"not an http:// or https:// address: {base_url!r}")
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(parts.hostname, port, timeout=timeout, context=tls_context())
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, port, timeout=timeout)
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def websocket_url(self) -> str:
        """Ask where the WebSocket is. Raises ApiError."""
        answer = self._ask("GET", "/api/b-client/websocket-info", None, 200)
        url = answer.get("websocket_url") if isinstance(answer, dict) else None
        if not isinstance(url, str) or not url:
            raise ApiError("names no websocket_url", 200)
        return url

    def push(self, notification: dict[str, object]) -> None:
        """Have the gateway push; `notification` should have an `id`, as it may be sent twice. Raises ApiError."""
        self._ask("POST", "/api/notifications", msgspec.json.encode(notification), 202)

    def _ask(self, method: str, route: str, body: bytes | None, expected: int) -> object:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        kept_alive = self._connection.sock is not None
        try:
            try:
                status, content = self._exchange(method, route, body, headers)
            except (http.client.RemoteDisconnected, ConnectionError):
                # A server may close an idle connection at any moment; only a fresh one that fails says much.
                if not kept_alive:
                    raise
                self._connection.close()
                status, content = self._exchange(method, route, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ApiError(f"no answer: {reason}") from error
        if status != expected:
            raise ApiError(f"answered {status} instead of {expected}{_why(content)}", status)
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError as error:
            raise ApiError("answered with what is not JSON", status) from error

    def _exchange(self, method: str, route: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        self._connection.request(method, self._prefix + route, body, headers)
        response = self._connection.getresponse()
        return response.status, response.read()


def _why(content: bytes) -> str:
    """The error code in an answer: its message may differ each time, and locust groups failures by their text."""
    try:
        error = msgspec.json.decode(content)["error"]
        code = error["code"] if isinstance(error, dict) else error
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
    return f" ({str(code)[:80]!a})"
