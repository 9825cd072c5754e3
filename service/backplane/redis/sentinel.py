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

from .address import Address, Command, peer
from .commands import Refusal, Unreachable, Word, asking, new_reader

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
        # Who answered last is asked first.
        self._turn = deque(sentinels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sentinels) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Sentinels({self.sentinels!r}, {self.name!r}, {self.master!r})"

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.sentinels))})"

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
            try:
                master = await self._ask(sentinel)
            except FAULTS as error:
                reasons.append(f"{sentinel}: {reason(error, SENTINEL_SECONDS)}")
                continue
            if master in in_vain:
                continue
            try:
                stream = await _dial_master(master)
            except FAULTS as error:
                reasons.append(f"{sentinel} says {master}: {reason(error, MASTER_SECONDS)}")
                in_vain.add(master)
            else:
                self._turn.remove(sentinel)
                self._turn.appendleft(sentinel)
                return stream
        raise OSError(f"no sentinel knows a master {self.name!r} that can be used ({'; '.join(reasons)})")

    async def _ask(self, sentinel: Address) -> Address:
        with trio.fail_after(SENTINEL_SECONDS):
            stream = await sentinel.dial()
            try:
                questions: list[Sequence[Word]] = list(login(sentinel))
                questions.append(("SENTINEL", "get-master-addr-by-name", self.name))
                *_, answer = await asking(stream, new_reader())(questions)
            finally:
                await trio.aclose_forcefully(stream)
        match answer:
            case [bytes(host), bytes(port)]:
                return replace(self.master, host=host.decode(), port=int(port))
        raise Unreachable("it knows no master of that name")

    def _key(self) -> tuple[object, ...]:
        return self.sentinels, self.name, self.master


FAULTS: Final = (OSError, trio.BrokenResourceError, trio.TooSlowError, Refusal, Unreachable, ValueError)


async def _dial_master(address: Address) -> trio.abc.Stream:
    with trio.fail_after(MASTER_SECONDS):
        stream = await address.dial()
        try:
            # What INFO says is a right that is needed anyway; ROLE would be one more.
            *_, info = await asking(stream, new_reader())([*login(address), ("INFO", "replication")])
            if not isinstance(info, bytes) or b"\nrole:master\r" not in info:
                raise Unreachable("it is no master (any more, or yet)")
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    return stream


def login(address: Address) -> list[Command]:
    """What a connection says first where nothing of ours is to be said."""
    return [command for command in address.greeting("") if command[0] == b"AUTH"]


def reason(error: Exception, seconds: float) -> str:
    """Why somebody could not be asked, as a clause without passwords; `seconds` is what it had."""
    match error:
        case Refusal():
            # What Redis says of AUTH may repeat the password.
            return f"it refuses ({error.word})"
        case trio.TooSlowError():
            return f"no answer within {seconds:g} s"
        case trio.BrokenResourceError():
            return "the connection broke"
        case OSError():
            return error.strerror or str(error) or type(error).__name__
    return str(error)
