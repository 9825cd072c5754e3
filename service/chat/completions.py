"""Chat completions over HTTP: one request to the API, and its answer as it comes.

Speaks `POST {base}/chat/completions` with httpx on trio. Promises: the key goes to that address only (redirects are not
followed, cookies are not kept), and into no exception or log line; nothing that the API does keeps a request waiting
longer than the rules allow; whatever goes wrong is a ChatFault; and a cancelled request has closed its connection.

httpx's proxies and authorities come from the environment: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE,
SSL_CERT_DIR.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx
import trio

from portico.version import VERSION

from .conversation import Question, body_of
from .faults import ChatFault, Ending, cut, error_of, late, malformed, refusal, retry_after, stalled, web_page
from .quiet import quietly
from .reading import Reading
from .rules import ChatRules

LONGEST_ERROR: Final = 64 * 2**10
"""Bytes of an error's body that are read."""
LONGEST_WHOLE: Final = 8 * 2**20
"""Bytes of an answer that comes as one JSON object."""
ERROR_SECONDS: Final = 5.0
"""How long an error's body may take, or the rest of an answer that is over."""
REST_SECONDS: Final = 0.1
"""How long the end of an answer that has said all is waited for, so that its connection can be used again."""
WRITE_SECONDS: Final = 30.0

OnText = Callable[[str], Awaitable[None]]


class Completions:
    """The API, with connections that are kept. Made by `open_completions`."""

    def __init__(self, rules: ChatRules, client: httpx.AsyncClient) -> None:
        self._rules = rules
        self._client = client
        self._url = completions_url(rules.base_url)
        # OpenAI's newer models refuse the name that all other servers know.
        host = urlsplit(rules.base_url).hostname or ""
        self._token_field = "max_completion_tokens" if host == "api.openai.com" else "max_tokens"

    async def answer(self, question: Question, on_text: OnText) -> Reading:
        """Ask, and hand each piece of the answer to `on_text` as it comes; what is read waits for it.

        Returns what is known of the whole. Raises ChatFault. Cancelling is safe, and closes the connection.
        """
        reading = Reading(key=self._rules.key, model=question.model)
        watch = _Watch(self._rules.first_token_timeout, self._rules.stall_timeout)
        try:
            with quietly(), watch.scope:
                async with self._asked(question) as response:
                    await self._read(response, reading, watch, on_text)
        except httpx.HTTPError as error:
            fault = _failed(error, self._rules, begun=watch.begun)
        except httpx.InvalidURL:
            fault = ChatFault(Ending.UNREACHABLE, "OPEN_API_BASE_URL is no address: set it to the API's.")
        else:
            if watch.scope.cancelled_caught:
                raise watch.fault()
            return reading
        # Outside of the handler, so that no exception of httpx's, which holds the request, hangs on it.
        raise fault

    @asynccontextmanager
    async def _asked(self, question: Question) -> AsyncIterator[httpx.Response]:
        request = self._client.build_request(
            "POST",
            self._url,
            json=body_of(question, token_field=self._token_field),
            headers={"authorization": f"Bearer {self._rules.key}"},
        )
        response = await self._client.send(request, stream=True)
        self._client.cookies.clear()
        try:
            yield response
        finally:
            with trio.CancelScope(shield=True):
                await response.aclose()

    async def _read(self, response: httpx.Response, reading: Reading, watch: "_Watch", on_text: OnText) -> None:
        if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise malformed("a compressed answer that nobody asked for")
        if not response.is_success:
            raise await self._refused(response, reading.model)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise web_page()
        if kind == "application/json":
            body = await _body(response, LONGEST_WHOLE + 1)
            if len(body) > LONGEST_WHOLE:
                raise malformed("an answer that is too large")
            watch.on_life()
            with watch.paused():
                await on_text(reading.whole(body))
            reading.end()
            return
        async with _chunks(response) as chunks:
            async for chunk in chunks:
                for text in reading.feed(chunk):
                    watch.on_life()
                    if text:
                        with watch.paused():
                            await on_text(text)
                if reading.done:
                    break
            reading.end()
            with trio.move_on_after(REST_SECONDS):
                await anext(chunks, None)

    async def _refused(self, response: httpx.Response, model: str) -> ChatFault:
        body = b""
        with trio.move_on_after(ERROR_SECONDS), suppress(httpx.HTTPError):
            body = await _body(response, LONGEST_ERROR)
        text, code = error_of(body)
        wait = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
        return refusal(response.status_code, text, code, key=self._rules.key, model=model, wait=wait)


