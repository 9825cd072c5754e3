"""The logins of one process: in memory, at once, gone with the process.

Promises what `service.core.push.login_store` does. Several nodes of one process may share one.
"""

from portico.wire.faults import PeerFault
from service.core.deadlines import DeadlineWheel
from service.core.ports import Monotonic
from service.core.push import login_store
from service.core.push.login_store import FEEDBACK_KEPT, Feedback, Login, too_many
from service.core.reply import Reply


class MemoryLoginStore:
    """Logins by id and by user."""

    def __init__(self, *, now: Monotonic) -> None:
        self._now = now
        self._by_id: dict[str, Login] = {}
        self._by_user: dict[str, dict[str, Login]] = {}
        self._deadlines: DeadlineWheel[str] = DeadlineWheel(1.0)

    @property
    def active(self) -> int:
        """How many logins there are."""
        return len(self._by_id)

    @property
    def empty(self) -> bool:
        """Whether nothing at all is held; for tests of what is left behind."""
        return not (self._by_id or self._by_user or len(self._deadlines))

    def start(self, login: Login, ttl: float, reply: Reply[PeerFault | None]) -> None:
        """Keep a login."""
        if len(self._by_id) >= login_store.LIMIT:
            reply(too_many())
            return
        self._by_id[login.session_id] = login
        self._by_user.setdefault(login.user_id, {})[login.session_id] = login
        self._deadlines.add(login.session_id, self._now() + ttl)
        reply(None)

    def get(self, session_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """The login of that id."""
        reply(self._by_id.get(session_id))

    def of_user(self, user_id: str, reply: Reply[list[Login] | PeerFault]) -> None:
        """A user's logins, oldest first."""
        reply(list(self._by_user.get(user_id, {}).values()))

    def current(self, user_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """The user's login that was started last."""
        reply(self._current(user_id))

    def _current(self, user_id: str) -> Login | None:
        logins = self._by_user.get(user_id)
        return next(reversed(logins.values())) if logins else None

    def end(self, session_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """Forget a login."""
        reply(self._forget(session_id))

    def _forget(self, session_id: str) -> Login | None:
        login = self._by_id.pop(session_id, None)
        if login is None:
            return None
        self._deadlines.discard(session_id)
        of_user = self._by_user[login.user_id]
        del of_user[session_id]
        if not of_user:
            del self._by_user[login.user_id]
        return login

    def report(
        self, user_id: str, session_id: str | None, feedback: Feedback, reply: Reply[str | PeerFault | None]
    ) -> None:
        """Record feedback."""
        login = self._current(user_id) if session_id is None else self._by_id.get(session_id)
        if login is None or login.user_id != user_id:
            reply(None)
            return
        login.feedback.append(feedback)
        del login.feedback[:-FEEDBACK_KEPT]
        reply(login.session_id)

    def expired(self, reply: Reply[list[Login] | PeerFault]) -> None:
        """Forget logins whose time is over."""
        over = [self._forget(session_id) for session_id in self._deadlines.expire(self._now())]
        reply([login for login in over if login is not None])
