"""The deployment under test, as its HTTP API shows it.

Knows the routes for back ends and the two discovery routes, and writes every request out by hand. It remembers the
login sessions that it started, so that a run leaves none behind; it knows no client programs and no WebSocket.
"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import trio

from compat.expect import FILLED_TEXT, Json, UnmetError, expect, shown

SESSION_TTL: Final = 600  # seconds: a session that a killed run leaves behind ends by itself


class UnusableError(Exception):
    """The deployment can't be tested at all; the text is one sentence for the user."""


@dataclass(frozen=True)
class Target:
    """Where the deployment is and with what one gets in; `timeout` is in seconds, for one expected thing."""

    base_url: str
    api_key: str | None = None
    handshake_key: str | None = None
    worker_url: str | None = None
    timeout: float = 10.0


class Deployment:
    """One deployment's HTTP side; open it with `async with`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.websocket_url = ""
        self.environment = ""
        self._sessions: set[str] = set()
        headers = {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}
        self._http = httpx.AsyncClient(base_url=target.base_url, headers=headers, timeout=target.timeout)

    async def __aenter__(self) -> "Deployment":
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._http.__aexit__(*raised)

    async def look(self) -> None:
        """See whether a gateway answers here, and where its WebSocket is; raises UnusableError."""
        route = "/api/b-client/websocket-info"
        try:
            response = await self._http.get(route)
            answer = response.json()
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise UnusableError(f"No gateway can be reached at {self.target.base_url}: {why}.") from error
        except ValueError:
            answer = None
        if response.status_code == 503 and isinstance(answer, dict):
            raise UnusableError(f"The gateway can't tell where its WebSocket is: {shown(answer.get('error'))}.")
        if response.status_code != 200 or not isinstance(answer, dict):
            raise UnusableError(
                f"What answers at {self.target.base_url} is no gateway: GET {route} gave {response.status_code}."
            )
        self.websocket_url = str(answer.get("websocket_url", ""))
        self.environment = str(answer.get("environment", ""))

    async def may_call(self) -> None:
        """See whether the routes for back ends take our calls; raises UnusableError."""
        response = await self._http.get("/api/logins", params={"user_id": "compat-probe"})
        if response.status_code in (401, 403):
            raise UnusableError(
                f"The HTTP API refuses these calls ({response.status_code}): "
                "give one of its keys with --api-key, or leave out what needs it with --no-api."
            )

    def path(self, path: str) -> str:
        """The WebSocket address of another path on the advertised port."""
        parts = urlsplit(self.websocket_url)
        return parts._replace(path=parts.path.removesuffix("/api/websocket").rstrip("/") + path).geturl()

    async def call(self, method: str, route: str, body: object = None, *, status: int | tuple[int, ...]) -> Any:
        """One HTTP call; returns the JSON answer, None where there is no body.

        `status` is what the answer's status must be. Raises UnmetError otherwise, and where nothing answers.
        """
        what = f"{method} {route}"
        try:
            response = await self._http.request(method, route, json=body)
        except httpx.HTTPError as error:
            raise UnmetError(f"{what}: no answer ({error or type(error).__name__})") from error
        wanted = status if isinstance(status, tuple) else (status,)
        if response.status_code not in wanted:
            raise UnmetError(
                f"{what}: should answer {' or '.join(map(str, wanted))}, "
                f"answered {response.status_code} {shown(response.text)}"
            )
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise UnmetError(f"{what}: the answer is no JSON: {shown(response.text)}") from error

    async def push(self, target: Json, kind: str, data: object) -> Json:
        """Push an event; returns the receipt. Raises UnmetError."""
        body = {"target": target, "type": kind, "data": data}
        receipt = await self.call("POST", "/api/notifications", body, status=202)
        return expect("the receipt of a push", receipt, {"id": FILLED_TEXT})

    async def start_login(self, user_id: str, **further: object) -> str:
        """Start a login session; returns its id. Raises UnmetError."""
        body = {"user_id": user_id, "username": f"{user_id} by name", "session_data": {"theme": "dark"}, **further}
        body.setdefault("ttl", SESSION_TTL)
        # Shielded, for at most the HTTP timeout: a session whose id never arrives could not be ended.
        with trio.CancelScope(shield=True):
            session = await self.call("POST", "/api/logins", body, status=201)
        session_id: str = expect("the answer to POST /api/logins", session, {"session_id": FILLED_TEXT})["session_id"]
        self._sessions.add(session_id)
        return session_id

    async def end_login(self, session_id: str) -> None:
        """End a login session; raises UnmetError."""
        await self.call("DELETE", f"/api/logins/{session_id}", status=(200, 202, 204))
        self._sessions.discard(session_id)

    async def login(self, session_id: str) -> Json:
        """One login session with the feedback received; raises UnmetError."""
        session: Json = await self.call("GET", f"/api/logins/{session_id}", status=200)
        return session

    async def kick(self, client_id: str) -> None:
        """Throw a client out; raises UnmetError."""
        await self.call("DELETE", f"/api/clients/{client_id}", status=(200, 202, 204))

    async def tidy(self) -> None:
        """End the login sessions that are still there; what can't be ended is left to its expiry."""
        for session_id in list(self._sessions):
            try:
                await self.end_login(session_id)
            except UnmetError:
                self._sessions.discard(session_id)
