"""Registry: who is connected at this node, written down in Redis for the day on which the node cannot say so itself.

Knows sessions by their id, with the names of client and user; nothing of leases or nodes. The registry of a node is a
hash (session id → names) that outlives the node by KEPT; whoever finds the node gone takes the entries out, each
once. It is behind the truth by some 50 ms, and after an error is written anew as a whole, so what waits is bounded:
past MAX_PENDING changes it is written anew too.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple, Protocol

import msgspec
import trio

from service.redis.commands import Word

SOON: Final = 0.05
CHUNK: Final = 1000
"""Entries in one command."""
MAX_PENDING: Final = 50_000
KEPT: Final = 3600
"""Seconds that a registry is kept after its node's last sign of life."""

# Taking out and reading are one step: two that reap at the same time get different entries.
_POP: Final = """
local got = redis.call('HRANDFIELD', KEYS[1], ARGV[1], 'WITHVALUES')
for i = 1, #got, 2 do redis.call('HDEL', KEYS[1], got[i]) end
return got
"""


class Ask(Protocol):
    """Asks Redis something and waits for the answer. Raises Refusal or Unreachable."""

    async def __call__(self, *words: Word) -> object: ...


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
        self._stirred = trio.Event()

    @property
    def pending(self) -> int:
        """Changes that are not written yet."""
        return len(self._pending)

    def came(self, one: Present) -> None:
        """Somebody is here, or goes by other names now."""
        self._change(one.session, _encode((one.client_id, one.user_id)))

    def went(self, session: str) -> None:
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
        """What is written may be anything: write it anew."""
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
    got = await ask("EVAL", _POP, 1, registry_key(prefix, instance), CHUNK)
    assert isinstance(got, list)
    return [_decode(names) for names in got[1::2] if isinstance(names, bytes)]
