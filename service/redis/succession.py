"""Succession: whether a server that took another's place has all that the other one had.

Knows what INFO says of replication; nothing of what is kept. Replication is asynchronous, so a replica that is promoted
may lack the last writes, and mostly nobody can know. Two ways of handing over lose nothing, and can be proved where
the one that handed over still lives, as the same process:

- It follows its successor, and went on where it was (a partial resynchronisation): every write that it had accepted is
  one that the successor has. After a manual failover this is so. (One that had more has to be copied anew, and forgets
  what it was.)
- It is a primary of the same cluster that serves the slot no more: the keys were moved. (Its successor is told
  before it is, so it has a moment to hear of that.)

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/replication/
"""

from typing import Final

import trio

from .address import Address
from .faults import FAULTS
from .link import ask_once
from .resp import Command

HANDOVER_SECONDS: Final = 1.0
"""Seconds for the server that handed over to answer, and to have become a replica of its successor or to say that it no
longer serves the slot. Less than a new connection has to be prepared in (`commands`)."""
_AGAIN: Final = 0.05


def field(info: bytes, name: bytes) -> bytes:
    """One field of what INFO answers; empty where it isn't there."""
    for line in info.splitlines():
        key, _, value = line.partition(b":")
        if key == name:
            return value
    return b""


async def has_all_of(old: Address, run: bytes, info: bytes, *, slot: int | None = None) -> bool:
    """Whether a server whose INFO (server, replication) this is has all that `old` accepted in that run, as far as
    anybody can tell within HANDOVER_SECONDS; `slot` where both are of a cluster. Cancelling is safe."""
    questions: list[Command] = [("INFO", "server"), ("INFO", "replication")]
    if slot is not None:
        questions += [("CLUSTER", "INFO"), ("CLUSTER", "SLOTS")]
    with trio.move_on_after(HANDOVER_SECONDS):
        while True:
            try:
                answers = await ask_once(old, questions, seconds=HANDOVER_SECONDS)
            except FAULTS:
                return False
            theirs = b"\r\n".join(answer for answer in answers if isinstance(answer, bytes))
            if field(theirs, b"run_id") != run:
                return False
            if field(theirs, b"role") == b"master":
                if slot is None or b"cluster_state:ok" not in theirs:
                    return False
                server = _server_of(slot, answers[3])
                if server is None or not _is(old, *server):
                    return server is not None
            elif field(theirs, b"master_link_status") == b"up":
                return _goes_on(theirs, info)
            await trio.sleep(_AGAIN)
    return False


def _goes_on(theirs: bytes, info: bytes) -> bool:
    before = field(info, b"master_replid2")
    return (
        bool(before.strip(b"0"))
        and field(theirs, b"master_replid2") == before
        and field(theirs, b"master_replid") == field(info, b"master_replid")
    )


def _server_of(slot: int, slots: object) -> tuple[bytes | None, int, list[bytes]] | None:
    """Who serves a slot: the host, the port, and what else is said of it (`ip` and an address, say). None: nobody."""
    for first, last, (host, port, _, *more), *_ in slots if isinstance(slots, list) else ():
        if first <= slot <= last:
            return host, port, more[0] if more else []
    return None


def _is(old: Address, host: bytes | None, port: int, more: list[bytes]) -> bool:
    """Whether `old` means itself. It names no host then, or one of its own, which may be a name beside the address."""
    return port == old.port and (not host or old.host.encode() in (host, *more))
