"""API keys: the secrets of back ends, each with a name and the scopes that say what it opens.

A key is kept as the SHA-256 of its text and never as the text: a key that Portico makes has 256 random bits, so its
hash can't be reversed by guessing. Finding a key compares with every hash there is, each in constant time, so the time
taken tells nothing of any of them.

For example, a key with the scopes `publish` and `logins` pushes and starts logins; on any other route it is refused
with 403, which names the scope that is missing. `admin` stands for all scopes.

Knows no file and no setting. Where keys come from a file that has changed, `replace` puts others in force.
Source: HTTP API reference, "Who may".
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault

Scope = Literal["publish", "request", "clients:read", "clients:kick", "logins", "metrics", "worker", "admin"]
SCOPES: Final[tuple[Scope, ...]] = (
    "publish",
    "request",
    "clients:read",
    "clients:kick",
    "logins",
    "metrics",
    "worker",
    "admin",
)
MAX_KEYS: Final = 100
"""Keys that a node may have: each presented key is compared with all of them."""
MIN_LENGTH: Final = 16
"""Characters that a key must have at least."""
MAX_SHOWN: Final = 1024
"""Characters of a presented key that are looked at; a longer one is none of ours."""
HASH: Final = "sha256:"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class BadKeyLine(ValueError):
    """A line that describes no key; the text is one sentence, without the key."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. `name` is for people and the audit log; `digest` the SHA-256 of the secret."""

    name: str
    scopes: frozenset[Scope]
    digest: bytes

    def may(self, scope: Scope) -> bool:
        """Whether the key opens what wants this scope."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def line(self) -> str:
        """The key as a line of a file, or an item of PORTICO_API_KEYS."""
        scopes = "+".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{self.name} {scopes} {HASH}{self.digest.hex()}"


def digest_of(secret: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def is_line(text: str) -> bool:
    """Whether an item of PORTICO_API_KEYS describes a key by its hash, and is none itself."""
    return HASH in text and len(text.split()) > 1


def parse_line(text: str) -> ApiKey:
    """The key that `name scope+scope sha256:<64 hex digits>` describes. Raises BadKeyLine."""
    fields = text.split()
    if len(fields) != 3:
        raise BadKeyLine(f"has {len(fields)} fields instead of 3: a name, scopes joined by +, and {HASH}<hash>")
    name, scopes, digest = fields
    if not _NAME.fullmatch(name):
        raise BadKeyLine("has a name that is not 1 to 64 letters, digits, dots, hyphens or underscores")
    named = scopes.split("+")
    if not set(named) <= set(SCOPES):
        raise BadKeyLine(f"has a scope that does not exist; the scopes are {', '.join(SCOPES)}")
    hexed = digest.removeprefix(HASH)
    if not digest.startswith(HASH) or not _DIGEST.fullmatch(hexed):
        raise BadKeyLine(f"has no hash: write {HASH} and 64 hexadecimal digits (portico token key prints the line)")
    return ApiKey(name, frozenset(cast("list[Scope]", named)), bytes.fromhex(hexed))


def parse_file(text: str) -> tuple[ApiKey, ...]:
    """The keys of a file: a line each, in which `#` begins a comment. Raises BadKeyLine, naming the line."""
    keys: list[ApiKey] = []
    for number, line in enumerate(text.splitlines(), start=1):
        described = line.partition("#")[0].strip()
        if not described:
            continue
        try:
            keys.append(parse_line(described))
        except BadKeyLine as bad:
            raise BadKeyLine(f"Line {number} {bad}.") from None
    _check_together(keys)
    return tuple(keys)


def _check_together(keys: Collection[ApiKey]) -> None:
    names = [key.name for key in keys]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadKeyLine(f"The name {twice} stands for several keys: give each its own.")
    if len(keys) > MAX_KEYS:
        raise BadKeyLine(f"There are {len(keys)} keys; at most {MAX_KEYS} are taken.")


def whole_key(secret: str, name: str) -> ApiKey:
    """A key with every scope, of which only the secret is known."""
    return ApiKey(name, frozenset(SCOPES), digest_of(secret))


class ApiKeys:
    """The keys in force. `fixed` stay as they are; those of `replace` come beside them.

    `configured`: there are keys, or there is a place where they are to come from. Then nobody gets in without one, also
    while there is none: taking the last key away closes a gateway, and doesn't open it.
    """

    def __init__(self, fixed: Iterable[ApiKey | str] = (), *, configured: bool = False) -> None:
        """Of a key given as text, only the secret is known: it opens everything. Empty ones are left out."""
        given = [key for key in fixed if key]
        self._fixed: Final = tuple(
            whole_key(key, f"key-{number}") if isinstance(key, str) else key
            for number, key in enumerate(given, start=1)
        )
        self.configured: Final = configured or bool(self._fixed)
        self._keys = self._fixed
        self.on_change: Callable[[], object] = lambda: None
        self.version = 0
        """Counts the changes: what was decided under another version has to be decided anew."""

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, keys: Collection[ApiKey]) -> None:
        """Put other keys beside the fixed ones. `on_change` is called."""
        self._keys = (*self._fixed, *keys)
        self.version += 1
        self.on_change()

    def __contains__(self, key: ApiKey) -> bool:
        return key in self._keys

    def find(self, secret: str | None) -> ApiKey | None:
        """The key that this is. Every key is compared, in constant time."""
        if not secret or len(secret) > MAX_SHOWN:
            return None
        shown = digest_of(secret)
        found: ApiKey | None = None
        for key in self._keys:
            if hmac.compare_digest(shown, key.digest):
                found = key
        return found


def bearer(authorization: str | None) -> str | None:
    """The secret that an Authorization header bears; None where it bears none."""
    if authorization is None:
        return None
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def lacks(scope: Scope) -> PeerFault:
    """The fault where a key that exists doesn't open what it is shown for."""
    return PeerFault(ErrorCode.FORBIDDEN, f"This API key lacks the scope {scope}.", close=CloseCode.NOT_ALLOWED)
