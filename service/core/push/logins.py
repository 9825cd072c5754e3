"""Logins: a back end says that a user is logged in, and the user's clients log in by themselves.

Starting a login pushes `auto_login` to the user's clients, ending it `logout_notification`, and then whatever the back
end has said is to be pushed as well (`on_logout`), since clients may know the end of a login by another name. For
example, a web site starts one when a user signs in; each of the user's clients gets `auto_login`, signs in, and reports
how that went, which is recorded and pushed to the user's other clients. (A *session* is a connection; a user's session
at a back end is a *login*, although its id is called `session_id` on the wire.)

Nothing here waits: what takes a round trip is answered by a Reply. A client that registers at the moment when its user
is logged in may get the same `auto_login` twice: in the answer to its registration, and as one of the user's clients.
Source: protocol reference, "C-Client dialect" (the pushes) and
"HTTP API" (the rest).
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

from msgspec import Raw

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Event, encode

from ..connections.session import Session
from ..ports import Monotonic, Wall
from ..reply import Reply
from .login_store import Feedback, Login, LoginStore, LogoutEvent
from .user_push import UserPush

SWEEP: Final = 1.0
"""Seconds between two looks for logins that have expired."""

GREETING: Final = "Automatic login"
"""What `auto_login` says where the login was made without a message."""
Ending = Literal["logout", "expired", "revoked"]
_MESSAGES: Final[dict[Ending, str]] = {
    "logout": "You have been logged out",
    "expired": "Your session has expired",
    "revoked": "Your session was revoked",
}


class Logins:
    """The active logins, as one node deals with them."""

    def __init__(
        self, store: LoginStore, users: UserPush, *, now: Monotonic, wall: Wall, make_id: Callable[[], str]
    ) -> None:
        self.store: Final = store
        self._users = users
        self._now = now
        self._wall = wall
        self._make_id = make_id
        self._sweeping = False
        self._next_sweep = 0.0

    def __len__(self) -> int:
        return self.store.active

    def start(
        self,
        user_id: str,
        username: str | None,
        session_data: Raw,
        ttl: float,
        extra: Mapping[str, Raw],
        reply: Reply[Login | PeerFault],
        *,
        message: str | None = None,
        on_logout: LogoutEvent | None = None,
    ) -> None:
        """Begin a login of `ttl` seconds and push `auto_login` to the user's clients.

        `message`: the text in `auto_login` (None: GREETING). `on_logout`: an event that is pushed when the login ends,
        for whatever reason.

        PeerFault `unavailable` where there are too many logins already, or too many pushes waiting, or the store or
        the other nodes are out of reach: then there is none (unless Redis has kept what it could not answer).
        """
        created = self._wall()
        login = Login(
            self._make_id(),
            user_id,
            username,
            session_data,
            created,
            created + ttl,
            dict(extra),
            message=message,
            on_logout=on_logout,
        )

        def kept(fault: PeerFault | None) -> None:
            if fault is None:
                self._users.push(user_id, self.auto_login(login), None, Reply(pushed))
            else:
                reply(fault)

        def pushed(fault: PeerFault | None) -> None:
            if fault is None:
                reply(login)
            else:
                self.store.end(login.session_id, Reply(lambda _: reply(fault)))

        self.store.start(login, ttl, Reply(kept))

    def get(self, session_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """The active login of that id."""
        self.store.get(session_id, reply)

    def of_user(self, user_id: str, reply: Reply[list[Login] | PeerFault]) -> None:
        """The user's active logins, oldest first."""
        self.store.of_user(user_id, reply)

    def current(self, user_id: str | None, reply: Reply[Login | None]) -> None:
        """The user's current login: the one that was started last. None also where the store is out of reach."""
        if user_id is None:
            reply(None)
        else:
            self.store.current(user_id, Reply(lambda found: reply(found if isinstance(found, Login) else None)))

    def greeting(self, user_id: str, reply: Reply[Event | None]) -> None:
        """What a client of this user's is sent when it registers: the push that logs it in, if there is a login."""

        def found(login: Login | PeerFault | None) -> None:
            reply(self.auto_login(login) if isinstance(login, Login) else None)

        self.store.current(user_id, Reply(found))

    def end(self, session_id: str, reason: Ending, reply: Reply[Login | PeerFault | None]) -> None:
        """End a login and push `logout_notification`, and its `on_logout`; None if there is no such login.

        PeerFault `unavailable` where too many pushes wait; the login is over all the same. Or where the store is
        out of reach.
        """

        def ended(found: Login | PeerFault | None) -> None:
            if isinstance(found, Login):
                self._tell_ended(found, reason, Reply(lambda fault: reply(fault or found)))
            else:
                reply(found)

        self.store.end(session_id, Reply(ended))

    def _tell_ended(self, login: Login, reason: Ending, reply: Reply[PeerFault | None]) -> None:
        """Push the end of a login. `reply` gets the first refusal; the second push is made all the same."""

        def told(fault: PeerFault | None) -> None:
            if login.on_logout is None:
                reply(fault)
                return
            besides = Event(login.on_logout.type, login.on_logout.data)
            self._users.push(login.user_id, besides, None, Reply(lambda other: reply(fault or other)))

        self._users.push(login.user_id, self._logout(login, reason), None, Reply(told))

    def _logout(self, login: Login, reason: Ending) -> Event:
        data: dict[str, object] = dict(login.extra)
        data |= {
            "session_id": login.session_id,
            "user_id": login.user_id,
            "username": login.username,
            "reason": reason,
            "message": _MESSAGES[reason],
            "timestamp": self._wall(),
        }
        return Event("logout_notification", Raw(encode(data)))

    def expire(self, now: float) -> None:
        """End the logins whose time is over, once a second. For a ticker; `now` on the monotonic clock."""
        if self._sweeping or now < self._next_sweep:
            return
        self._sweeping = True

        def expired(found: list[Login] | PeerFault) -> None:
            self._sweeping = False
            if isinstance(found, PeerFault) or not found:
                return
            # There may be more.
            self._next_sweep = now
            for login in found:
                # One notice that finds no room must not keep the other logins alive.
                self._tell_ended(login, "expired", Reply(lambda _: None))

        self._next_sweep = now + SWEEP
        self.store.expired(Reply(expired))

    def auto_login(self, login: Login) -> Event:
        """The push that logs a client in."""
        data: dict[str, object] = dict(login.extra)
        data |= {
            "session_id": login.session_id,
            "user_id": login.user_id,
            "username": login.username,
            "session_data": login.session_data,
            "message": GREETING if login.message is None else login.message,
            "timestamp": self._wall(),
            "expires_at": login.expires_at,
        }
        return Event("auto_login", Raw(encode(data)))

    def report(
        self,
        session: Session,
        session_id: str | None,
        success: bool,
        message: str | None,
        refused: Callable[[PeerFault], None],
    ) -> None:
        """A client says how its automatic login went: recorded, and pushed to the user's other clients.

        `refused` is called with a PeerFault `not_found` if its user has no such login, or `unavailable`.
        """
        user_id = session.identity.user_id
        feedback = Feedback(session.identity.client_id, success, message, self._wall())

        def pushed(fault: PeerFault | None) -> None:
            if fault is not None:
                refused(fault)

        def recorded(found: str | PeerFault | None) -> None:
            if isinstance(found, PeerFault):
                refused(found)
            elif found is None or user_id is None:
                refused(PeerFault(ErrorCode.NOT_FOUND, "Your user has no such login session.", field="session_id"))
            else:
                data = {
                    "session_id": found,
                    "user_id": user_id,
                    "client_id": feedback.client_id,
                    "success": success,
                    "message": message,
                    "timestamp": feedback.timestamp,
                }
                self._users.push(user_id, Event("session_feedback", Raw(encode(data))), session, Reply(pushed))

        if user_id is None:
            recorded(None)
        else:
            self.store.report(user_id, session_id, feedback, Reply(recorded))
