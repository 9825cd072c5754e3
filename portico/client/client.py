"""Client: registers who it is, and receives what is pushed to it.

Speaks the C-Client dialect (the protocol reference, "C-Client dialect"). Knows nothing of how a connection is kept;
`connection` does. Promises:
- pushes come out in the order in which they came in, each once;
- a connection that was lost is registered again with the identity of the moment, and resumed: durable events that were
  missed come first, and if any may be missing, a push of type `stream_gap` names their streams;
- an event's offset is kept only when the event is in the program's buffer, so a lost connection skips none;
- pushes wait in that buffer, which is bounded, until the program reads them; when it is full the client stops reading
  the connection, and the gateway's limits hold for what it can't send. (Only while a call of `register` waits does the
  client read on: the answer comes behind the pushes.);
- answers to registrations are matched by what they say, and each call of `register` ends: with its answer, or when a
  later one is answered, or on the next connection if none comes within `connect_timeout`.
"""

import math
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import trio
from msgspec.structs import replace

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.messages import IDENTITY_FIELDS, Identity, stream_of, targets_of

from .backoff import Backoff
from .connection import Connection, CurrentLink
from .errors import ClientError, ConnectionLost, NoGreeting, NoToken, RegistrationRejected, Superseded
from .events import BadMessage, Complaint, Connected, Report, TokenFailed
from .link import MAX_OUTGOING, Link, LinkOptions
from .nursery import background_nursery
from .positions import Positions
from .token import RETRY, Refresh, TokenSource

DEFAULT_HEARTBEAT: Final = 25.0

# Reasons of a rejection that say nothing of the client: it may be accepted a moment later.
_TEMPORARY: Final = {ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE, ErrorCode.INTERNAL}


@dataclass(slots=True, eq=False)
class _Registration:
    """One `c_client_register`: what it says, when its answer is due, and what came of it."""

    identity: Identity
    asked_for: bool  # by a call of `register`, which waits for it
    resumed: bool = False
    due: float = math.inf
    done: trio.Event = field(default_factory=trio.Event)
    error: ClientError | None = None

    def finish(self, error: ClientError | None = None) -> None:
        self.error = error
        self.done.set()

    def agrees(self, message: dict[str, Any]) -> bool:
        """Whether an answer may be for this registration: no name that both have differs."""
        for name in ("client_id", "user_id", "username", "node_id"):
            mine, theirs = getattr(self.identity, name), message.get(name)
            if mine is not None and theirs is not None and mine != theirs:
                return False
        return True

    def adopt(self, message: dict[str, Any]) -> None:
        """Take over what the gateway added: it may have made the `client_id`, or know the user from the token.

        A client that comes back under the same names is the same client to the gateway.
        """
        for name in ("client_id", "user_id"):
            value = message.get(name)
            if getattr(self.identity, name) is None and isinstance(value, str):
                self.identity = replace(self.identity, **{name: value})


