"""The deployment under test, as its HTTP shows it.

Knows discovery and how an HTTP call is made; what calls mean is the scenarios' affair. It remembers the login sessions
that were started through it, so that a run leaves none behind. Every call has a deadline, and every answer is bounded:
whatever answers here, a run goes on.
"""

import json
import ssl
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import trio

from compat.outcome import UnmetError, UnusableError
from compat.pattern import Json, shown

ANSWER_LIMIT: Final = 32 * 1024 * 1024
IDLE: Final = httpx.Limits(max_connections=100, keepalive_expiry=2.0)
"""Seconds for which a connection is kept. Servers and proxies close theirs after 5 and more, and a call that is just
being sent then comes to nothing."""
MODES: Final = ("integrated", "adjacent", "split")


@dataclass(frozen=True)
class Target:
    """Where the deployment is and with what one gets in; `timeout` is in seconds, for one expected thing.

    `http_port` is the one that discovery should name, where that is not the base URL's: behind a proxy. `queue`:
    requests may wait for a worker; `short_history`: no stream keeps more than 5
    events. `auth` is its PORTICO_AUTH (None: find out), `token` one that holds. `lose_history`: the command that has it
    lose its history; `idle_timeout`: seconds after which a proxy cuts a connection on which nothing passes (0: none).
    """

    base_url: str
    api_key: str | None = None
    handshake_key: str | None = None
    worker_url: str | None = None
    timeout: float = 10.0
    http_port: int | None = None
    mode: str | None = None
    invasive: bool = False
    strategy: str = "least_loaded"
    queue: bool = True
    short_history: bool = False
    auth: str | None = None
    token: str | None = None
    lose_history: str | None = None
    idle_timeout: float = 0.0


@dataclass(frozen=True)
class HttpAnswer:
    """An HTTP answer; `headers` by their names in lower case."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass
class Found:
    """What discovery and the health route said when the run began."""

    websocket_url: str = ""
    environment: str = ""
    version: str = ""
    nodes: int = 1
    auth: str = "off"
    facts: Json = field(default_factory=dict)


class Deployment:
    """One deployment's HTTP side; open it with `async with`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.found = Found()
        self._sessions: set[str] = set()
        # Without TLS nobody is to be trusted, and reading whom to trust takes longer than most scenarios.
        trusted = ssl.create_default_context() if target.base_url.startswith("https:") else False
        self._http = httpx.AsyncClient(
            base_url=target.base_url, timeout=target.timeout, follow_redirects=False, verify=trusted, limits=IDLE
        )

    async def __aenter__(self) -> "Deployment":
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._http.__aexit__(*raised)

    async def ask(
        self,
        method: str,
        route: str,
        *,
        headers: dict[str, str] | None = None,
        body: object = None,
        patience: float = 0,
    ) -> HttpAnswer:
        """One HTTP call. Raises UnmetError where nothing answers in time, or without end.

        `patience` are seconds on top of the time limit. Cancelling is safe.
        """
        content = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
        limit = self.target.timeout + patience
        try:
            with trio.fail_after(limit):
                request = self._http.build_request(method, route, headers=headers, content=content, timeout=limit)
                response = await self._http.send(request, stream=True)
                try:
                    parts, size = [], 0
                    async for part in response.aiter_bytes():
                        parts.append(part)
                        size += len(part)
                        if size > ANSWER_LIMIT:
                            raise UnmetError(f"{method} {route}: the answer doesn't end")
                finally:
                    with trio.CancelScope(shield=True):
                        await response.aclose()
        except (httpx.HTTPError, OSError) as error:
            raise UnmetError(f"{method} {route}: no answer ({_reason(error)})") from error
        except trio.TooSlowError as error:
            raise UnmetError(f"{method} {route}: no whole answer within {limit:g} s") from error
        text = b"".join(parts).decode(errors="replace")
        return HttpAnswer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, text)

    def authorized(self) -> dict[str, str]:
        """The headers of a back end: its key, if there is one."""
        return {"authorization": f"Bearer {self.target.api_key}"} if self.target.api_key else {}

    async def look(self) -> None:
        """See whether a gateway answers here, and where its WebSocket is; raises UnusableError."""
        route = "/api/b-client/websocket-info"
        try:
            answer = await self.ask("GET", route)
        except UnmetError as error:
            if _is_certificate(error.__cause__):
                raise UnusableError(
                    f"The certificate of {self.target.base_url} is not trusted ({error.__cause__}): "
                    "give the certificate of who signed it with --ca FILE."
                ) from error
            raise UnusableError(f"No gateway can be reached at {self.target.base_url}: {error}.") from error
        try:
            said = json.loads(answer.text)
        except ValueError:
            said = None
        if answer.status == 503 and isinstance(said, dict):
            raise UnusableError(f"The gateway can't tell where its WebSocket is: {shown(said.get('error'))}.")
        if answer.status != 200 or not isinstance(said, dict) or not _is_url(said.get("websocket_url")):
            raise UnusableError(
                f"What answers at {self.target.base_url} is no gateway: GET {route} gave {answer.status} "
                f"and {shown(answer.text, 60)}."
            )
        self.found = Found(said["websocket_url"], str(said.get("environment", "")), facts=said)
        self.found.version = str((await self._said("/api/health")).get("version", ""))
        nodes = (await self._said("/api/c-client/status")).get("by_node")
        self.found.nodes = max(1, len(nodes)) if isinstance(nodes, dict) else 1

    async def _said(self, route: str) -> Json:
        """What an open route answers; an empty object where that is none."""
        try:
            said = json.loads((await self.ask("GET", route)).text)
        except (UnmetError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}

    async def may_call(self) -> None:
        """See whether the routes for back ends take our calls; raises UnusableError."""
        try:
            answer = await self.ask("GET", "/api/logins?user_id=compat-probe", headers=self.authorized())
        except UnmetError as error:
            raise UnusableError(f"The HTTP API doesn't answer: {error}.") from error
        if answer.status in (401, 403):
            raise UnusableError(
                f"The HTTP API refuses these calls ({answer.status}): "
                "give one of its keys with --api-key, or leave out what needs it with --no-api."
            )

    def path(self, path: str) -> str:
        """The WebSocket address of another path on the advertised port."""
        parts = urlsplit(self.found.websocket_url)
        return parts._replace(path=parts.path.removesuffix("/api/websocket").rstrip("/") + path).geturl()

    def started(self, session_id: str) -> None:
        """A login session was started, and is to be ended in the end."""
        self._sessions.add(session_id)

    def ended(self, session_id: str) -> None:
        """It has been ended."""
        self._sessions.discard(session_id)

    async def tidy(self) -> None:
        """End the login sessions that are still there; what can't be ended is left to its expiry."""
        while self._sessions:
            session_id = self._sessions.pop()
            try:
                await self.ask("DELETE", f"/api/logins/{session_id}", headers=self.authorized())
            except UnmetError:
                continue


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _is_url(value: object) -> bool:
    try:
        parts = urlsplit(str(value))
        return parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
