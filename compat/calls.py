"""The HTTP calls of one scenario: each is begun, and its end waited for later, so that much may happen in between.

Knows routes, keys and bodies; no WebSocket. A login session that a call starts is remembered, so that a run leaves
none behind.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import trio

from compat.connections import maybe_json
from compat.deployment import Deployment, HttpAnswer
from compat.outcome import UnmetError

SESSION_TTL: Final = 600  # seconds: a login session that a killed run leaves behind ends by itself
PATIENT: Final = 15.0  # seconds for an HTTP call that waits for a worker, on top of the time limit


class Calls:
    """Those of one scenario. `note` adds to its transcript; `last` is the answer that was waited for last."""

    def __init__(self, deployment: Deployment, note: Callable[[str, str, object], None], nursery: trio.Nursery) -> None:
        self.last: HttpAnswer | None = None
        self._deployment = deployment
        self._note = note
        self._nursery = nursery
        self._begun: dict[str, trio.MemoryReceiveChannel[HttpAnswer | UnmetError]] = {}

    async def call(self, method: str, route: str, body: object, headers: dict[str, str] | None = None) -> HttpAnswer:
        """One call, to its end; with the key, unless other headers are given. Raises UnmetError."""
        self._note("api", ">", f"{method} {route} {'' if body is None else json.dumps(body, ensure_ascii=False)}")
        patience = PATIENT if route.endswith("/requests") else 0
        answer = await self._deployment.ask(
            method, route, headers=self._deployment.authorized() if headers is None else headers, body=body,
            patience=patience,
        )  # fmt: skip
        self._note("api", "<", f"{answer.status} {answer.text}")
        return answer

    def begin(self, who: str, method: str, route: str, value: Any) -> None:
        """Begin a call. Only `api` shows the key. `value` is the body, or has `headers` and the `body`."""
        headers = self._deployment.authorized() if who.startswith("api") else {}
        body = value
        if isinstance(value, dict) and "headers" in value:
            headers = {**headers, **value["headers"]}
            body = value.get("body")
        starts_login = method == "POST" and route == "/api/logins"
        if starts_login and isinstance(body, dict):
            body.setdefault("ttl", SESSION_TTL)
        put, self._begun[who] = trio.open_memory_channel[HttpAnswer | UnmetError](1)

        async def call() -> None:
            # Shielded where a login starts, for at most the time limit: one whose id never arrives could not be ended.
            with trio.CancelScope(shield=starts_login):
                try:
                    answer = await self.call(method, route, body, headers)
                except UnmetError as error:
                    put.send_nowait(error)
                    return
            self._remember(method, route, answer)
            put.send_nowait(answer)

        self._nursery.start_soon(call)

    def _remember(self, method: str, route: str, answer: HttpAnswer) -> None:
        said = maybe_json(answer.text)
        if method == "POST" and route == "/api/logins" and isinstance(said, dict) and "session_id" in said:
            self._deployment.started(str(said["session_id"]))
        elif method == "DELETE" and route.startswith("/api/logins/"):
            self._deployment.ended(route.rpartition("/")[2])

    async def end(self, who: str) -> HttpAnswer:
        """The answer to the call that was begun; raises UnmetError where none came."""
        answer = await self._begun.pop(who).receive()
        if isinstance(answer, UnmetError):
            raise answer
        self.last = answer
        return answer
