"""Login sessions: a back end says that a user is logged in, and the user's clients log in by themselves.

Starting one pushes `auto_login` to the user's clients, ending one `logout_notification`; what a client
reports of its own login is recorded and pushed on to the user's other clients. Kept in memory, at most LIMIT of
them; what each keeps of feedback is bounded too. Source: protocol reference, "C-Client dialect" (the pushes) and
"HTTP API" (the rest).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Literal

from msgspec import Raw, Struct

from service.wire.codes import ErrorCode
from service.wire.faults import PeerFault
from service.wire.messages import Event, Target, encode

from .deadlines import DeadlineWheel
from .delivery import Delivery
from .ports import Monotonic, Wall
from .session import Session

LIMIT: Final = 100_000
FEEDBACK_KEPT: Final = 50

Ending = Literal["logout", "expired", "revoked"]
_MESSAGES: Final[dict[Ending, str]] = {
    "logout": "You have been logged out",
    "expired": "Your session has expired",
    "revoked": "Your session was revoked",
}


class Feedback(Struct, frozen=True):
    """What one client reported of its automatic login. `timestamp` in seconds since the epoch."""

    client_id: str | None
    success: bool
    message: str | None
    timestamp: float


class Login(Struct):
    """One login session. Times in seconds since the epoch; `extra` is passed on in `auto_login` as it came."""

    session_id: str
    user_id: str
    username: str | None
    session_data: Raw
    created_at: float
    expires_at: float
    extra: dict[str, Raw]
    feedback: list[Feedback] = []


class Logins:
    """The active login sessions of this gateway."""

    def __init__(self, delivery: Delivery, *, now: Monotonic, wall: Wall, make_id: Callable[[], str]) -> None:
        self._delivery = delivery
        self._now = now
        self._wall = wall
        self._make_id = make_id
        self._by_id: dict[str, Login] = {}
        self._by_user: dict[str, dict[str, Login]] = {}
        self._deadlines: DeadlineWheel[str] = DeadlineWheel(1.0)

    def __len__(self) -> int:
        return len(self._by_id)

    def start(
        self,
        user_id: str,
        username: str | None,
        session_data: Raw,
        ttl: float,
        extra: Mapping[str, Raw],
    ) -> Login:
        """Begin a session of `ttl` seconds and push `auto_login` to the user's clients.

        Raises PeerFault `unavailable` where there are LIMIT sessions already, or too many pushes waiting.
        """
        if len(self._by_id) >= LIMIT:
            raise PeerFault(
                ErrorCode.UNAVAILABLE, f"There are {LIMIT} login sessions already; end some or shorten ttl."
            )
        created = self._wall()
        login = Login(self._make_id(), user_id, username, session_data, created, created + ttl, dict(extra))
        self._by_id[login.session_id] = login
        self._by_user.setdefault(user_id, {})[login.session_id] = login
        self._deadlines.add(login.session_id, self._now() + ttl)
        try:
            self._delivery.deliver(Target("user_id", user_id), self.auto_login(login))
        except PeerFault:
            self._forget(login)
            raise
        return login

    def get(self, session_id: str) -> Login | None:
        """The active session of that id."""
        return self._by_id.get(session_id)

    def of_user(self, user_id: str) -> list[Login]:
        """The user's active sessions, oldest first."""
        return list(self._by_user.get(user_id, {}).values())

    def current(self, user_id: str | None) -> Login | None:
        """The user's current session: the one that was started last."""
        logins = self._by_user.get(user_id) if user_id is not None else None
        return next(reversed(logins.values())) if logins else None

    def end(self, session_id: str, reason: Ending) -> Login | None:
        """End a session and push `logout_notification`; None if there is no such session.

        Raises PeerFault `unavailable` where too many pushes wait; the session is over all the same.
        """
        login = self._by_id.get(session_id)
        if login is None:
            return None
        self._forget(login)
        data = {
            "session_id": login.session_id,
            "user_id": login.user_id,
            "username": login.username,
            "reason": reason,
            "message": _MESSAGES[reason],
            "timestamp": self._wall(),
        }
        event = Event("logout_notification", Raw(encode(data)))
        self._delivery.deliver(Target("user_id", login.user_id), event)
        return login

    def _forget(self, login: Login) -> None:
        del self._by_id[login.session_id]
        self._deadlines.discard(login.session_id)
        of_user = self._by_user[login.user_id]
        del of_user[login.session_id]
        if not of_user:
            del self._by_user[login.user_id]

    def expire(self, now: float) -> None:
        """End the sessions whose time is over. For a ticker; `now` on the monotonic clock."""
        for session_id in self._deadlines.expire(now):
            # One notice that finds no room must not keep the other sessions alive.
            with suppress(PeerFault):
                self.end(session_id, "expired")

    def auto_login(self, login: Login) -> Event:
        """The push that logs a client in."""
        data: dict[str, object] = dict(login.extra)
        data |= {
            "session_id": login.session_id,
            "user_id": login.user_id,
            "username": login.username,
            "session_data": login.session_data,
            "message": "Automatic login",
            "timestamp": self._wall(),
            "expires_at": login.expires_at,
        }
        return Event("auto_login", Raw(encode(data)))

    def report(self, session: Session, session_id: str | None, success: bool, message: str | None) -> None:
        """A client says how its automatic login went: recorded, and pushed to the user's other clients.

        Raises PeerFault `not_found` if its user has no such session.
        """
        user_id = session.identity.user_id
        login = self.current(user_id) if session_id is None else self._by_id.get(session_id)
        if login is None or login.user_id != user_id:
            raise PeerFault(ErrorCode.NOT_FOUND, "Your user has no such login session.", field="session_id")
        feedback = Feedback(session.identity.client_id, success, message, self._wall())
        login.feedback.append(feedback)
        del login.feedback[:-FEEDBACK_KEPT]
        data = {
            "session_id": login.session_id,
            "user_id": user_id,
            "client_id": feedback.client_id,
            "success": success,
            "message": message,
            "timestamp": feedback.timestamp,
        }
        event = Event("session_feedback", Raw(encode(data)))
        self._delivery.deliver(Target("user_id", login.user_id), event, skip=session)
