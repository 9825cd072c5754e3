"""Connect hook: the operator's program that is asked who a connection is, instead of a token.

It is posted what the connection shows (path, query, address, the headers of a list, the first message), signed where
there are keys, and answers:

- 200 with claims, the same as a token's: that is who it is;
- 204: nobody in particular, as a connection without a token;
- 401: refused (4001); 403: not allowed (4003).

Everything else is a failure of the hook's, not of the client's: no answer within the timeout, another status, a
redirect, claims that can't be read. The connection is closed with 1013, so that the client comes back later, and the
log says why.

Bounds: at most CONCURRENT questions are on their way, MAX_WAITING connections wait altogether (more are refused with
1013 at once), the timeout counts from a connection's first message; an answer has at most MAX_ANSWER bytes. An answer
of 200 with `Cache-Control: max-age=n`, and neither `no-store` nor `no-cache`, is taken for the same question again for
n seconds, at most MAX_AGE, of MAX_KEPT questions; no other is. A question whose connection has gone is given up.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec
import structlog
import trio

from portico.version import VERSION
from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault
from service.core.counters import Metric
from service.core.proof import NotProven, Presented, Proof
from service.core.reply import Reply
from service.outgoing.network import anywhere
from service.outgoing.post import NotPosted, Posted, Poster

from .tokens import read_claims

CONCURRENT: Final = 64
MAX_WAITING: Final = 5000
MAX_ANSWER: Final = 64 << 10
MAX_MESSAGE: Final = 64 << 10
"""Bytes of a first message that the hook is shown; of a longer one it is told that there is one, not what it says."""
MAX_AGE: Final = 300.0
MAX_KEPT: Final = 10_000
_MAX_AGE_GIVEN: Final = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})(?:$|[,\s])")

HookAnswer = Proof | PeerFault | None
_encode = msgspec.json.Encoder().encode


class ConnectHook:
    """The hook at one URL (the core's ConnectHook). `headers`: what it is shown of a handshake's; `timeout` in seconds;
    `keys` sign."""

    def __init__(
        self,
        url: str,
        *,
        headers: Collection[str],
        timeout: float,
        keys: Sequence[bytes],
        wall: Callable[[], float],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self.headers: Final = tuple(name.lower() for name in headers)
        self._poster = Poster(
            url, anywhere, limit=MAX_ANSWER, connections=CONCURRENT, keys=keys, agent=f"Portico/{VERSION}"
        )
        self._timeout = timeout
        self._wall = wall
        self._log = log
        self._failing: str | None = None
        self._nursery: trio.Nursery | None = None
        self._room = trio.CapacityLimiter(CONCURRENT)
        self._kept: OrderedDict[bytes, tuple[float, Proof]] = OrderedDict()
        self.waiting = 0
        """Connections that wait for an answer."""
        self.asked = 0
        self.failed = 0
        self.repeated = 0

    async def run(self) -> None:
        """Ask until cancelled; who waits then is refused."""
        try:
            async with trio.open_nursery() as self._nursery:
                await trio.sleep_forever()
        finally:
            self._nursery = None
            await self._poster.aclose()

    def ask(self, presented: Presented, reply: Reply[HookAnswer]) -> Callable[[], None]:
        """Ask who that is. See the core's ConnectHook."""
        body = _question(presented)
        kept = self._known(_key(body))
        if kept is not None:
            self.repeated += 1
            reply(kept)
            return _nothing
        if self._nursery is None or self.waiting >= MAX_WAITING:
            self.failed += 1
            reply(_unavailable())
            return _nothing
        scope = trio.CancelScope()
        self.waiting += 1
        self._nursery.start_soon(self._ask, body, reply, scope)
        return scope.cancel

    async def _ask(self, body: bytes, reply: Reply[HookAnswer], scope: trio.CancelScope) -> None:
        answer: HookAnswer = _unavailable()
        try:
            with scope:
                answer = await self._answer(body)
        finally:
            self.waiting -= 1
            if not scope.cancelled_caught:
                reply(answer)

    async def _answer(self, body: bytes) -> HookAnswer:
        try:
            with trio.fail_after(self._timeout):
                async with self._room:
                    self.asked += 1
                    posted = await self._poster.post(body, timeout=self._timeout)
            answer = self._read(posted)
        except (NotPosted, NotProven, trio.TooSlowError) as error:
            self.failed += 1
            why = f"no answer within {self._timeout:g} s" if isinstance(error, trio.TooSlowError) else str(error)
            if self._failing != why:
                self._failing = why
                self._log.warning("the connect hook fails; connections are refused", reason=why)
            return _unavailable()
        if self._failing is not None:
            self._failing = None
            self._log.info("the connect hook answers again")
        if isinstance(answer, Proof):
            self._keep(_key(body), answer, posted)
        return answer

    def _read(self, posted: Posted) -> HookAnswer:
        match posted.status:
            case 200:
                proof = read_claims(posted.body)
                if proof.expires_at is not None and proof.expires_at <= self._wall():
                    return _refused()
                return proof
            case 204:
                return None
            case 401:
                return _refused()
            case 403:
                return PeerFault(ErrorCode.FORBIDDEN, "You may not connect here.", close=CloseCode.NOT_ALLOWED)
            case status:
                raise NotPosted(f"its status is {status}; 200, 204, 401 and 403 are answers")

    # What was answered before

    def _known(self, key: bytes) -> Proof | None:
        found = self._kept.get(key)
        if found is None:
            return None
        until, proof = found
        if self._wall() < until:
            return proof
        del self._kept[key]
        return None

    def _keep(self, key: bytes, proof: Proof, posted: Posted) -> None:
        said = posted.headers.get("cache-control", "").lower()
        given = _MAX_AGE_GIVEN.search(said)
        if given is None or not int(given[1]) or "no-store" in said or "no-cache" in said:
            return
        until = self._wall() + min(MAX_AGE, int(given[1]))
        self._kept[key] = (until if proof.expires_at is None else min(until, proof.expires_at), proof)
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def metrics(self) -> list[Metric]:
        """How the hook is doing."""
        return [
            Metric("connect_hook_waiting", "Connections that wait for the connect hook's answer.", self.waiting),
            Metric("connect_hook_asked", "Questions to the connect hook.", self.asked, True),
            Metric("connect_hook_failed", "Connections refused because the hook could not tell.", self.failed, True),
            Metric("connect_hook_repeated", "Connections told from an earlier answer.", self.repeated, True),
        ]


def _question(presented: Presented) -> bytes:
    message = presented.message
    return _encode(
        {
            "path": presented.path,
            "query": presented.query,
            "address": presented.address,
            "headers": presented.headers,
            "message": None if message is None or len(message) > MAX_MESSAGE else message.decode(errors="replace"),
            "message_size": 0 if message is None else len(message),
        }
    )


def _key(body: bytes) -> bytes:
    # Not the question itself: it has secrets in it, which are kept no longer than they are needed.
    return hashlib.sha256(body).digest()


def _refused() -> PeerFault:
    return PeerFault(ErrorCode.UNAUTHORIZED, "You are not known here; log in.", close=CloseCode.NOT_AUTHENTICATED)


def _unavailable() -> PeerFault:
    return PeerFault(
        ErrorCode.UNAVAILABLE, "Who you are can't be found out now; try again later.", close=CloseCode.TRY_LATER
    )


def _nothing() -> None:
    pass
