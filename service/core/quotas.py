"""Quotas: how much an address, a user or a tenant may have or do, over all nodes of a deployment.

Counting is local and costs a dictionary look-up: nothing waits for another node. What was counted is settled with the
others in batches (`due`, `settled`), and then this node knows what they have counted. The rule of a rate is the token
bucket's, with bursts of two seconds: what was taken beyond the burst is owed, and nothing more passes until it is paid
off. So over time no more than the rate passes, however many nodes there are; and in one moment, in which the nodes
don't know of one another yet, at most one burst on each of them. Of connections, too many can be open only until the
nodes have settled: then those that came last are closed.

For example, `messages` of 100 a second for each `user`, on three nodes: a user who sends to all of them at once gets at
most 600 through, then none until those are paid off, 100 a second after that.

Knows no clock, no other node and no storage. Where nobody settles, a node keeps the quotas by itself alone. What is
remembered is bounded: REMEMBERED holders of each kind; the count of the one that was quiet for longest is forgotten.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault

from .connections.session import Session
from .hosts import network
from .ports import Monotonic
from .proof import Proof

KINDS: Final = ("connections", "handshakes", "messages", "bytes", "pushes", "requests")
HOLDERS: Final = ("address", "user", "tenant")
BURST_SECONDS: Final = 2.0
REMEMBERED: Final = 50_000
RETRY_AFTER: Final = 5.0
"""Seconds that who has too many connections is asked to wait."""
RENEW: Final = 5.0
"""Seconds after which a node says again how many connections it has of a holder."""


class Quota(NamedTuple):
    """`amount` of `kind` (one of KINDS: connections at a time, everything else a second) for each `holder`."""

    kind: str
    holder: str
    amount: int


class Who(NamedTuple):
    """The holders that something counts for, as far as they are known."""

    address: str | None = None
    user: str | None = None
    tenant: str | None = None


class Share(NamedTuple):
    """What one node says of one holder. `used`: taken since it said so last, or, of connections, open now."""

    kind: str
    holder: str
    name: str
    used: float
    amount: int


class Rate:
    """What one holder has taken of a rate. `level`: what is owed, as of `at`."""

    __slots__ = ("at", "level", "unsettled")

    def __init__(self, now: float) -> None:
        self.level = 0.0
        self.at = now
        self.unsettled = 0.0


class Open:
    """The connections of one holder: here, and at the other nodes as of the last settling."""

    __slots__ = ("elsewhere", "fresh", "sessions", "told")

    def __init__(self) -> None:
        self.sessions: dict[Session, None] = {}
        self.elsewhere = 0
        self.fresh = 0  # opened since the last `due`, so in no share yet
        self.told = 0  # opened before that, and in a share that is not settled yet


@dataclass(slots=True)
class _Rule:
    place: int  # the holder's in Who
    quota: Quota
    rates: OrderedDict[str, Rate]
    dirty: list[str]


class Quotas:
    """The quotas of one node. All amounts are whole numbers, more than 0."""

    def __init__(self, quotas: Iterable[Quota], now: Monotonic) -> None:
        self._now = now
        self._rules: dict[str, list[_Rule]] = {kind: [] for kind in KINDS}
        for quota in quotas:
            self._rules[quota.kind].append(_Rule(HOLDERS.index(quota.holder), quota, OrderedDict(), []))
        self._open: dict[tuple[str, str], Open] = {}
        self._dirty: dict[tuple[str, str], None] = {}
        self._renewed = now()
        self.refused: dict[tuple[str, str], int] = {}
        """How often something was refused, by kind and holder."""
        self.alone = False
        """Whether the other nodes' counts are not known now."""

    def has(self, *kinds: str) -> bool:
        """Whether there is a quota of any of these kinds."""
        return any(self._rules[kind] for kind in kinds)

    # Rates

    def take(self, kind: str, who: Who, amount: float = 1) -> float:
        """Take `amount` from every holder in `who` that has a quota of this kind, or from none. Returns 0, or the
        seconds to wait because one of them has nothing left."""
        now = self._now()
        found: list[tuple[_Rule, str, Rate]] = []
        for rule in self._rules[kind]:
            name = who[rule.place]
            if name is None:
                continue
            if rule.place == 0:
                name = network(name)
            rate = self._rate(rule, name, now)
            speed = rule.quota.amount
            rate.level = max(0.0, rate.level - (now - rate.at) * speed)
            rate.at = now
            over = rate.level - (BURST_SECONDS * speed - 1)
            if over > 0:
                self._count(rule.quota)
                return over / speed
            found.append((rule, name, rate))
        for rule, name, rate in found:
            if not rate.unsettled:
                rule.dirty.append(name)
            rate.level += amount
            rate.unsettled += amount
        return 0.0

    def check(self, kind: str, who: Who, amount: float = 1) -> None:
        """`take`, or a PeerFault that says when to come again."""
        wait = self.take(kind, who, amount)
        if wait:
            raise over_quota(kind, wait)

    def _rate(self, rule: _Rule, name: str, now: float) -> Rate:
        rates = rule.rates
        rate = rates.get(name)
        if rate is None:
            if len(rates) >= REMEMBERED:
                rates.popitem(last=False)
            rate = rates[name] = Rate(now)
        else:
            rates.move_to_end(name)
        return rate

    def _count(self, quota: Quota) -> None:
        self.refused[quota.kind, quota.holder] = self.refused.get((quota.kind, quota.holder), 0) + 1

    # Connections

    def has_room(self, who: Who) -> bool:
        """Whether one more connection may come."""
        for rule in self._rules["connections"]:
            name = who[rule.place]
            if name is None:
                continue
            found = self._open.get((rule.quota.holder, network(name) if rule.place == 0 else name))
            if found is not None and len(found.sessions) + found.elsewhere >= rule.quota.amount:
                self._count(rule.quota)
                return False
        return True

    def opened(self, session: Session, who: Who) -> bool:
        """Count a connection for `who`: a new one, or one of which it is known only now whose it is. Returns whether it
        may stay; it is counted either way, until `closed`."""
        stays = True
        for rule in self._rules["connections"]:
            name = who[rule.place]
            if name is None:
                continue
            key = (rule.quota.holder, network(name) if rule.place == 0 else name)
            found = self._open.get(key)
            if found is None:
                found = self._open[key] = Open()
            if session in found.sessions:
                continue
            if len(found.sessions) + found.elsewhere >= rule.quota.amount:
                self._count(rule.quota)
                stays = False
            found.sessions[session] = None
            found.fresh += 1
            self._dirty[key] = None
        return stays

    def closed(self, session: Session, who: Who, *, but: Who | None = None) -> None:
        """Count a connection no more: it is over, or somebody else's now. `but`: the new ones; for a holder that is the
        same as before it goes on counting."""
        for rule in self._rules["connections"]:
            name = who[rule.place]
            if name is None or (but is not None and but[rule.place] == name):
                continue
            key = (rule.quota.holder, network(name) if rule.place == 0 else name)
            found = self._open.get(key)
            if found is not None and session in found.sessions:
                del found.sessions[session]
                found.fresh = min(found.fresh, len(found.sessions))
                found.told = min(found.told, len(found.sessions) - found.fresh)
                self._dirty[key] = None

    # Settling with the other nodes

    def due(self, limit: int) -> list[Share]:
        """At most `limit` shares that the other nodes have not been told. The caller tells them, and then calls
        `settled`, or `kept` if that failed."""
        shares: list[Share] = []
        for kind, rules in self._rules.items():
            for rule in rules:
                if kind == "connections":
                    continue
                while rule.dirty and len(shares) < limit:
                    name = rule.dirty.pop()
                    rate = rule.rates.get(name)
                    if rate is not None and rate.unsettled:
                        shares.append(Share(kind, rule.quota.holder, name, rate.unsettled, rule.quota.amount))
                        rate.unsettled = 0.0
        return shares + self._due_connections(limit - len(shares))

    def _due_connections(self, limit: int) -> list[Share]:
        now = self._now()
        amounts = {rule.quota.holder: rule.quota.amount for rule in self._rules["connections"]}
        if now - self._renewed >= RENEW:
            self._renewed = now
            self._dirty.update(dict.fromkeys(self._open))
        shares = []
        for key in list(islice(self._dirty, limit)):
            del self._dirty[key]
            found = self._open[key]
            found.told, found.fresh = found.told + found.fresh, 0
            shares.append(Share("connections", *key, len(found.sessions), amounts[key[0]]))
        return shares

    def settled(self, shares: Sequence[Share], totals: Sequence[float]) -> list[Session]:
        """The other nodes were told these shares. `totals`, one for each: what is owed of the rate over all nodes, or
        how many connections the others have. Returns the sessions that are too many, for the caller to close: those
        that came last to this node."""
        now = self._now()
        self.alone = False
        surplus: list[Session] = []
        for share, total in zip(shares, totals, strict=True):
            if share.kind == "connections":
                surplus += self._settled_connections(share, int(total))
                continue
            for rule in self._rules[share.kind]:
                rate = rule.rates.get(share.name)
                if rule.quota.holder == share.holder and rate is not None:
                    rate.level, rate.at = total + rate.unsettled, now
                    if not rate.level:
                        del rule.rates[share.name]
        return surplus

    def _settled_connections(self, share: Share, elsewhere: int) -> list[Session]:
        key = (share.holder, share.name)
        found = self._open.get(key)
        if found is None:
            return []
        found.elsewhere = elsewhere
        # Sessions that were opened since `due` are judged after the next settling.
        said = list(found.sessions)[: len(found.sessions) - found.fresh]
        over = min(len(said) + elsewhere - share.amount, found.told)
        found.told = 0
        if not found.sessions and key not in self._dirty:
            del self._open[key]
        return said[-over:] if over > 0 else []

    def kept(self, shares: Sequence[Share]) -> None:
        """The other nodes could not be told these shares: this node goes by its own counts until they can."""
        self.alone = True
        for share in shares:
            if share.kind == "connections":
                found = self._open.get((share.holder, share.name))
                if found is not None:
                    # What others had is not known any more, and nobody is refused for what is not known.
                    found.elsewhere = 0
                    found.fresh, found.told = found.fresh + found.told, 0
                    self._dirty[share.holder, share.name] = None
                continue
            for rule in self._rules[share.kind]:
                rate = rule.rates.get(share.name)
                if rule.quota.holder == share.holder and rate is not None:
                    if not rate.unsettled:
                        rule.dirty.append(share.name)
                    rate.unsettled += share.used

    def owed(self, share: Share) -> float:
        """What is owed of a rate as far as this node knows."""
        for rule in self._rules[share.kind]:
            rate = rule.rates.get(share.name)
            if rule.quota.holder == share.holder and rate is not None:
                return max(0.0, rate.level - (self._now() - rate.at) * rule.quota.amount)
        return 0.0

    @property
    def remembered(self) -> int:
        """Of how many holders something is known."""
        return len(self._open) + sum(len(rule.rates) for rules in self._rules.values() for rule in rules)

    def sessions_of(self, holder: str, name: str) -> Mapping[Session, None]:
        """The connections that count for one holder here."""
        found = self._open.get((holder, name))
        return {} if found is None else found.sessions


def who_is(session: Session) -> Who:
    """Whose a session is. Who has shown an API key, or is a worker, is the operator's own, and has no quota."""
    if session.trusted or session.worker is not None:
        return Who()
    proof = session.proof
    user = session.identity.user_id
    if proof is not None:
        return who_proves(proof, session.address, user)
    # Without a proof the user counts apart from the proven user of that name. No name has such a character.
    return Who(session.address, None if user is None else f"\0{user}")


def who_proves(proof: Proof, address: str, user: str | None = None) -> Who:
    """Whose a connection from there is that proves this; `user` where the proof names none. A tenant's user is apart
    from those of her name in others."""
    user = proof.user_id or user
    return Who(address, user if proof.tenant is None or user is None else f"{proof.tenant}\0{user}", proof.tenant)


def over_quota(kind: str, wait: float, *, close: bool = False) -> PeerFault:
    """The fault for what is beyond a quota."""
    return PeerFault(
        ErrorCode.RATE_LIMITED,
        f"There are too many {kind} from here: wait {wait:.1f} s.",
        close=CloseCode.RATE_LIMITED if close else None,
        retry_after=wait,
    )