class _Watch:
    """How long the API is waited for: first for the beginning of its answer, then for each further piece."""

    def __init__(self, first: float, stall: float) -> None:
        self._first = first
        self._stall = stall
        self.begun = False
        self.scope = trio.CancelScope(deadline=trio.current_time() + first)

    def on_life(self) -> None:
        """A piece of the answer has come."""
        self.begun = True
        self.scope.deadline = trio.current_time() + self._stall

    def paused(self) -> "_Pause":
        """While this lasts it is not the API that is waited for."""
        return _Pause(self)

    def fault(self) -> ChatFault:
        """It took too long."""
        return stalled(self._stall) if self.begun else late(self._first)


class _Pause:
    def __init__(self, watch: _Watch) -> None:
        self._watch = watch

    def __enter__(self) -> None:
        self._watch.scope.deadline = float("inf")

    def __exit__(self, *_: object) -> None:
        self._watch.on_life()


@asynccontextmanager
async def _chunks(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body as it comes. On leaving, its generators have ended, wherever they were: httpx has several within one
    another, and one that is left waiting is complained of by trio when it is collected."""
    chunks = response.aiter_raw()
    try:
        yield chunks
    finally:
        with trio.CancelScope() as scope, suppress(httpx.HTTPError, httpx.StreamError):
            scope.cancel()
            async for _ in chunks:
                pass


async def _body(response: httpx.Response, limit: int) -> bytes:
    """The first `limit` bytes of the body."""
    body = bytearray()
    async with _chunks(response) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) >= limit:
                break
    return bytes(body[:limit])


@asynccontextmanager
async def open_completions(rules: ChatRules) -> AsyncIterator[Completions]:
    """The API, for as long as the body runs. Nothing is connected to before something is asked."""
    # No time-out for reading: the answer's own rules watch that, and know what came.
    timeout = httpx.Timeout(connect=rules.connect_timeout, read=None, write=WRITE_SECONDS, pool=None)
    async with httpx.AsyncClient(
        timeout=timeout,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=rules.concurrency),
        headers={
            "accept": "text/event-stream, application/json",
            "accept-encoding": "identity",
            "user-agent": f"Portico/{VERSION}",
        },
        follow_redirects=False,
    ) as client:
        yield Completions(rules, client)


def completions_url(base_url: str) -> str:
    """Where a base URL's chat completions are; a query stays where it is."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/chat/completions"))


def _failed(error: httpx.HTTPError, rules: ChatRules, *, begun: bool) -> ChatFault:
    """What went wrong on the way, in our words: httpx's may quote what was sent."""
    causes = list(_causes(error))
    if isinstance(error, httpx.ProxyError):
        return _unreachable("the proxy refuses it", "look at HTTPS_PROXY, HTTP_PROXY and NO_PROXY")
    if isinstance(error, httpx.ConnectTimeout):
        return _unreachable(f"no connection within {rules.connect_timeout:g} s")
    if isinstance(error, httpx.ConnectError):
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return _insecure(causes)
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            return _unreachable("its name is not known")
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return _unreachable("the connection is refused", "check OPEN_API_BASE_URL, and that the API runs there")
        return _unreachable("no way leads there")
    if isinstance(error, httpx.UnsupportedProtocol):
        return _unreachable("its address is no http:// or https:// URL")
    if isinstance(error, httpx.WriteTimeout):
        return ChatFault(Ending.TIMEOUT, "The model's API takes no requests: try again later.")
    if not begun and isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        if _is_cut(error):
            return ChatFault(Ending.BROKEN, "The model's API closed the connection without an answer: try again.")
        return malformed("what is no HTTP")
    return cut()


def _is_cut(error: httpx.HTTPError) -> bool:
    said = str(error).lower()
    return isinstance(error, httpx.NetworkError) or "disconnected" in said or "closed" in said


def _unreachable(why: str, remedy: str = "check OPEN_API_BASE_URL") -> ChatFault:
    return ChatFault(Ending.UNREACHABLE, f"The model's API cannot be reached ({why}): {remedy}.")


def _insecure(causes: list[BaseException]) -> ChatFault:
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return _unreachable(
            "its certificate is not trusted",
            "check OPEN_API_BASE_URL, or name the authority's certificate in SSL_CERT_FILE",
        )
    return _unreachable("TLS fails", "check that OPEN_API_BASE_URL begins with https:// only where the API speaks TLS")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, and all that led to it."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
