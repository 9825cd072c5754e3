"""Checks: what about this Redis endangers what a deployment promises, said before it does harm.

Knows what INFO says, and which commands and channels a node uses; nothing of what is kept. What is missing from the
rights of Redis's user is trouble: the node is not ready, since it would go deaf or refuse pushes sooner or later. What
a Redis may lose, or throw away, is a warning. Looked at over a connection of its own, so nothing here holds up a node.
"""

from collections.abc import Iterable
from typing import Final

import structlog
import trio

from service.redis.address import Connector
from service.redis.faults import FAULTS, MalformedReply, Refusal, reason
from service.redis.link import ask_all, open_link
from service.redis.resp import Command
from service.redis.succession import field

from .names import Names, ordinary

EVERY: Final = 30.0
"""Seconds between two looks."""
SOON: Final = 2.0
"""The same, where Redis was out of reach or rights were missing."""
LOOK_SECONDS: Final = 5.0
FULL: Final = 0.9
"""The part of `maxmemory` from which a Redis counts as nearly full."""
DOCS: Final = "docs/how-to/deploy-split.md"

_RIGHTS: Final = (
    "HSET {} f v",
    "HGET {} f",
    "HMGET {} f",
    "HGETALL {}",
    "HDEL {} f",
    "HINCRBY {} f 1",
    "HRANDFIELD {} 1",
    "GET {}",
    "SET {} v XX",
    "EXISTS {}",
    "EXPIRE {} 1",
    "PEXPIRE {} 1000",
    "PERSIST {}",
    "PTTL {}",
    "SADD {} m",
    "SREM {} m",
    "SMEMBERS {}",
    "SISMEMBER {} m",
    "ZADD {} XX 1 m",
    "ZREM {} m",
    "ZSCORE {} m",
    "ZCARD {}",
    "ZRANGE {} 0 0",
    "ZRANGEBYSCORE {} 0 0",
    "RPUSH {} v",
    "LRANGE {} 0 0",
    "LTRIM {} 0 0",
    "XADD {} NOMKSTREAM * f v",
    "XLEN {}",
    "XRANGE {} - + COUNT 1",
    "XTRIM {} MAXLEN 1",
    "XDEL {} 1-1",
    "XACK {} g 1-1",
    "XAUTOCLAIM {} g c 1 0 COUNT 1",
    "XREADGROUP GROUP g c COUNT 1 STREAMS {} 0",
    "XGROUP DESTROY {} g",
    "XINFO CONSUMERS {} g",
    "DEL {}",
)
"""Every command on keys that a node uses, in a form that leaves nothing behind; `{}` is a key that is no other's."""


