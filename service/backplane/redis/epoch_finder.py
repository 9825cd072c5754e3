"""EpochFinder: which epoch the history in Redis is of; asked on each new connection, and when a node is in doubt.

Redis is trusted with what it has accepted as long as its process lives, and after a restart where it keeps an
append-only file; otherwise a restart begins a new epoch: whoever resumes is told that something may be lost. So does
a replica that has taken its place, which may lack what was accepted last. The decision is `epoch.lua`'s, since all
nodes must come to the same; here is put together what it decides by.

Knows what this Redis says of itself, and how far this node has come; no streams, and nobody who is connected.
"""

import os
from collections.abc import Callable
from typing import Final, Protocol

import trio

from service.redis.address import Connector
from service.redis.commands import Callback
from service.redis.link import AskAll
from service.redis.resp import Word
from service.redis.succession import field

from .names import Names
from .scripts import EPOCH, ORDERED

_ABOUT: Final = (("INFO", "server"), ("INFO", "persistence"), ("INFO", "replication"))


class RedisLink(Protocol):
    """The connection for commands, as far as it matters here."""

    @property
    def origin(self) -> str:
        """Which server it leads to, or led to last; see Connector."""

    @property
    def heard_at(self) -> float:
        """When an answer came last, or later."""

    def send(self, *words: Word, done: Callback) -> None:
        """Send a command; `done` is called with its answer, once."""


class Follower(Protocol):
    """What follows the history, and is told the name of its epoch."""

    seen: int
    """The greatest offset that this node has seen."""

    @property
    def epoch(self) -> str:
        """The one that this node knows; empty as long as it knows none."""

    def on_epoch(self, epoch: str) -> None:
        """The epoch has this name."""


class Accepted(Protocol):
    """What Redis has accepted from this node."""

    accepted: int
    """The greatest offset that this Redis has; begins anew with another one."""


class EpochFinder:
    """One node's question. `attach` comes before anything else."""

    def __init__(self, connector: Connector, names: Names) -> None:
        self._connector = connector
        self._names = names
        self._server: tuple[Word, ...] = (b"", 0)
        self._accepted_elsewhere = 0
        self._link: RedisLink
        self._follower: Follower
        self._publisher: Accepted

    def attach(self, link: RedisLink, follower: Follower, publisher: Accepted) -> None:
        """Say by what it is asked, and who is told."""
        self._link, self._follower, self._publisher = link, follower, publisher

    async def prepare(self, ask_all: AskAll) -> None:
        """On a new connection, before anything is read or published: what Redis is this, and which epoch?"""
        known = ("HMGET", self._names.epoch, "run", "at")
        *answers, before = await ask_all([*(script.load for script in ORDERED), *_ABOUT, known])
        info = b"\r\n".join(answer for answer in answers if isinstance(answer, bytes))
        # If this server was a replica that got promoted, `master_replid2` is set: it may lack the last writes.
        another = field(info, b"master_replid2").strip(b"0")
        run = field(info, b"run_id")
        if run != self._server[0]:
            # Another one may have been seen in between, and have been gone before it said which epoch it is.
            self._accepted_elsewhere = max(self._accepted_elsewhere, self._publisher.accepted)
            self._publisher.accepted = 0
        self._server = (run, int(field(info, b"aof_enabled") == b"1" and not another))
        origin, whole = self._link.origin, b""
        match before:
            case [bytes(run_before), bytes(at)] if run_before != run and at and at.decode() != origin:
                if await self._connector.handed_over(at.decode(), run_before, info):
                    whole = run_before
        [name] = await ask_all([EPOCH.call(self._keys, self._words("", whole))])
        self._accepted_elsewhere = 0
        self._named(name)

    def renew(self, then: Callable[[], None] | None = None, *, over: str = "") -> None:
        """Find out which epoch it is, then call `then`. `over`: the name of one that has ended; empty where none is
        known to have."""

        def answered(answer: object) -> None:
            self._named(answer)
            if then is not None:
                then()

        EPOCH.send(self._link.send, self._keys, self._words(over), answered)

    @property
    def _keys(self) -> tuple[Word, ...]:
        return self._names.epoch, self._names.streams

    def _words(self, over: str, whole: bytes = b"") -> tuple[Word, ...]:
        new = os.urandom(8).hex()
        seen = (self._follower.epoch, self._follower.seen)
        silent = int((trio.current_time() - self._link.heard_at) * 1e6)
        return (*self._server, new, over, self._link.origin, *seen, whole, self._accepted_elsewhere, silent)

    def _named(self, answer: object) -> None:
        if isinstance(answer, bytes):
            self._follower.on_epoch(answer.decode())
