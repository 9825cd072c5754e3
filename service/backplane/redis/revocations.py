"""The revocations of a deployment, in Redis. Promises what `service.core.revocations` does.

Each has a number, which grows with every change. A node reads what is above the last number that it knows: at once when
another node says that there is something, else every INTERVAL seconds, so a message that was lost costs half a second.

When Redis has lost some of them (a restart without an append-only file, a key that it threw away for want of memory),
or may have (a replica in its master's place lacks the last writes), its generation is another. The nodes then give back
what they know. So a revocation is lost only where no node lived that knew it and nothing in Redis names it any more.
While Redis is away what is known holds, and nothing can be taken back (`unavailable`).

Clocks of two machines may be minutes apart, and each node ends a revocation by its own: one of 30 s would be over at
once at a node that is 5 minutes ahead. So Redis is told what time it is at the node that takes something back, keeps
the end by its own clock, and tells each reader how far ahead that one is. Of this end and what the revocation says the
later counts: none ends too soon, and where clocks differ by a second or more some last longer than they were meant to.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
import trio

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import encode
from service.core.reply import Reply
from service.core.revocations import LIMIT, Revocation, RevocationObserver, too_many
from service.redis.faults import Refusal, Unreachable
from service.redis.resp import Word
from service.redis.scripts import Ask, Send

from .scripts import REVOCATIONS

INTERVAL: Final = 0.5
"""Seconds between two looks at what is new."""
PAGE: Final = 1000
"""Revocations that are read at a time."""
RESTORED: Final = 250
"""Revocations that are given back at a time."""
_UNREAD: Final = "What was taken back has not been read from Redis yet."

_revocation = msgspec.json.Decoder(Revocation)


class RedisRevocations:
    """Revocations that all nodes share. `send` and `ask` have Redis carry out a command; `prefix`: what the names of
    all keys begin with; `wall`: the time by which revocations end here, in Unix seconds."""

    def __init__(
        self,
        send: Send,
        ask: Ask,
        prefix: str,
        *,
        new: Callable[[], str] = lambda: os.urandom(8).hex(),
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._send = send
        self._ask = ask
        self._new = new
        self._wall = wall
        parts = ("", ":order", ":ends", ":meta")
        self._keys = (*(f"{prefix}revocations{part}" for part in parts), f"{prefix}epoch")
        self._observer: RevocationObserver
        self._generation = b""
        self._number = b"0"
        self._wake = trio.Event()
        self.trouble: str | None = _UNREAD

    def attach(self, observer: RevocationObserver) -> None:
        """Say who is told."""
        self._observer = observer

    def look(self) -> None:
        """There is something new."""
        self._wake.set()

    def add(self, revocation: Revocation, reply: Reply[PeerFault | None]) -> None:
        """Keep one."""

        def answered(answer: object) -> None:
            if isinstance(answer, Exception):
                text = "Nothing can be taken back while Redis can't be reached; try again in a moment."
                reply(PeerFault(ErrorCode.UNAVAILABLE, text))
            else:
                reply(None if answer else too_many())

        words = ("add", LIMIT, repr(self._wall()), *_words(revocation))
        REVOCATIONS.send(self._send, self._keys, words, answered)

    async def run(self) -> None:
        """Read what is new, until cancelled; cancelling is safe."""
        while True:
            with suppress(Refusal, Unreachable):
                while await self._read():
                    pass
                self.trouble = None
            with trio.move_on_after(INTERVAL):
                await self._wake.wait()
            self._wake = trio.Event()

    async def _read(self) -> bool:
        """Read a page; whether there may be more. Raises Refusal or Unreachable."""
        words = ("since", repr(self._wall()), self._generation, self._number, PAGE, self._new())
        answer = await REVOCATIONS.ask(self._ask, self._keys, words)
        match answer:
            case [bytes(generation), bytes(number), int(more), list(found), list(ends), bytes(ahead)]:
                pass
            case _:
                return False
        known = self._observer.known() if self._generation not in (b"", generation) else []
        self._observer.on_revoked(_read_many(found, ends, float(ahead)))
        for at in range(0, len(known), RESTORED):
            restored = [word for revocation in known[at : at + RESTORED] for word in _words(revocation)]
            await REVOCATIONS.ask(self._ask, self._keys, ("restore", repr(self._wall()), *restored))
        self._generation, self._number = generation, number
        return bool(more)


def _words(revocation: Revocation) -> tuple[Word, ...]:
    return revocation.subject, encode(revocation), repr(revocation.expires_at)


def _read_many(found: list[object], ends: list[object], ahead: float) -> list[Revocation]:
    """`ends`: of each, by Redis's clock, which this node's is `ahead` of."""
    revocations = []
    for one, end in zip(found, ends, strict=True):
        # One that another version, or another program, wrote must not hide the others.
        with suppress(msgspec.MsgspecError):
            if isinstance(one, bytes) and isinstance(end, bytes):
                revocation = _revocation.decode(one)
                if (here := float(end) + ahead) > revocation.expires_at:
                    revocation = msgspec.structs.replace(revocation, expires_at=here)
                revocations.append(revocation)
    return revocations
