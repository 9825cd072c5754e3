"""Requests: back ends without a WebSocket ask workers, or one connected client, and wait for the answer. Workers and
clients may be connected to any node.

A caller that hangs up cancels its request. All requests from one address share an HttpCaller, so that in the queue,
which is fair between callers, a back end with a thousand requests counts as one.
Source: HTTP API reference, "Requests".
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Final

import msgspec
import trio

from portico.wire import strict_json
from service.core.dispatch.dispatcher import Outcome, OutcomeKind, Request, WorkerLink
from service.core.gateway import Gateway
from service.core.ports import HttpAnswer

from . import body
from .answers import json_answer
from .asking import Asking, Handler
from .forms import ClientAnswer, ClientRequest, RequestAnswer, WorkerRequest
from .waiting import answer_of

MAX_REQUEST: Final = 1 << 20
"""Bytes that the body may have, as for a request over a WebSocket."""

_worker_request = msgspec.json.Decoder(WorkerRequest)
_client_request = msgspec.json.Decoder(ClientRequest)
_WORKER_KEYS: Final = strict_json.fields_of(WorkerRequest)
_CLIENT_KEYS: Final = strict_json.fields_of(ClientRequest)

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
    """Whoever asks from one address (dispatch's Caller)."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
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


class Desks:
    """The desks in use, by address."""

    def __init__(self, gateway: Gateway) -> None:
        self._dispatcher = gateway.dispatcher
        self._desks: dict[str, HttpCaller] = {}
        self._tokens = count(1)

    async def ask(self, address: str, make: Callable[[HttpCaller, str], Request]) -> tuple[Request, Outcome]:
        """Make a request with a desk and a token, and wait for its outcome. Cancelling cancels the request."""
        token = str(next(self._tokens))
        with self._seat(address, token) as (desk, waiting):
            request = make(desk, token)
            try:
                await waiting.answered.wait()
            finally:
                self._dispatcher.cancel_request(request)
            outcome = waiting.outcome
        if outcome is None:
            raise RuntimeError("a desk was woken without an outcome")
        return request, outcome

    @contextmanager
    def _seat(self, address: str, token: str) -> Iterator[tuple[HttpCaller, _Waiting]]:
        desk = self._desks.setdefault(address, HttpCaller())
        waiting = desk.waiting[token] = _Waiting()
        try:
            yield desk, waiting
        finally:
            del desk.waiting[token]
            if not desk.waiting:
                del self._desks[address]


def requests_room(gateway: Gateway) -> dict[str, Handler]:
    """The handlers of this room, by operation."""
    desks = Desks(gateway)
    dispatcher = gateway.dispatcher

    async def ask_workers(asking: Asking) -> HttpAnswer:
        asking.check_query()
        asked = body.decode(_worker_request, await asking.read(MAX_REQUEST), _WORKER_KEYS)
        request, outcome = await desks.ask(
            asking.origin.address,
            lambda desk, token: dispatcher.submit(
                desk,
                token,
                asked.command,
                body.given(asked.data),
                timeout=asked.timeout,
                affinity=asked.affinity,
                idempotent=asked.idempotent,
            ),
        )
        name = request.id if asked.request_id is None else asked.request_id
        answer = RequestAnswer(name, outcome.success, outcome.data, outcome.error, outcome.processed_by)
        return json_answer(STATUS[outcome.kind], answer)

    async def ask_client(asking: Asking) -> HttpAnswer:
        asking.check_query()
        client_id = asking.parameters["client_id"]
        asked = body.decode(_client_request, await asking.read(MAX_REQUEST), _CLIENT_KEYS)
        link: WorkerLink = await answer_of(partial(gateway.client_requests.find, client_id))
        request, outcome = await desks.ask(
            asking.origin.address,
            lambda desk, token: dispatcher.ask_client(
                link,
                desk,
                token,
                asked.action,
                body.given(asked.params),
                asked.timeout,
                client_id,
            ),
        )
        answer = ClientAnswer(request.id, client_id, outcome.success, outcome.data, outcome.error)
        return json_answer(STATUS[outcome.kind], answer)

    return {"askWorkers": ask_workers, "askClient": ask_client}