class Client:
    """Receives pushes; used as `async with Client(…) as c:`, which returns once registered.

    `base_url`: the gateway's HTTP address (http://host:port), which is asked where its WebSocket is; or `url`: a
    WebSocket address (ws://host:port). `identity`: who the client is (the gateway makes a `client_id` if there is
    none). `token`: sent with every registration. `refresh_token`: a plain or async function that gives the next token;
    it is asked before the first registration if there is no `token`, in good time before a token's end, and when the
    gateway has refused one (4001). If it returns None or raises NoToken, the client stops. `buffer`: pushes kept for a
    program that is busy, at least 1; when it is full the client stops reading. `backoff`: how patiently it comes back
    (None: `Backoff()`); `options`: how a connection is made and kept (None: `LinkOptions()`). `on_event`: called with
    each thing that happens to the connection (None: it is logged).

    Then `async for push in c:` yields each push as the object that came in (`push["type"]` says what it is). The loop
    raises SentAway, GaveUp, NoToken, RegistrationRejected or HandshakeRefused when the connection has ended for good,
    and so does entering, if it ended before. BadAddress is raised at once. Cancelling is safe everywhere; it closes the
    connection where the `async with` itself is cancelled. Source: the protocol reference, "C-Client dialect".
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        url: str | None = None,
        identity: Identity | None = None,
        token: str | None = None,
        refresh_token: Refresh | None = None,
        backoff: Backoff | None = None,
        options: LinkOptions | None = None,
        on_event: Report | None = None,
        buffer: int = 1024,
    ) -> None:
        self._connection = Connection.to(
            base_url, url, path="", max_message=MAX_OUTGOING, options=options, backoff=backoff, report=on_event
        )
        self._report = self._connection.report
        self._tokens = TokenSource(token, refresh_token, self._report)
        self._renewed = trio.Event()  # the gateway has answered a token_refresh
        self._expires_at: float | None = None
        self._stopped: NoToken | None = None
        # The bound is in `_pass_on`, which waits for room, except while a call of `register` waits.
        self._pushes, self._received = trio.open_memory_channel[dict[str, Any]](math.inf)
        self._buffer = max(buffer, 1)
        self._room = trio.Event()
        self._registering = 0  # calls of `register` that wait
        self._wanted = _Registration(identity or Identity(), asked_for=False)
        self._outstanding: list[_Registration] = []
        self._asking = trio.Lock()
        self._reading = trio.CancelScope()
        self._registered = False  # on the link of the moment
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
            push = await self._received.receive()
        except trio.EndOfChannel:
            assert self._ended is not None
            raise self._ended.with_traceback(None) from None
        self._room.set()
        return push

    @property
    def buffered(self) -> int:
        """Pushes that came in and were not read yet."""
        return self._received.statistics().current_buffer_used

    async def register(self, identity: Identity) -> None:
        """Become somebody else on the same connection, and return when the gateway has agreed.

        If the connection is lost meanwhile, the next one is registered so. Raises RegistrationRejected (the old
        identity then stays), Superseded if a later call was answered and this one never, Unsendable or MessageTooLarge
        (nothing was sent), or what ended the client. When cancelled, the change may or may not take place.
        """
        registration = _Registration(identity, asked_for=True)
        self._registering += 1
        self._room.set()
        try:
            await self._become(registration)
        finally:
            self._registering -= 1

    async def _become(self, registration: _Registration) -> None:
        link = await self._current.get()
        before, self._wanted = self._wanted, registration
        try:
            await self._ask(link, registration)
        except ConnectionLost:
            pass  # the next link will ask
        except ClientError:
            if self._wanted is registration:
                self._wanted = before
            raise
        await registration.done.wait()
        if registration.error is not None:
            raise registration.error

    async def session_feedback(self, *, success: bool, message: str = "", session_id: str | None = None) -> None:
        """Report how an automatic login went. `session_id`: which one (None: the user's current login). `message`: at
        most 4,096 characters.

        Waits while there is no connection. The gateway answers nothing, or an error, which `on_event` gets as a
        Complaint. Raises ConnectionLost, Unsendable, MessageTooLarge, or what ended the client. Cancelling is safe.
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
                await self._tokens.ready()
                await self._ask(link, self._wanted)
                while not self._registered:
                    await self._take(link, await self._receive(link))
                nursery.start_soon(self._heartbeats, link)
                if self._tokens.refreshes:
                    nursery.start_soon(self._refreshes, link)
                while True:
                    await self._take(link, await self._receive(link))
        except ConnectionLost as lost:
            if lost.code != CloseCode.NOT_AUTHENTICATED or not self._tokens.refreshes:
                raise
            self._tokens.refused()
            raise NoGreeting("The gateway wants another token.") from lost
        finally:
            self._current.down()
            for registration in self._outstanding:
                registration.due = math.inf
                if registration is not self._wanted:  # which the next link asks for
                    registration.finish(Superseded("A later registration has taken its place."))
            self._outstanding.clear()

    async def _receive(self, link: Link) -> dict[str, Any]:
        """The next message. Raises ConnectionLost, or NoGreeting where an answer to a registration is overdue."""
        due = min((registration.due for registration in self._outstanding), default=math.inf)
        # Only reading is bounded: what was read waits for the program as long as it takes.
        with trio.CancelScope(deadline=due) as self._reading:
            if self._stopped is None:
                return await link.receive()
        if self._stopped is not None:
            raise self._stopped
        raise NoGreeting("The gateway did not answer the registration in time.")

    async def _ask(self, link: Link, registration: _Registration) -> None:
        message: dict[str, Any] = {"type": "c_client_register"}
        message |= {name: getattr(registration.identity, name) for name in IDENTITY_FIELDS}
        if self._tokens.token is not None:
            message["token"] = self._tokens.token
        # Until a registration on this link has succeeded each one resumes; later ones go on from where the link is.
        resume = None if self._registered else self._positions.resume
        registration.resumed = resume is not None
        if resume is not None:
            message["resume"] = resume
        # Answers come in the order of the questions, so that order must be the list's.
        async with self._asking:
            registration.due = trio.current_time() + self._connection.options.connect_timeout
            self._outstanding.append(registration)
            self._reading.deadline = min(self._reading.deadline, registration.due)
            try:
                await link.send(message)
            except BaseException:
                with suppress(ValueError):  # the link ended meanwhile
                    self._outstanding.remove(registration)
                raise

    async def _take(self, link: Link, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "registration_success":
                await self._on_success(link, message)
            case "registration_rejected":
                await self._on_rejection(link, message)
            case "heartbeat":
                pass
            case "token_refresh":
                self._expires_at = _moment(message.get("expires_at"))
                self._renewed.set()
            case "error" if message.get("field") == "token" and self._tokens.refreshes:
                self._report(TokenFailed(f"{message.get('code')}: {message.get('message')}"))
                self._expires_at = None
                self._renewed.set()
            case "error":
                self._report(Complaint(f"{message.get('code')}: {message.get('message')}"))
            case "stream_gap":
                await self._pass_on(message)
                self._positions.gap(message)
            case _:
                if not self._positions.is_new(message):
                    return
                if self._positions.is_in_doubt(message):
                    await self._pass_on(_gap([message["stream"]]))
                await self._pass_on(message)
                self._positions.took(message)

    async def _pass_on(self, push: dict[str, Any]) -> None:
        """Hand a push to the program, and wait while there is no room for it.

        It doesn't wait while a call of `register` waits for its answer: the program may be in that call, so it can't
        make room, and the answer comes behind these pushes.
        """
        if self._is_full():
            began = trio.current_time()
            while self._is_full():
                self._room = trio.Event()
                await self._room.wait()
            # Meanwhile nothing was read, so no answer can be late for that.
            for registration in self._outstanding:
                registration.due += trio.current_time() - began
        with suppress(trio.ClosedResourceError):  # the program has left
            self._pushes.send_nowait(push)

    def _is_full(self) -> bool:
        return self.buffered >= self._buffer and not self._registering

    def _answered(self, message: dict[str, Any]) -> _Registration | None:
        """The registration that an answer is for, which is then outstanding no more; None if there is none.

        Among several it is the one that has most of the streams that the answer names; among equals the first, since
        answers come in order.
        """
        named = _streams_in(message)
        fitting = [registration for registration in self._outstanding if registration.agrees(message)]
        if not fitting:
            self._report(BadMessage(f"a {message.get('type')} to no registration of ours"))
            return None
        best = max(fitting, key=lambda registration: len(named & _streams_of(registration.identity)))
        at = self._outstanding.index(best)
        if message.get("type") == "registration_success":
            for overtaken in self._outstanding[:at]:
                overtaken.finish(Superseded("A later registration was answered, and this one was not."))
            del self._outstanding[:at]
        self._outstanding.remove(best)
        return best

    async def _on_success(self, link: Link, message: dict[str, Any]) -> None:
        registration = self._answered(message)
        if registration is None:
            return
        registration.adopt(message)
        streams = _streams_of(registration.identity)
        missing = self._positions.registered(message, streams, resumed=registration.resumed)
        if not self._outstanding:
            self._wanted = registration
        self.identity = registration.identity
        self.registration = message
        self._expires_at = _moment(message.get("expires_at"))
        self._registered = True
        self._report(Connected(link.address, str(registration.identity.client_id)))
        self._current.up(link)
        registration.finish()
        if missing:
            await self._pass_on(_gap(missing))

    async def _on_rejection(self, link: Link, message: dict[str, Any]) -> None:
        registration = self._answered(message)
        if registration is None:
            return
        reason = str(message.get("reason"))
        rejected = RegistrationRejected(reason, str(message.get("message") or ""))
        if registration.asked_for and self.identity is not None:
            registration.finish(rejected)
            if self._wanted is registration:
                kept = _Registration(self.identity, asked_for=False)
                self._wanted = self._outstanding[-1] if self._outstanding else kept
            if not self._registered and not self._outstanding:
                await self._ask(link, self._wanted)
            return
        if reason == ErrorCode.UNAUTHORIZED and self._tokens.refreshes:
            self._tokens.refused()
            raise NoGreeting(str(rejected))
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

    async def _refreshes(self, link: Link) -> None:
        """Renew the token as long as the link stands and the gateway says when it ends."""
        with suppress(ConnectionLost):  # the reader reports it
            while self._expires_at is not None:
                await self._tokens.due(self._expires_at)
                try:
                    token = await self._tokens.next_one()
                except NoToken as none:
                    self._stopped = none
                    self._reading.cancel()
                    return
                self._renewed = trio.Event()
                await link.send({"type": "token_refresh", "token": token})
                await self._renewed.wait()
                if self._expires_at is None:
                    # It was refused: what there is holds for a little longer.
                    self._expires_at = 0.0
                    await trio.sleep(RETRY)

    def _finish(self, error: ClientError) -> None:
        self._ended = error
        self._pushes.close()
        if not self._wanted.done.is_set():
            self._wanted.finish(error)
        for registration in self._outstanding:
            if not registration.done.is_set():
                registration.finish(error)


def _moment(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _gap(streams: list[str]) -> dict[str, Any]:
    """The push that tells the program that these streams may miss events, as the gateway would say it."""
    return {"type": "stream_gap", "streams": streams}


def _streams_of(identity: Identity) -> set[str]:
    return {stream_of(target) for target in targets_of(identity)}


def _streams_in(answer: dict[str, Any]) -> set[str]:
    resume = answer.get("resume")
    offsets = resume.get("offsets") if isinstance(resume, dict) else None
    return set(offsets) if isinstance(offsets, dict) else set()
