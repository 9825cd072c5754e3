"""EnvelopeClient: a client of the envelope dialect, for `portico connect`: it asks, is asked, and is pushed to.

Rests on the SDK's connection, which reconnects and knows when not to. Knows nothing of terminals: what comes in goes
to `on_message`, which gets every message that is no answer to a request of ours. A request that was under way when the
connection was lost fails with ConnectionLost, since nobody can know what became of it.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import trio

from portico.client.backoff import Backoff
from portico.client.connection import Connection, CurrentLink
from portico.client.envelope import Call, call_of, data_of, message, response
from portico.client.errors import (
    ClientError,
    ConnectionLost,
    NoGreeting,
    RegistrationRejected,
    RequestTimeout,
    request_failed,
)
from portico.client.events import Connected, Report
from portico.client.link import MAX_OUTGOING, Link, LinkOptions
from portico.client.nursery import background_nursery
from portico.wire.messages import IDENTITY_FIELDS, Identity

DEFAULT_HEARTBEAT: Final = 25.0
MOST_QUESTIONS: Final = 100
"""Requests of the gateway's that may wait for an answer; the oldest is forgotten beyond."""


class EnvelopeClient:
    """One client, over as many connections as it takes. `async with EnvelopeClient(…).running():` is while it is there.

    `base_url` or `url`: the gateway's address; `on_message`: called with each envelope that is not an answer. Raises
    BadAddress.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        url: str | None = None,
        identity: Identity,
        token: str | None,
        options: LinkOptions,
        on_message: Callable[[dict[str, Any]], None],
        on_event: Report,
        backoff: Backoff | None = None,
    ) -> None:
        self._connection = Connection.to(
            base_url, url, path="", max_message=MAX_OUTGOING, options=options, backoff=backoff, report=on_event
        )
        self._identity = identity
        self._token = token
        self._on_message = on_message
        self._current = CurrentLink(self._finish)
        self._asked: dict[str, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._ended: ClientError | None = None
        self.ended = trio.Event()
        """Set once no connection will come any more; `why` says why."""
        self.questions: dict[str, Call] = {}
        """What the gateway asks and nobody has answered, by `msg_id`, oldest first."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """The client, while the block runs, which begins when the gateway knows who the client is.

        Raises what ended the client before that.
        """
        return self._current.running(self._keep)

    @property
    def why(self) -> ClientError | None:
        """What ended the client for good, if anything did."""
        return self._ended

    async def request(self, action: str, params: object, *, timeout: float) -> Any:
        """Ask the gateway, or a worker through it, and return the result. `timeout` in seconds.

        Raises RequestFailed for an error answer, RequestTimeout, ConnectionLost, Unsendable, MessageTooLarge, or what
        ended the client. Cancelling is safe.
        """
        link = await self._current.get()
        asked = message("request", {"action": action, "params": {} if params is None else params})
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._asked[asked["msg_id"]] = send
        try:
            await link.send(asked)
            with trio.move_on_after(timeout):
                answer = await receive.receive()
                if answer.get("success") is True:
                    return answer.get("result")
                raise request_failed(str(answer.get("error") or "unknown error"), asked["msg_id"], None)
        except trio.EndOfChannel:
            raise ConnectionLost(1006, "before the answer came") from None
        finally:
            self._asked.pop(asked["msg_id"], None)
            send.close()
        raise RequestTimeout(f"No answer within {timeout:g} s.")

    async def answer(self, result: object = None, *, error: str | None = None) -> Call | None:
        """Answer the oldest question of the gateway's; returns it, or None where there is none."""
        if not self.questions:
            return None
        link = await self._current.get()
        call = self.questions.pop(next(iter(self.questions)))
        await link.send(response(call, result=result, error=error))
        return call

    async def _keep(self) -> None:
        await self._connection.keep(self._live)

    async def _live(self, link: Link) -> None:
        about: dict[str, Any] = {name: getattr(self._identity, name) for name in IDENTITY_FIELDS}
        about = {"role": "client", **{name: value for name, value in about.items() if value is not None}}
        if self._token is not None:
            about["token"] = self._token
        try:
            await link.send(message("connect", about))
            with trio.move_on_after(self._connection.options.connect_timeout) as waiting:
                interval = self._greeted(link, await link.receive())
            if waiting.cancelled_caught:
                raise NoGreeting("The gateway did not answer the registration in time.")
            self._current.up(link)
            async with background_nursery() as nursery:
                nursery.start_soon(self._heartbeats, link, interval)
                while True:
                    await self._take(link, await link.receive())
        finally:
            self._current.down()
            self.questions.clear()
            for waiter in self._asked.values():
                waiter.close()
            self._asked.clear()

    def _greeted(self, link: Link, envelope: dict[str, Any]) -> float:
        data = data_of(envelope)
        if envelope.get("type") != "connect":
            raise RegistrationRejected(str(data.get("code")), str(data.get("error")))
        client_id = data.get("client_id")
        if self._identity.client_id is None and isinstance(client_id, str):
            # Coming back under the same name is being the same client.
            self._identity = Identity(client_id, *(getattr(self._identity, name) for name in IDENTITY_FIELDS[1:]))
        self._connection.report(Connected(link.address, str(client_id)))
        interval = data.get("heartbeat_interval")
        return float(interval) if isinstance(interval, int | float) and interval > 0 else DEFAULT_HEARTBEAT

    async def _take(self, link: Link, envelope: dict[str, Any]) -> None:
        kind, data = envelope.get("type"), data_of(envelope)
        if kind == "heartbeat":
            return
        # An error may be the answer too, where the request never got as far as a worker.
        waiter = self._asked.pop(str(envelope.get("msg_id") if kind == "response" else data.get("msg_id")), None)
        if waiter is not None:
            waiter.send_nowait(data if kind == "response" else {"success": False, "error": data.get("error")})
            return
        if kind == "request" and (call := call_of(envelope)) is not None:
            if len(self.questions) >= MOST_QUESTIONS:
                del self.questions[next(iter(self.questions))]
            self.questions[call.msg_id] = call
        self._on_message(envelope)

    async def _heartbeats(self, link: Link, interval: float) -> None:
        try:
            while True:
                await trio.sleep(interval)
                await link.send(message("heartbeat", {}))
        except ConnectionLost:
            pass  # the reader says so

    def _finish(self, error: ClientError) -> None:
        self._ended = error
        self.ended.set()
