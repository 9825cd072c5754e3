"""Client: registers who it is, and receives what is pushed to it.

Speaks the C-Client dialect (the protocol reference, "C-Client dialect"). Knows nothing of how a connection is kept;
`connection` does. Promises:
- pushes come out in the order in which they came in, each once;
- a connection that was lost is registered again with the identity of the moment, and resumed: durable
  events that were missed come first, and if any are gone, a push of type `stream_gap` names their streams;
- a push that the program has no time for waits in a bounded buffer; when that is full the client
  stops reading, so that the gateway, and not our memory, decides what becomes of the rest.
"""

from collections import deque
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import trio
from msgspec.structs import replace

from portico.wire.codes import ABNORMAL, ErrorCode
from portico.wire.messages import IDENTITY_FIELDS, Identity

from .backoff import Backoff
from .connection import Connection, CurrentLink
from .errors import ClientError, ConnectionLost, NoGreeting, RegistrationRejected
from .events import BadMessage, Connected, Report
from .link import MAX_OUTGOING, Link, LinkOptions
from .nursery import background_nursery
from .positions import Positions

DEFAULT_HEARTBEAT: Final = 25.0

# What a gateway may say of a moment, not of the client.
_TEMPORARY: Final = {ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL}


@dataclass(slots=True)
class _Registration:
    identity: Identity
    asked_for: bool  # by a call that waits for it
    done: trio.Event = field(default_factory=trio.Event)
    error: ClientError | None = None

    def finish(self, error: ClientError | None = None) -> None:
        self.error = error
        self.done.set()


