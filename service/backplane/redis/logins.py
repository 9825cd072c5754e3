"""The login sessions of a deployment, in Redis. Promises what `service.core.push.login_store` does.

Of each session there is a hash (its user, and what it is as JSON) and a list of the feedback on it; an index for each
user, in the order of starting; and one over all, by the moment at which they expire, on Redis' own clock. Every call
is one script, so nothing is ever seen half done, and a session that several nodes end or find expired at once is given
to one of them. Nothing has a TTL of Redis' own: a session that vanished by itself could not be said to be over.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, TypeVar

import msgspec

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import encode
from service.core.push import login_store
from service.core.push.login_store import FEEDBACK_KEPT, Feedback, Login, too_many
from service.core.reply import Reply

CLAIMED_AT_ONCE: Final = 100
"""Expired sessions that one call takes."""

T = TypeVar("T")

_UNREADABLE: Final = (msgspec.MsgspecError, TypeError, ValueError)
_login = msgspec.json.Decoder(Login)
_feedback = msgspec.json.Decoder(Feedback)

# What the scripts share. ARGV[1] is the prefix.
_SHARED: Final = """
local prefix = ARGV[1]
local all = prefix .. 'logins'
local function of_user(user) return prefix .. 'logins:' .. user end
local function at(id) return prefix .. 'login:' .. id end
local function feedback_on(id) return prefix .. 'login-feedback:' .. id end
local function look_up(id)
    local login = redis.call('HGET', at(id), 'login')
    return login and {login, redis.call('LRANGE', feedback_on(id), 0, -1)}
end
local function current(user)
    return redis.call('ZRANGE', of_user(user), -1, -1)[1]
end
local function forget(id)
    local user = redis.call('HGET', at(id), 'user')
    if user then redis.call('ZREM', of_user(user), id) end
    redis.call('ZREM', all, id)
    redis.call('DEL', at(id), feedback_on(id))
end
local function now()
    local time = redis.call('TIME')
    return time[1] + time[2] / 1000000
end
"""
_START: Final = (
    _SHARED
    + """
local id, user, login, ttl, limit = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if redis.call('ZCARD', all) >= tonumber(limit) then return 0 end
local last = redis.call('ZRANGE', of_user(user), -1, -1, 'WITHSCORES')
redis.call('HSET', at(id), 'user', user, 'login', login)
redis.call('ZADD', of_user(user), (last[2] or 0) + 1, id)
redis.call('ZADD', all, now() + ttl, id)
return 1
"""
)
_GET: Final = _SHARED + "return look_up(ARGV[2])"
_CURRENT: Final = (
    _SHARED
    + """
local id = current(ARGV[2])
return id and look_up(id)
"""
)
_OF_USER: Final = (
    _SHARED
    + """
local found = {}
for _, id in ipairs(redis.call('ZRANGE', of_user(ARGV[2]), 0, -1)) do
    found[#found + 1] = look_up(id) or nil
end
return found
"""
)
_END: Final = (
    _SHARED
    + """
local found = look_up(ARGV[2])
forget(ARGV[2])
return found
"""
)
_REPORT: Final = (
    _SHARED
    + """
local user, id, feedback, kept = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if id == '' then id = current(user) end
if not id or redis.call('HGET', at(id), 'user') ~= user then return false end
redis.call('RPUSH', feedback_on(id), feedback)
redis.call('LTRIM', feedback_on(id), -kept, -1)
return id
"""
)
_EXPIRED: Final = (
    _SHARED
    + """
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', all, '-inf', now(), 'LIMIT', 0, ARGV[2])) do
    found[#found + 1] = look_up(id) or nil
    forget(id)
end
return {redis.call('ZCARD', all), found}
"""
)


class Send(Protocol):
    """Has Redis carry out a command; `done` is called once, with the answer or an exception that says why not."""

    def __call__(self, *words: bytes | str | int, done: Callable[[object], None]) -> None: ...


class RedisLoginStore:
    """Login sessions that all nodes share. `send` keeps the order of what it is given, and gives up in time;
    `prefix`: what the names of all keys begin with."""

    def __init__(self, send: Send, prefix: str) -> None:
        self._send = send
        self._prefix = prefix
        self._active = 0

    @property
    def active(self) -> int:
        """How many sessions there were, over all nodes, when this one last looked for expired ones."""
        return self._active

    def start(self, login: Login, ttl: float, reply: Reply[PeerFault | None]) -> None:
        """Keep a session."""

        def read(answer: object) -> PeerFault | None:
            return None if answer else too_many()

        words = (login.session_id, login.user_id, encode(login), repr(ttl), login_store.LIMIT)
        self._run(_START, words, read, reply)

    def get(self, session_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """The session of that id."""
        self._run(_GET, (session_id,), _read_one, reply)

    def of_user(self, user_id: str, reply: Reply[list[Login] | PeerFault]) -> None:
        """A user's sessions, oldest first."""
        self._run(_OF_USER, (user_id,), _read_many, reply)

    def current(self, user_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """A user's session that was started last."""
        self._run(_CURRENT, (user_id,), _read_one, reply)

    def end(self, session_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """Forget a session."""
        self._run(_END, (session_id,), _read_one, reply)

    def report(
        self, user_id: str, session_id: str | None, feedback: Feedback, reply: Reply[str | PeerFault | None]
    ) -> None:
        """Record feedback."""

        def read(answer: object) -> str | None:
            return answer.decode() if isinstance(answer, bytes) else None

        if session_id == "":
            # To the script that would mean the current one.
            reply(None)
            return
        self._run(_REPORT, (user_id, session_id or "", encode(feedback), FEEDBACK_KEPT), read, reply)

    def expired(self, reply: Reply[list[Login] | PeerFault]) -> None:
        """Forget sessions whose time is over."""

        def read(answer: object) -> list[Login]:
            if not isinstance(answer, list):
                raise TypeError
            self._active, found = answer
            return _read_many(found)

        self._run(_EXPIRED, (CLAIMED_AT_ONCE,), read, reply)

    def _run(
        self,
        script: str,
        words: tuple[bytes | str | int, ...],
        read: Callable[[object], T],
        reply: Reply[T | PeerFault],
    ) -> None:
        def answered(answer: object) -> None:
            if isinstance(answer, Exception):
                reply(
                    PeerFault(ErrorCode.UNAVAILABLE, "The login sessions cannot be reached now; try again in a moment.")
                )
                return
            try:
                result: T | PeerFault = read(answer)
            except _UNREADABLE:
                result = PeerFault(ErrorCode.INTERNAL, "A login session is not kept as this version keeps them.")
            reply(result)

        # The script's text each time: Redis has it compiled, and after a restart of its there is nothing to mend.
        self._send("EVAL", script, 1, f"{self._prefix}logins", self._prefix, *words, done=answered)


def _read_one(answer: object) -> Login | None:
    if answer is None:
        return None
    if not isinstance(answer, list):
        raise TypeError
    encoded, feedback = answer
    login = _login.decode(encoded)
    login.feedback = [_feedback.decode(report) for report in feedback]
    return login


def _read_many(answer: object) -> list[Login]:
    if not isinstance(answer, list):
        raise TypeError
    logins = []
    for found in answer:
        # One that another version, or another program, wrote must not hide the others.
        with suppress(*_UNREADABLE):
            logins.append(_read_one(found))
    return [login for login in logins if login is not None]
