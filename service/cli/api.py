"""Api: the gateway's HTTP API, as the commands call it: once, without patience, with errors that name the remedy.

What is sent and how answers are read is the SDK's (`portico.publisher.calls`). Its publishers try again for half a
minute; whoever types a command wants to know at once that nobody is there.
"""

import ssl
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx

from portico.client.address import SILENT
from portico.client.errors import Unreachable, printable
from portico.client.scheme import why_unanswered
from portico.publisher import calls
from portico.publisher.answers import Came, read_object
from portico.publisher.calls import ApiCall

T = TypeVar("T")

TIMEOUT: Final = 10.0
"""Seconds that an answer may take, beyond what a call itself waits for."""


class Api:
    """One gateway's HTTP API. `async with Api(…)` closes its connections. Cancelling a call is safe."""

    def __init__(self, base_url: str, *, api_key: str | None = None, ssl_context: ssl.SSLContext | None = None) -> None:
        """Raises BadAddress, or ValueError for a key that no header can hold."""
        self.base_url: Final = calls.base_address(base_url)
        self.has_key: Final = api_key is not None
        self.http: Final = httpx.AsyncClient(
            headers=calls.headers_for(api_key),
            verify=calls.trusted(self.base_url, ssl_context),
            trust_env=False,
            timeout=TIMEOUT,
        )

    async def call(self, call: ApiCall[T]) -> T:
        """One call. Raises Refused, RequestFailed, or Unreachable where no answer came."""
        try:
            answer = await self.http.request(
                call.method, self.base_url + call.path, content=call.body, timeout=TIMEOUT + call.timeout
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise await self.unreachable(error) from error
        return call.read(Came(answer.status_code, answer.content, answer.headers.get("retry-after")))

    async def unreachable(self, error: Exception) -> Unreachable:
        """No answer came, because of this."""
        why = await why_unanswered(self.base_url, error, silent=isinstance(error, SILENT))
        return Unreachable(f"No answer from {printable(self.base_url)}: {why}.")

    async def status(self) -> dict[str, Any]:
        """Who is connected, as totals."""
        return await self.call(ApiCall("GET", "/api/c-client/status", read_object))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()
