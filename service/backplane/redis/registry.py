"""Registry: who is connected to this node, stored so that others can report them as left if the node dies.

Knows sessions by their id, with the names of client and user; nothing of leases or nodes. The registry of a node is a
hash (session id → names) that outlives the node by KEPT seconds; the node that reports its clients takes the entries
out, each once. The hash is some 50 ms behind the node. After an error it is written anew as a whole, and so it is when
more than MAX_PENDING changes wait: that bounds what waits.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

import msgspec
import trio

from service.redis.resp import Word
from service.redis.scripts import Ask

from .scripts import REGISTRY_POP

SOON: Final = 0.05
CHUNK: Final = 1000
"""Entries in one command."""
MAX_PENDING: Final = 50_000
KEPT: Final = 3600
"""Seconds that a registry is kept after its node's last sign of life."""


class Present(NamedTuple):
    """One who is connected."""

    session: str
    client_id: str | None
    user_id: str | None


_Names = tuple[str | None, str | None]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Names).decode


class Registry:
    """What this node has written, and is to write. `present` gives everybody who is here now."""

    def __init__(self, prefix: str, present: Callable[[], Iterable[Present]]) -> None:
        self._prefix = prefix
        self._present = present
        self._key = ""
        self._all = False
        self._pending: dict[str, bytes | None] = {}
        self.behind = False
        """Whether what is stored could not be brought up to date the last time."""
        self._stirred = trio.Event()

    @property
    def pending(self) -> int:
        """Changes that are not written yet."""
        return len(self._pending)

    def on_connected(self, one: Present) -> None:
        """Somebody is connected, or goes by other names now."""
        self._change(one.session, _encode((one.client_id, one.user_id)))

    def on_left(self, session: str) -> None:
        """A session is over."""
        self._change(session, None)

    def _change(self, session: str, names: bytes | None) -> None:
        if self._all:
            return  # everything is about to be written anyway
        self._pending[session] = names
        if len(self._pending) > MAX_PENDING:
            self.rewrite()
        self._stirred.set()

    def begin(self, instance: str) -> None:
        """The node's entries belong under this name from now on."""
        self._key = registry_key(self._prefix, instance)
        self.rewrite()

    def rewrite(self) -> None:
        """What is stored may be wrong: write all of it anew."""
        self._all = True
        self._pending.clear()
        self._stirred.set()

    async def write(self, ask: Ask) -> None:
        """Write for ever. Raises Refusal or Unreachable; then `rewrite` must follow."""
        while True:
            await self._stirred.wait()
            await trio.sleep(SOON)
            if self._all:
                await self._write_all(ask)
            await self._write_pending(ask)
            self.behind = False
            if not self._pending and not self._all:
                self._stirred = trio.Event()

    async def _write_all(self, ask: Ask) -> None:
        key = self._key
        self._all = False
        entries: Iterator[tuple[Word, Word]]
        entries = iter([(one.session, _encode((one.client_id, one.user_id))) for one in self._present()])
        await ask("DEL", key)
        while chunk := list(islice(entries, CHUNK)):
            await ask("HSET", key, *chain.from_iterable(chunk))
        await ask("EXPIRE", key, KEPT)

    async def _write_pending(self, ask: Ask) -> None:
        while self._pending and not self._all:
            came: list[Word] = []
            went: list[Word] = []
            for session in list(islice(self._pending, CHUNK)):
                names = self._pending.pop(session)
                if names is None:
                    went.append(session)
                else:
                    came += session, names
            if came:
                await ask("HSET", self._key, *came)
            if went:
                await ask("HDEL", self._key, *went)


def registry_key(prefix: str, instance: str) -> str:
    """Where the registry of one is kept."""
    return f"{prefix}on:{instance}"


async def pop(ask: Ask, prefix: str, instance: str) -> list[_Names]:
    """Take some entries out of a registry; none when it is empty."""
    got = await REGISTRY_POP.ask(ask, (registry_key(prefix, instance),), (CHUNK,))
    assert isinstance(got, list)
    return [_decode(names) for names in got[1::2] if isinstance(names, bytes)]
