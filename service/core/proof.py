"""Proof: what a connection has proven about who it is, and what it may register as and do.

A proof comes from a token, from the operator's connect hook or from an API key; who checked it, and how, is not known
here. It answers one question: may a connection with this proof register as that identity, call or serve that command?
A claim that is absent restricts nothing, but for the user: a proof names its user, and a registration under another
user's id is refused (4003), as is one without any where the proof has none either.

For example, a token with `"sub": "ann", "channel_id": ["news", "team-*"]` may register as user `ann`, under any
`client_id`, in the channels `news` and `team-7`, and not in `board`.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final, Literal, NamedTuple, Protocol

from msgspec import Struct

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Identity

from .reply import Reply

Cause = Literal[
    "too_long",
    "malformed",
    "algorithm",
    "unknown_key",
    "signature",
    "claims",
    "expired",
    "not_yet",
    "issuer",
    "audience",
    "missing",
    "other_user",
    "role",
    "revoked",
    "hook",
    "hook_failed",
    "worker_secret",
]
"""Why a proof is not accepted, for metrics and logs."""

Role = Literal["client", "worker", "requester", "admin"]
ROLES: Final[tuple[Role, ...]] = ("client", "worker", "requester", "admin")
PATTERN_FIELDS: Final = ("client_id", "node_id", "domain_id", "cluster_id", "channel_id")
"""The identity fields that a claim of the same name may restrict."""

Patterns = tuple[str, ...]
"""What a claim allows: exact values, in which `*` stands for any run of characters."""


class Caused(PeerFault):
    """A refusal of a caller, of which more is told than its code."""

    cause: str


class NotProven(Caused):
    """No proof, or one that doesn't hold (4001). `cause` is one of a fixed set; `message` never has the token in it."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(ErrorCode.UNAUTHORIZED, message, close=CloseCode.NOT_AUTHENTICATED)
        self.cause: Cause = cause


class KeyAwaited(Caused):
    """The key of a token is not known here, and is being fetched (1013): the token may hold in a moment."""

    def __init__(self) -> None:
        super().__init__(
            ErrorCode.UNAVAILABLE,
            "The key of this token is not known here yet, and is being fetched; try again in a moment.",
            close=CloseCode.TRY_LATER,
        )
        self.cause = "key_awaited"


def cause_of(fault: PeerFault) -> str:
    """Why somebody was refused, in one word, for metrics and the audit log."""
    return fault.cause if isinstance(fault, Caused) else fault.code.value


class Tokens(Protocol):
    """Who checks tokens."""

    def verify(self, token: str) -> "Proof":
        """Check a token, and return what it proves. Raises NotProven, or KeyAwaited. Never waits."""


class Presented(NamedTuple):
    """What a connection shows to the connect hook. `headers` are those that the hook wants, by lower-case name;
    `message` is the first message, None where it doesn't speak first."""

    path: str
    query: str
    address: str
    headers: Mapping[str, str]
    message: bytes | None = None


class ConnectHook(Protocol):
    """The operator's program that says who connections are."""

    @property
    def headers(self) -> Collection[str]:
        """Which of a handshake's headers it is shown, by lower-case name."""

    def ask(self, presented: Presented, reply: "Reply[Proof | PeerFault | None]") -> Callable[[], None]:
        """Ask who a connection is. `reply` gets a Proof; or a PeerFault that closes, because the hook refuses it or
        could not tell; or None: it has proven nothing. Never waits or raises. Returns a function to be called if the
        connection ends before the answer; then no answer is given."""


class Proof(Struct, frozen=True, gc=False):
    """Who a connection is, as somebody whom the operator trusts has said it.

    Times are Unix seconds. `fields` has the restricted identity fields only; `commands` None: every command.
    `expires_at` None: until the connection ends. (Thousands are remembered; with nothing in it that could lead back to
    it, the collector need not look at any.)
    """

    user_id: str | None = None
    role: Role = "client"
    fields: dict[str, Patterns] = {}
    commands: Patterns | None = None
    tenant: str | None = None
    token_id: str | None = None
    issued_at: float | None = None
    expires_at: float | None = None

    @property
    def is_operator(self) -> bool:
        """Whether it may be anybody: an admin of no tenant. One of a tenant is held to its claims, like a client, since
        the user that it named might be another tenant's."""
        return self.role == "admin" and self.tenant is None

    def identity(self, asked: Identity) -> Identity:
        """The identity that a registration for `asked` gets: the proven user, and what else was asked for.

        An absent `user_id` is filled in from the proof. Raises PeerFault (4003) for what the proof doesn't allow.
        """
        if asked.user_id is not None and asked.user_id != self.user_id:
            raise not_allowed("user_id")
        self.check_fields(asked)
        if asked.user_id == self.user_id:
            return asked
        return Identity(
            asked.client_id,
            self.user_id,
            asked.username,
            asked.node_id,
            asked.domain_id,
            asked.cluster_id,
            asked.channel_id,
        )

    def check_fields(self, asked: Identity) -> None:
        """Raises PeerFault (4003) for a field that it restricts and doesn't allow."""
        for name, allowed in self.fields.items():
            value: str | None = getattr(asked, name)
            if value is not None and not matches(allowed, value):
                raise not_allowed(name)

    def may_use(self, command: str) -> bool:
        """Whether it may call (a requester, a client) or serve (a worker) this command."""
        return self.commands is None or matches(self.commands, command)

    def covers_commands(self, commands: Collection[str] | None) -> bool:
        """Whether it may use all of these (None: every command)."""
        if self.commands is None:
            return True
        return commands is not None and all(map(self.may_use, commands))

    def renewed_by(self, other: "Proof") -> bool:
        """Whether a refreshed token is the same principal's: the same user, role and tenant.

        A refresh lengthens what there is. It never makes one user another on an open connection.
        """
        return (self.user_id, self.role, self.tenant) == (other.user_id, other.role, other.tenant)


def not_allowed(name: str) -> PeerFault:
    """The fault for an identity field that the proof doesn't cover. It doesn't say what would be allowed."""
    return PeerFault(
        ErrorCode.FORBIDDEN,
        f"The token doesn't allow this {name}; register as what it names.",
        field=name,
        close=CloseCode.NOT_ALLOWED,
    )


def matches(allowed: Patterns, value: str) -> bool:
    """Whether a value is one of those allowed, exactly or by a pattern with `*`."""
    return any(pattern == value or ("*" in pattern and _fits(pattern, value)) for pattern in allowed)


def _fits(pattern: str, value: str) -> bool:
    # Not a regular expression: patterns come in tokens, and a backtracking `a*a*a*b` takes exponential time. Taking
    # each part at its first place is enough for `*`, and takes no longer than the value times the pattern.
    first, *middle, last = pattern.split("*")
    if len(value) < len(first) + len(last) or not value.startswith(first) or not value.endswith(last):
        return False
    at, end = len(first), len(value) - len(last)
    for part in middle:
        found = value.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
