"""The login sessions of a deployment, in Redis. Promises what `service.core.push.login_store` does.

Every call is one run of `logins.lua`, so nothing is ever seen half done, and a session that several nodes end or find
expired at once is given to one of them. Sessions expire on Redis' own clock. No key has a time to live: a session that
vanished by itself could not be said to be over.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import encode
from service.core.push import login_store
from service.core.push.login_store import FEEDBACK_KEPT, Feedback, Login, too_many
from service.core.reply import Reply
from service.redis.resp import Word
from service.redis.scripts import Send

from .scripts import LOGINS

CLAIMED_AT_ONCE: Final = 100
"""Expired sessions that one call takes."""

T = TypeVar("T")

_UNREADABLE: Final = (msgspec.MsgspecError, TypeError, ValueError)
_login = msgspec.json.Decoder(Login)
_feedback = msgspec.json.Decoder(Feedback)


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
        self._run("start", words, read, reply)

    def get(self, session_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """The session of that id."""
        self._run("get", (session_id,), _read_one, reply)

    def of_user(self, user_id: str, reply: Reply[list[Login] | PeerFault]) -> None:
        """A user's sessions, oldest first."""
        self._run("of_user", (user_id,), _read_many, reply)

    def current(self, user_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """A user's session that was started last."""
        self._run("current", (user_id,), _read_one, reply)

    def end(self, session_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """Forget a session."""
        self._run("end", (session_id,), _read_one, reply)

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
        self._run("report", (user_id, session_id or "", encode(feedback), FEEDBACK_KEPT), read, reply)

    def expired(self, reply: Reply[list[Login] | PeerFault]) -> None:
        """Forget sessions whose time is over."""

        def read(answer: object) -> list[Login]:
            if not isinstance(answer, list):
                raise TypeError
            self._active, found = answer
            return _read_many(found)

        self._run("expired", (CLAIMED_AT_ONCE,), read, reply)

    def _run(
        self,
        operation: str,
        words: tuple[Word, ...],
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

        keys = (f"{self._prefix}logins",)
        LOGINS.send(self._send, keys, (self._prefix, operation, *words), answered)


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
