"""Revocations: which users, tokens and tenants are refused though their tokens have not expired.

A revocation names a user, a token (by its `jti`), a tenant, or all tokens that were issued before a moment. With a user
or a tenant it may be limited to tokens that were issued before a moment, so that the user can log in anew. A token that
doesn't say when it was issued counts as issued before any moment. A revocation holds for the time that it was given,
which should end when the last token that it means has expired. A later revocation of the same takes the earlier one's
place: for example, one that was made by mistake is ended by another that holds for a second.

Every node has all revocations in its memory, so asking costs a few look-ups, however many there are: nothing is asked
of Redis when somebody connects. There are at most LIMIT; one takes about 400 bytes at each node.

Where they are kept is a RevocationStore's affair; `LocalRevocations` is the one of a process alone.
Source: protocol reference, "Trust".
"""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Literal, Protocol

from msgspec import Struct

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault

from .proof import Proof
from .reply import Reply

LIMIT: Final = 200_000
"""Revocations that a deployment keeps at a time."""

Kind = Literal["user_id", "token_id", "tenant", "all"]
KINDS: Final[tuple[Kind, ...]] = ("user_id", "token_id", "tenant", "all")


class Revocation(Struct, frozen=True, array_like=True):
    """One thing that is taken back. Times in Unix seconds; `value` is empty for `all`, and then there is an
    `issued_before`."""

    kind: Kind
    value: str
    issued_before: float | None
    created_at: float
    expires_at: float

    @property
    def subject(self) -> str:
        """What it takes back, as text: a later one of the same subject takes its place."""
        return f"{self.kind}{':' if self.issued_before is None else '<'}{self.value}"


class RevocationObserver(Protocol):
    """Who is told of revocations."""

    def on_revoked(self, revocations: list[Revocation]) -> None:
        """These hold from now on, at every node. May be told again."""

    def known(self) -> list[Revocation]:
        """All that hold now, as far as is known here: for a store that has lost its own."""


class RevocationStore(Protocol):
    """Where a deployment keeps its revocations. Nothing here waits or raises.

    Each observer is told of every revocation that holds: of those that there are already, and within a second of those
    that other nodes add. While the store is out of reach, the revocations that a node knows go on holding.
    """

    @property
    def trouble(self) -> str | None:
        """Why this node can't know what was taken back, as a sentence; None once it has read all."""

    def attach(self, observer: RevocationObserver) -> None:
        """Say who is told."""

    def add(self, revocation: Revocation, reply: Reply[PeerFault | None]) -> None:
        """Keep one. PeerFault `unavailable`: the store is out of reach or full, and nothing was done."""

    def look(self) -> None:
        """Another node says that there is something new."""


class LocalRevocations:
    """The store of one process, whose nodes share it. It ends with the process, and the revocations with it."""

    trouble: Final = None

    def __init__(self) -> None:
        self._observers: list[RevocationObserver] = []

    def attach(self, observer: RevocationObserver) -> None:
        """Say who is told."""
        self._observers.append(observer)

    def add(self, revocation: Revocation, reply: Reply[PeerFault | None]) -> None:
        """Tell everybody, who keep it."""
        for observer in self._observers:
            observer.on_revoked([revocation])
        reply(None)

    def look(self) -> None:
        """There is nothing that was not told."""


class RevocationIndex:
    """The revocations that one node knows of."""

    def __init__(self) -> None:
        self._whole: dict[Kind, dict[str, Revocation]] = {kind: {} for kind in KINDS}
        self._before: dict[Kind, dict[str, Revocation]] = {kind: {} for kind in KINDS}
        self._ends: list[tuple[float, int, Revocation]] = []  # a heap; what was replaced stays in it for a while
        self._number = count()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Revocation]:
        for kinds in (self._whole, self._before):
            for revocations in kinds.values():
                yield from revocations.values()

    def __contains__(self, revocation: Revocation) -> bool:
        """Whether there is one of the same subject."""
        return revocation.value in self._of(revocation)

    def add(self, revocation: Revocation) -> bool:
        """Know of one more. False if it was known already."""
        revocations = self._of(revocation)
        before = revocations.get(revocation.value)
        if before == revocation:
            return False
        self._count += before is None
        revocations[revocation.value] = revocation
        heappush(self._ends, (revocation.expires_at, next(self._number), revocation))
        if len(self._ends) > 2 * self._count + 1000:
            self._ends = [(known.expires_at, next(self._number), known) for known in self]
            heapify(self._ends)
        return True

    def expire(self, now: float) -> None:
        """Forget those that are over. `now` is Unix time."""
        while self._ends and self._ends[0][0] <= now:
            revocation = heappop(self._ends)[2]
            revocations = self._of(revocation)
            if revocations.get(revocation.value) is revocation:
                del revocations[revocation.value]
                self._count -= 1

    def covers(self, proof: Proof) -> bool:
        """Whether what proves this was taken back."""
        if not self._count:
            return False
        if proof.token_id is not None and proof.token_id in self._whole["token_id"]:
            return True
        named: tuple[tuple[Kind, str | None], ...] = (
            ("user_id", proof.user_id),
            ("tenant", proof.tenant),
            ("all", ""),
        )
        for kind, value in named:
            if value is None:
                continue
            if value in self._whole[kind]:
                return True
            found = self._before[kind].get(value)
            if found is not None and _issued_before(proof, found.issued_before):
                return True
        return False

    def covers_user(self, user_id: str | None) -> bool:
        """Whether everything of this user's was taken back, whatever is proven."""
        return user_id is not None and user_id in self._whole["user_id"]

    def _of(self, revocation: Revocation) -> dict[str, Revocation]:
        return (self._whole if revocation.issued_before is None else self._before)[revocation.kind]


def _issued_before(proof: Proof, moment: float | None) -> bool:
    return moment is not None and (proof.issued_at is None or proof.issued_at < moment)


def too_many() -> PeerFault:
    """The fault for one revocation more than LIMIT."""
    return PeerFault(
        ErrorCode.UNAVAILABLE,
        f"There are {LIMIT} revocations already; take back a tenant, or all tokens issued before a moment, instead.",
    )
