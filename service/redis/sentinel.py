"""Sentinels: the way to a Redis whose place another takes when it dies.

Asks all sentinels who is the master, prefers the answer of the newest configuration, and believes it only from the
master itself. Knows nothing of what is said on the connection afterwards. While a connection stands, they are asked
again: a master that was healthy when it was replaced learns of it ten seconds later, and accepts until then what
will be lost. Nothing is held between two connections but which sentinels did not answer last, who are not waited for
as long as the others know a master.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import trio

from .address import Address, at_origin, peer
from .faults import FAULTS, Unreachable, reason
from .link import ask_once, dial_if
from .resp import Command
from .succession import has_all_of

SENTINEL_SECONDS: Final = 0.5
"""What one sentinel has for its answer."""
MASTER_SECONDS: Final = 1.0
"""What a master that was named has to say that it is one."""


class Sentinels:
    """Some sentinels, and the name that their master has there. `master` says how to speak with whoever it is: user,
    password, database and TLS; where it is, the sentinels know."""

    def __init__(self, sentinels: Sequence[Address], name: str, master: Address) -> None:
        self.sentinels: Final = tuple(sentinels)
        self.name: Final = name
        self.master: Final = master
        self._silent: set[Address] = set()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sentinels) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Sentinels({self.sentinels!r}, {self.name!r}, {self.master!r})"

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.sentinels))})"

    @property
    def database(self) -> int:
        """The number of the master's database."""
        return self.master.db

    def greeting(self, name: str) -> list[Command]:
        """What a connection to the master says first."""
        return self.master.greeting(name)

    def origin(self, stream: trio.abc.Stream) -> str:
        """The master's address: nobody else has it as long as the sentinels know of both."""
        return peer(stream)

    async def moved(self, origin: str) -> str | None:
        """Whether the sentinels name another master, which is one."""
        for master in await self._ask_all([]):
            if f"{master.host} {master.port}" == origin:
                return None
            try:
                stream = await self._dial(master)
            except FAULTS:
                continue
            same = peer(stream) == origin
            await trio.aclose_forcefully(stream)
            return None if same else "the sentinels say that another server is the master now"
        return None

    async def handed_over(self, origin: str, run: bytes, info: bytes) -> bool:
        """Whether the master before this one follows it, and had nothing more."""
        old = at_origin(self.master, origin)
        return old is not None and await has_all_of(old, run, info)

    async def dial(self) -> trio.abc.Stream:
        """A new connection to the master. Raises OSError when no sentinel knows one that can be reached."""
        reasons: list[str] = []
        for master in await self._ask_all(reasons):
            try:
                return await self._dial(master)
            except FAULTS as error:
                reasons.append(f"the master is said to be {master}: {reason(error, MASTER_SECONDS)}")
        # Those that were silent once may know better.
        self._silent.clear()
        raise OSError(f"no sentinel knows a master {self.name!r} that can be used ({'; '.join(reasons)})")

    async def _dial(self, master: Address) -> trio.abc.Stream:
        return await dial_if(master, [("INFO", "replication")], _is_master, seconds=MASTER_SECONDS)

    async def _ask_all(self, reasons: list[str]) -> list[Address]:
        """The masters that are named, that of the newest configuration first; each once. Why some name none goes to
        `reasons`."""
        named: dict[Address, int] = {}
        asked = set(self.sentinels)
        waited_for = asked - self._silent or asked

        async def ask(sentinel: Address) -> None:
            try:
                master, epoch = await self._ask(sentinel)
            except FAULTS as error:
                reasons.append(f"{sentinel}: {reason(error, SENTINEL_SECONDS)}")
                if isinstance(error, trio.TooSlowError):
                    self._silent.add(sentinel)
            else:
                named[master] = max(epoch, named.get(master, epoch))
                self._silent.discard(sentinel)
            waited_for.discard(sentinel)
            asked.discard(sentinel)
            # One that hangs is waited for once, and then only while nobody else has an answer.
            if not asked or (named and not waited_for):
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for sentinel in self.sentinels:
                nursery.start_soon(ask, sentinel)
        return sorted(named, key=lambda master: -named[master])

    async def _ask(self, sentinel: Address) -> tuple[Address, int]:
        """The master that one sentinel names, and the number of its configuration."""
        [answer] = await ask_once(sentinel, [("SENTINEL", "MASTER", self.name)], seconds=SENTINEL_SECONDS)
        if not isinstance(answer, list):
            raise Unreachable("it doesn't say who is the master")
        words = [word.decode() for word in answer if isinstance(word, bytes)]
        told = dict(zip(words[::2], words[1::2], strict=True))
        return replace(self.master, host=told["ip"], port=int(told["port"])), int(told["config-epoch"])

    def _key(self) -> tuple[object, ...]:
        return self.sentinels, self.name, self.master


def _is_master(answers: list[object]) -> None:
    # What INFO says is a right that is needed anyway; ROLE would be one more.
    [info] = answers
    if not isinstance(info, bytes) or b"\nrole:master\r" not in info:
        raise Unreachable("it is no master (any more, or yet)")
