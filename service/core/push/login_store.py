"""Login store: where the logins of a deployment are kept, as a port of the core's.

Nothing here waits or raises. Each call is answered by a Reply, maybe before the method has returned (in memory it
always is). What is asked of a store that is out of reach is refused with a PeerFault `unavailable` within PATIENCE
seconds; then it was not done, or its answer was lost.

What it promises: a login that was started is found by every node from then on, until it ends or expires. Of several
nodes that end it, or find it expired, one is given it, and that one tells the clients. At most LIMIT logins are kept,
and FEEDBACK_KEPT reports with each. Implementations live in `service/backplane`; one contract suite
(`tests/backplane/login_contract.py`) runs over all.
"""

from typing import Final, Protocol

from msgspec import Raw, Struct

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault

from ..reply import Reply

LIMIT: Final = 100_000
FEEDBACK_KEPT: Final = 50


class Feedback(Struct, frozen=True):
    """What one client reported of its automatic login. `timestamp` in seconds since the epoch."""

    client_id: str | None
    success: bool
    message: str | None
    timestamp: float


class LogoutEvent(Struct, frozen=True):
    """What the user's clients are pushed besides `logout_notification` when a login ends; `data` is a JSON object."""

    type: str
    data: Raw


class Login(Struct):
    """One login: a user's session at the back end. Times in seconds since the epoch; `extra` is passed on in
    `auto_login` and `logout_notification` as it came. `message`: what `auto_login` says, if not the gateway's words."""

    session_id: str
    user_id: str
    username: str | None
    session_data: Raw
    created_at: float
    expires_at: float
    extra: dict[str, Raw]
    feedback: list[Feedback] = []
    message: str | None = None
    on_logout: LogoutEvent | None = None


class LoginStore(Protocol):
    """Where logins are kept. See the module for what it promises."""

    @property
    def active(self) -> int:
        """How many logins there are, or were a moment ago."""

    def start(self, login: Login, ttl: float, reply: Reply[PeerFault | None]) -> None:
        """Keep a login for `ttl` seconds. PeerFault `unavailable` also where there are LIMIT already."""

    def get(self, session_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """The login of that id."""

    def of_user(self, user_id: str, reply: Reply[list[Login] | PeerFault]) -> None:
        """A user's logins, oldest first."""

    def current(self, user_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """The user's login that was started last."""

    def end(self, session_id: str, reply: Reply[Login | PeerFault | None]) -> None:
        """Forget a login; `reply` gets what it was. None: there was none, or somebody else has ended it."""

    def report(
        self, user_id: str, session_id: str | None, feedback: Feedback, reply: Reply[str | PeerFault | None]
    ) -> None:
        """Record feedback on a login of this user's (None: on the current one). `reply` gets its id; None: the user
        has no such session."""

    def expired(self, reply: Reply[list[Login] | PeerFault]) -> None:
        """Forget logins whose time is over; `reply` gets them, or some of them where there are many. Each is given to
        one caller only."""


def too_many() -> PeerFault:
    """The fault for one login more than LIMIT."""
    return PeerFault(ErrorCode.UNAVAILABLE, f"There are {LIMIT} login sessions already; end some or shorten ttl.")