class Checks:
    """What one node finds out about its Redis. For metrics: `evicted` keys, `used` and `most` (0: any) bytes of memory.

    `trouble` says which rights are missing (a sentence), or None; `warnings` are sentences for operators.
    """

    def __init__(
        self, connector: Connector, names: Names, log: structlog.typing.FilteringBoundLogger | None = None
    ) -> None:
        self._connector = connector
        self._names = names
        self._log = log
        self._allowed = False  # all rights are there; they are looked at no more
        self.trouble: str | None = None
        self.warnings: tuple[str, ...] = ()
        self.evicted = 0
        self.used = 0
        self.most = 0

    async def run(self) -> None:
        """Look now and then, until cancelled. Each warning is logged when it is new. Cancelling is safe."""
        while True:
            reached = True
            try:
                await self.look()
            except FAULTS:
                reached = False  # whatever needs Redis says so
            await trio.sleep(EVERY if reached and self.trouble is None else SOON)

    async def look(self) -> None:
        """Look once. Raises one of FAULTS within LOOK_SECONDS where Redis is out of reach."""
        with trio.fail_after(LOOK_SECONDS):
            stream = await open_link(self._connector, "portico-checks")
            try:
                origin = self._connector.origin(stream)
                missing = [] if self._allowed else await self._missing(stream)
                info = b"" if "INFO" in missing else await _info(stream)
            finally:
                await trio.aclose_forcefully(stream)
            missing += [] if self._allowed else await self._deaf_to()
        self._allowed = not missing
        trouble = None
        if missing:
            trouble = (
                f"Redis's user lacks rights: {', '.join(missing)}; what it needs is in {DOCS}, under Redis's rights."
            )
            if trouble != self.trouble and self._log is not None:
                self._log.error("Redis's user lacks rights", missing=missing)
        self.trouble = trouble
        if info:
            self._warn(tuple(self._dangers(info, several=bool(origin))))

    def _warn(self, warnings: tuple[str, ...]) -> None:
        for warning in warnings:
            if warning not in self.warnings and self._log is not None:
                self._log.warning("Redis may lose what it has accepted", reason=warning)
        self.warnings = warnings

    def _dangers(self, info: bytes, *, several: bool) -> Iterable[str]:
        """What this Redis may do that loses something, each as a sentence."""
        policy = field(info, b"maxmemory_policy").decode("ascii", "replace")
        evicted, before = int(field(info, b"evicted_keys") or 0), self.evicted
        self.evicted = evicted
        self.used, self.most = (int(field(info, name) or 0) for name in (b"used_memory", b"maxmemory"))
        if policy.startswith("allkeys"):
            yield (
                f"maxmemory-policy is {policy}: when it is full it throws away anything: histories (clients that "
                "resume are told), logins, what webhooks have yet to deliver, and revocations, which then hold only "
                "where a node lives that knew them; set noeviction."
            )
        elif policy not in ("noeviction", ""):
            yield (
                f"maxmemory-policy is {policy}: when it is full it throws away histories, and clients that resume are "
                "told that something is lost; set noeviction."
            )
        if evicted > before:
            yield "It is throwing keys away for want of memory (evicted_keys grows): give it more, or let it keep less."
        if field(info, b"aof_enabled") == b"0":
            yield (
                "It keeps no append-only file: a restart loses all history, logins and ids; set appendonly yes, and "
                "appendfsync always where not even the last second may be lost."
            )
        if several and not field(info, b"min_slaves_good_slaves"):
            yield (
                "min-replicas-to-write is not set: what a master accepts that has just been replaced is lost (clients "
                "are told); set min-replicas-to-write 1 and min-replicas-max-lag 10."
            )
        if self.most and policy == "noeviction" and self.used > FULL * self.most:
            yield "It is nearly full (maxmemory): soon durable pushes and logins will be refused."

    async def _missing(self, stream: trio.abc.Stream) -> list[str]:
        """The commands that Redis's user may not use."""
        key = self._names.scratch
        commands: list[Command] = [tuple(key if word == "{}" else word for word in one.split()) for one in _RIGHTS]
        commands += [("TIME",), ("EVAL", "return 1", 0), ("SCRIPT", "LOAD", "return 1"), ("INFO", "server")]
        commands.append((self._names.publish, self._names.inbox("nobody"), b""))
        missing: list[str] = []
        for command in commands:
            if await _is_denied(stream, command):
                word = command[0].decode() if isinstance(command[0], bytes) else str(command[0])
                missing.append(word)
        return missing

    async def _deaf_to(self) -> list[str]:
        """The channels that Redis's user may not subscribe to."""
        missing: list[str] = []
        ours = self._names.inbox("nobody")
        for channel, shown in ((ours, self._names.channels_shown), (ordinary(""), "&notifications:*")):
            verb = "SSUBSCRIBE" if self._names.is_sharded(channel) else "SUBSCRIBE"
            stream = await open_link(self._connector, "portico-checks")
            try:
                if await _is_denied(stream, (verb, channel)):
                    missing.append(f"{verb} to {shown}")
            finally:
                await trio.aclose_forcefully(stream)
        return missing


async def _is_denied(stream: trio.abc.Stream, command: Command) -> bool:
    try:
        await ask_all(stream, [command])
    except Refusal as refusal:
        return refusal.word == "NOPERM"
    return False


async def _info(stream: trio.abc.Stream) -> bytes:
    sections = ("memory", "stats", "persistence", "replication")
    answers = await ask_all(stream, [("INFO", section) for section in sections])
    if not all(isinstance(answer, bytes) for answer in answers):
        raise MalformedReply("INFO without a text")
    return b"\r\n".join(answer for answer in answers if isinstance(answer, bytes))


async def examine(connector: Connector, names: Names) -> list[str]:
    """What to warn of before a gateway starts on this Redis, as sentences. Takes some seconds at most."""
    checks = Checks(connector, names)
    try:
        await checks.look()
    except FAULTS as error:
        return [f"Redis cannot be used: {reason(error, LOOK_SECONDS)}."]
    return [*([checks.trouble] if checks.trouble else []), *(f"Redis: {warning}" for warning in checks.warnings)]
