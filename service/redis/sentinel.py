"""Sentinels: the way to a Redis whose place another takes when it dies.

Asks the sentinels in turn who is the master now, and believes it only from the master itself. Knows nothing of what
is said on the connection afterwards. Nothing is held between two connections but which sentinel answered last: a
failover is a connection that is lost, and the next one.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import trio

from .address import Address, peer
from .faults import FAULTS, Unreachable, reason
from .link import ask_once, dial_if
from .resp import Command

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
        # Who answered last is asked first, who did not is asked last.
        self._turn = deque(dict.fromkeys(sentinels))

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

    async def dial(self) -> trio.abc.Stream:
        """A new connection to the master. Raises OSError when no sentinel knows one that can be reached."""
        reasons: list[str] = []
        in_vain: set[Address] = set()
        for sentinel in list(self._turn):
            # Also where the caller's patience ends with this one: next time it begins with the others.
            self._turn.remove(sentinel)
            self._turn.append(sentinel)
            try:
                master = await self._ask(sentinel)
            except FAULTS as error:
                reasons.append(f"{sentinel}: {reason(error, SENTINEL_SECONDS)}")
                continue
            if master in in_vain:
                continue
            try:
                stream = await dial_if(master, [("INFO", "replication")], _is_master, seconds=MASTER_SECONDS)
            except FAULTS as error:
                reasons.append(f"{sentinel} says {master}: {reason(error, MASTER_SECONDS)}")
                in_vain.add(master)
            else:
                self._turn.remove(sentinel)
                self._turn.appendleft(sentinel)
                return stream
        raise OSError(f"no sentinel knows a master {self.name!r} that can be used ({'; '.join(reasons)})")

    async def _ask(self, sentinel: Address) -> Address:
        question = ("SENTINEL", "get-master-addr-by-name", self.name)
        [answer] = await ask_once(sentinel, [question], seconds=SENTINEL_SECONDS)
        match answer:
            case [bytes(host), bytes(port)]:
                return replace(self.master, host=host.decode(), port=int(port))
        raise Unreachable("it knows no master of that name")

    def _key(self) -> tuple[object, ...]:
        return self.sentinels, self.name, self.master


def _is_master(answers: list[object]) -> None:
    # What INFO says is a right that is needed anyway; ROLE would be one more.
    [info] = answers
    if not isinstance(info, bytes) or b"\nrole:master\r" not in info:
        raise Unreachable("it is no master (any more, or yet)")
