"""Requests: back ends without a WebSocket ask workers, or one connected client, and wait for the answer. Workers and
clients may be connected to any node.

A caller that hangs up cancels its request. All requests with one key from one address share an HttpCaller, so that in
the queue, which is fair between callers, a back end with a thousand requests counts as one.
Source: HTTP API reference, "Requests".
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Final

import msgspec
import trio
from msgspec import Raw

from portico.wire.dialects.requester import check_id
from portico.wire.messages import NULL, encode
from service.core.dialects.client_requests import ClientRequests
from service.core.dispatch.dispatcher import Dispatcher, Outcome, OutcomeKind, Request, WorkerLink
from service.core.hosts import network
from service.core.ports import HttpAnswer

from .answers import core_answer, json_answer
from .forms import ClientAnswer, ClientRequest, RequestAnswer, WorkerRequest
from .request import HttpHandler, HttpRequest, decode, given

MAX_REQUEST: Final = 1 << 20
"""Bytes that the body may have, as for a request over a WebSocket."""

_worker_request = msgspec.json.Decoder(WorkerRequest)
_client_request = msgspec.json.Decoder(ClientRequest)

STATUS: Final = {
    OutcomeKind.OK: 200,
    OutcomeKind.ERROR: 200,
    OutcomeKind.NO_WORKERS: 503,
    OutcomeKind.BUSY: 503,
    OutcomeKind.TIMEOUT: 504,
    OutcomeKind.LOST: 502,
}
"""200: it was answered, if with an error; the rest: nobody answered."""


class HttpCaller:
    """Whoever asks with one key from one address (dispatch's Caller). Only back ends may: with a key, or from this
    machine (`key` None)."""

    __slots__ = ("party", "waiting")

    trusted: Final = True

    def __init__(self, key: str | None, address: str) -> None:
        self.party = f"address {network(address)}" if key is None else f"key {key}"
        self.waiting: dict[str, _Waiting] = {}

    def on_answer(self, request: Request, outcome: Outcome) -> None:
        """Wake whoever waits for it; nobody asks for partial answers here."""
        waiting = self.waiting.get(request.token or "")
        if waiting is not None:
            waiting.outcome = outcome
            waiting.answered.set()


class _Waiting:
    __slots__ = ("answered", "outcome")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.outcome: Outcome | None = None


class HttpCallers:
    """The callers that wait for answers, by key and address."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._callers: dict[tuple[str | None, str], HttpCaller] = {}
        self._tokens = count(1)

    async def ask(self, asking: HttpRequest, make: Callable[[HttpCaller, str], Request]) -> tuple[Request, Outcome]:
        """Make a request for whoever is `asking`, and wait for its outcome. Cancelling cancels the request."""
        token = str(next(self._tokens))
        with self._waiting(asking.caller, asking.head.address, token) as (caller, waiting):
            request = make(caller, token)
            try:
                await waiting.answered.wait()
            finally:
                self._dispatcher.cancel_request(request)
            outcome = waiting.outcome
        if outcome is None:
            raise RuntimeError("a caller was woken without an outcome")
        return request, outcome

    @contextmanager
    def _waiting(self, key: str | None, address: str, token: str) -> Iterator[tuple[HttpCaller, _Waiting]]:
        caller = self._callers.get((key, address))
        if caller is None:
            caller = self._callers[key, address] = HttpCaller(key, address)
        waiting = caller.waiting[token] = _Waiting()
        try:
            yield caller, waiting
        finally:
            del caller.waiting[token]
            if not caller.waiting:
                del self._callers[key, address]


def requests_handlers(dispatcher: Dispatcher, client_requests: ClientRequests) -> dict[str, HttpHandler]:
    """The handlers of this module, by operation."""
    callers = HttpCallers(dispatcher)

    async def ask_workers(request: HttpRequest) -> HttpAnswer:
        request.check_query()
        asked = decode(_worker_request, request.body)
        # Kept as it came, and apart from the body, which it would keep alive.
        request_id = given(asked.request_id)
        check_id(request_id)
        sent, outcome = await callers.ask(
            request,
            lambda caller, token: dispatcher.submit(
                caller,
                token,
                asked.command,
                given(asked.data),
                timeout=asked.timeout,
                affinity=asked.affinity,
                idempotent=asked.idempotent is not False,
            ),
        )
        name = Raw(encode(sent.id)) if request_id == NULL else request_id
        answer = RequestAnswer(name, outcome.success, outcome.data, outcome.error, outcome.processed_by)
        return json_answer(STATUS[outcome.kind], answer)

    async def ask_client(request: HttpRequest) -> HttpAnswer:
        request.check_query()
        client_id = request.parameters["client_id"]
        asked = decode(_client_request, request.body)
        link: WorkerLink = await core_answer(partial(client_requests.find, client_id))
        sent, outcome = await callers.ask(
            request,
            lambda caller, token: dispatcher.ask_client(
                link, caller, token, asked.action, given(asked.params), asked.timeout, client_id
            ),
        )
        answer = ClientAnswer(sent.id, client_id, outcome.success, outcome.data, outcome.error)
        return json_answer(STATUS[outcome.kind], answer)

    return {"askWorkers": ask_workers, "askClient": ask_client}