class Client:
    """Receives pushes; used as `async with Client(…) as c:`, which returns once registered.

    `base_url`: the gateway's HTTP address (http://host:port), which is asked where its WebSocket is; or `url`: a
    WebSocket address (ws://host:port). `identity`: who the client is (the gateway makes a `client_id` if there is
    none); `token`: sent with every registration; `buffer`: pushes kept for a program that is busy; `on_event`: called
    with each thing that happens to the connection (by default it is logged).

    Then `async for push in c:` yields each push as the object that came in (`push["type"]` says what it is), and raises
    SentAway, GaveUp, RegistrationRejected or HandshakeRefused when the connection has ended for good.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        url: str | None = None,
        identity: Identity | None = None,
        token: str | None = None,
        backoff: Backoff | None = None,
        options: LinkOptions | None = None,
        on_event: Report | None = None,
        buffer: int = 1024,
    ) -> None:
        self._connection = Connection.to(
            base_url, url, path="", max_message=MAX_OUTGOING, options=options, backoff=backoff, report=on_event
        )
        self._report = self._connection.report
        self._token = token
        self._pushes, self._received = trio.open_memory_channel[dict[str, Any]](buffer)
        self._wanted = _Registration(identity or Identity(), asked_for=False)
        self._outstanding: deque[_Registration] = deque()
        self._asking = trio.Lock()
        self._registered = False
        self._positions = Positions()
        self._current = CurrentLink(self._finish)
        self._ended: ClientError | None = None
        self._scope: AbstractAsyncContextManager[None] | None = None
        self.identity: Identity | None = None
        """Who the gateway knows us as; None before the first registration."""
        self.registration: dict[str, Any] = {}
        """The last `registration_success`, as it came."""

    async def __aenter__(self) -> Self:
        self._scope = self._current.running(self._keep)
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._scope is not None
        return await self._scope.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next push. Raises what ended the connection. Cancelling is safe."""
        try:
            return await self._received.receive()
        except trio.EndOfChannel:
            assert self._ended is not None
            raise self._ended.with_traceback(None) from None

    @property
    def buffered(self) -> int:
        """Pushes that came in and were not read yet."""
        return self._received.statistics().current_buffer_used

    async def register(self, identity: Identity) -> None:
        """Become somebody else on the same connection, and return when the gateway has agreed.

        If the connection is lost meanwhile, the next one is registered so. Raises RegistrationRejected
        (the old identity then stays), or what ended the client. When cancelled, the change may or may
        not take place.
        """
        registration = _Registration(identity, asked_for=True)
        link = await self._current.get()
        self._wanted = registration
        with suppress(ConnectionLost):  # the next link will ask
            await self._ask(link, registration)
        await registration.done.wait()
        if registration.error is not None:
            raise registration.error

    async def session_feedback(self, *, success: bool, message: str = "", session_id: str | None = None) -> None:
        """Report how an auto-login went; without `session_id`: that of the user's current session.

        Raises ConnectionLost, MessageTooLarge, or what ended the client. Cancelling is safe.
        """
        feedback: dict[str, Any] = {"type": "session_feedback", "success": success, "message": message}
        if session_id is not None:
            feedback["session_id"] = session_id
        link = await self._current.get()
        await link.send(feedback)

    async def _keep(self) -> None:
        await self._connection.keep(self._live)

    async def _live(self, link: Link) -> None:
        self._registered = False
        try:
            async with background_nursery() as nursery:
                with trio.move_on_after(self._connection.options.connect_timeout):
                    await self._ask(link, self._wanted, self._positions.resume)
                    while not self._registered:
                        await self._take(link, await link.receive())
                if not self._registered:
                    raise NoGreeting("The gateway did not answer the registration in time.")
                nursery.start_soon(self._heartbeats, link)
                while True:
                    await self._take(link, await link.receive())
        finally:
            self._current.down()
            while self._outstanding:
                registration = self._outstanding.popleft()
                if registration is not self._wanted:  # and so nobody will ask for it again
                    registration.finish(ConnectionLost(ABNORMAL, "a later identity has taken its place"))

    async def _ask(self, link: Link, registration: _Registration, resume: dict[str, Any] | None = None) -> None:
        identity = registration.identity
        message: dict[str, Any] = {"type": "c_client_register"}
        message |= {name: getattr(identity, name) for name in IDENTITY_FIELDS}
        if self._token is not None:
            message["token"] = self._token
        if resume is not None:
            message["resume"] = resume
        # Answers come in the order of the questions, so that order must be the queue's.
        async with self._asking:
            self._outstanding.append(registration)
            try:
                await link.send(message)
            except BaseException:
                self._outstanding.pop()
                raise

    async def _take(self, link: Link, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "registration_success":
                lost = self._positions.registered(message)
                self._agreed(link, message)
                if lost:
                    await self._pass_on({"type": "stream_gap", "streams": lost})
            case "registration_rejected":
                await self._disagreed(link, message)
            case "heartbeat":
                pass
            case "error":
                self._report(BadMessage(f"{message.get('code')}: {message.get('message')}"))
            case _:
                if self._positions.is_new(message):
                    await self._pass_on(message)

    async def _pass_on(self, push: dict[str, Any]) -> None:
        with suppress(trio.ClosedResourceError):  # the program left while we waited for room
            await self._pushes.send(push)

    def _agreed(self, link: Link, message: dict[str, Any]) -> None:
        registration = self._outstanding.popleft() if self._outstanding else self._wanted
        client_id = message.get("client_id")
        identity = registration.identity
        if isinstance(client_id, str):
            # The gateway may have made it; coming back under the same one is being the same client.
            identity = replace(identity, client_id=client_id)
        registration.identity = identity
        self.identity = identity
        self.registration = message
        self._registered = True
        self._report(Connected(link.address, str(client_id)))
        self._current.up(link)
        registration.finish()

    async def _disagreed(self, link: Link, message: dict[str, Any]) -> None:
        registration = self._outstanding.popleft() if self._outstanding else self._wanted
        reason = str(message.get("reason"))
        rejected = RegistrationRejected(reason, str(message.get("message") or ""))
        if registration.asked_for and self.identity is not None:
            registration.finish(rejected)
            if self._wanted is registration:
                self._wanted = _Registration(self.identity, asked_for=False)
            if not self._registered:
                await self._ask(link, self._wanted)
            return
        # Our own connection of a moment ago may still look alive to the gateway.
        returning = self.identity is not None and reason == "already_connected"
        if returning or reason in _TEMPORARY:
            raise NoGreeting(str(rejected))
        raise rejected

    async def _heartbeats(self, link: Link) -> None:
        interval = self.registration.get("heartbeat_interval")
        seconds = float(interval) if isinstance(interval, int | float) and interval > 0 else DEFAULT_HEARTBEAT
        with suppress(ConnectionLost):  # the reader reports it
            while True:
                await trio.sleep(seconds)
                await link.send({"type": "heartbeat"})

    def _finish(self, error: ClientError) -> None:
        self._ended = error
        self._pushes.close()
        if not self._wanted.done.is_set():
            self._wanted.finish(error)
