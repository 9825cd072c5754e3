"""Registration: how a connection gets its identity, and loses it.

The one owner of the rule who may register, who is replaced, how many connections a user may have, and from when pushes
reach a connection. A dialect calls `register` with an identity; what comes of it is told to the Registrant it named:

1. *May it?* An older connection of the same client is replaced (or the newer refused, by policy); a user at the limit
   of connections is refused.
2. *Join.* The session is in the hub at once, and the backplane is asked for what its targets get. Until that is
   answered everything sent to the session is held, so nothing overtakes what it missed.
3. *Check.* Once it has joined, other nodes are told of it (`takeover`), and counted with.
4. *Answer.* The Registrant is told, and the journal says that it is registered.
5. *Replay.* What it missed goes out, and then what was held, each only as fast as the client takes it: for example a
   client on a slow link that missed 100 MB never has more than some hundred KB of it waiting. Pushes that come
   meanwhile are held behind; answers to what it says are not.

In one process all of it happens within the call. Over Redis a session may register again before it was answered:
every registration is answered, in order, each with what it was owed, in every mode the same.

Positions in an answer are safe: whatever happens next, a client that resumes from them misses nothing. There are three
cases. A stream with a replay: the offset that the client named; the replayed events move it on. A stream that the
session had under its identity before, too: an offset before the first event that still waits, or UNKNOWN where a gap is
told right behind the answer. A stream whose position nobody knows, because Redis is away: the offset that the client
named, or UNKNOWN; the session gets a `stream_gap` with positions as soon as they are known.

A gap from before a session had joined is part of its answer (`lost`), and is not told after it: a client that went back
to the gap's position would get from the next node, a second time, what was replayed to it here.

Source: protocol reference, "C-Client dialect" and "What is promised".
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Final, Literal, Protocol

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.messages import Event, Identity, stream_of, targets_of

from ..cluster.backplane import Joined, StreamPositions
from ..cluster.cluster_messages import ClusterMessages
from ..ports import Monotonic, Wall
from ..reply import Reply
from .ahead import Ahead
from .authentication import same_principal
from .held import Held, HeldMessage, Replay
from .hub import Hub
from .registrant import UNANSWERED, Refusal, Registered, Registrant
from .returns import Returns, client_of
from .session import Session, State
from .takeover import REPLACED, SessionTakeover, principal
from .unknown_positions import UnknownPositions

UNKNOWN: Final = -1
"""Stands for a position that nobody knows: a client that resumes from it is told that something may be lost."""
TOO_MANY: Final = "this user is at the limit of connections"

DuplicatePolicy = Literal["replace", "keep", "allow"]


@dataclass(frozen=True, slots=True)
class RegistrationRules:
    """`duplicates`: what becomes of two connections of one client; `per_user`: connections of a user (0: any)."""

    duplicates: DuplicatePolicy = "replace"
    per_user: int = 0


class RegistrationObserver(Protocol):
    """Who is told that connections are registered."""

    def on_registered(self, session: Session, identity: Identity) -> None:
        """The session was told that it is registered. (`session.identity` differs if it has registered again since.)"""


class Greetings(Protocol):
    """What a user's client is sent when it registers."""

    def greeting(self, user_id: str, reply: Reply[Event | None]) -> None:
        """The event; None where there is none, or nobody can tell."""


class _Registering:
    """One registration that is not answered yet."""

    __slots__ = (
        "checked",
        "greeted",
        "greeting",
        "identity",
        "joined",
        "kept",
        "refusal",
        "registrant",
        "resume",
        "superseded",
        "targets",
    )

    def __init__(
        self, identity: Identity, registrant: Registrant, resume: StreamPositions | None, kept: Collection[str]
    ) -> None:
        self.identity = identity
        self.targets = targets_of(identity)
        self.registrant = registrant
        self.resume = resume
        self.kept = kept  # streams of the session's identity before, which go on without a break
        self.joined: Joined | None = None
        self.greeting: Event | None = None
        self.greeted = True
        self.checked = False
        self.refusal: Refusal | None = None
        self.superseded = False  # by a later one, before this one had joined: its targets are left once it has

    @property
    def complete(self) -> bool:
        """Whether it can be answered."""
        return self.refusal is not None or (self.joined is not None and self.greeted and self.checked)

    @property
    def accounted(self) -> Mapping[str, int]:
        """The streams that the answer gives whole, each with the offset up to which it does: its end when the session
        joined. Not the `kept` ones, unless the client named them."""
        if self.joined is None:
            return {}
        named = () if self.resume is None else self.resume.offsets
        return {s: at for s, at in self.joined.offsets.items() if s in named or s not in self.kept}

    def begins(self, stream: str, held: Held | None) -> int | None:
        """The offset after which the replay of a stream begins; None if the client named no position in it."""
        if self.resume is None or self.joined is None or stream not in self.resume.offsets:
            return None
        after = self.resume.offsets[stream]
        return after if held is None else held.begins(stream, after, self.joined.epoch)

    def owed(self, held: Held) -> list[Event]:
        """The missed events that no earlier answer has given."""
        joined = self.joined
        assert joined is not None
        first = {stream: self.begins(stream, held) or 0 for stream in joined.missed}
        return [e for stream, events in joined.missed.items() for e in events if (e.offset or 0) > first[stream]]

    def account(self, held: Held) -> None:
        """It is answered: note what the answer gives of each stream, so that it is not given again."""
        joined = self.joined
        assert joined is not None
        accounted = self.accounted
        after = {stream: self.begins(stream, held) for stream in joined.missed}
        held.on_answered(joined.epoch)
        for stream, offset in accounted.items():
            begins = after.get(stream)
            held.account_for(stream, offset if begins is None else begins, offset)


class Registration:
    """The way into the hub and out of it."""

    def __init__(
        self,
        hub: Hub,
        cluster_messages: ClusterMessages,
        greetings: Greetings,
        positions: UnknownPositions,
        ahead: Ahead,
        observer: RegistrationObserver,
        *,
        rules: RegistrationRules,
        now: Monotonic,
        wall: Wall,
    ) -> None:
        self._hub = hub
        self.returns: Final = Returns(now=now)
        self._backplane = cluster_messages.backplane
        self._greetings = greetings
        self._positions = positions
        self._ahead = ahead
        self._observer = observer
        self._rules: Final = rules
        self._wall = wall
        self.takeover: Final = SessionTakeover(hub, cluster_messages, self, limit=rules.per_user)

    def register(
        self,
        session: Session,
        identity: Identity,
        registrant: Registrant = UNANSWERED,
        *,
        resume: StreamPositions | None = None,
        replaces: bool = False,
        duplicates: DuplicatePolicy | None = None,
        greet: bool = False,
    ) -> None:
        """Register a session as `identity` from now on, or refuse it; `registrant` is told which, exactly once, unless
        the session ends before.

        `resume`: where the client left off. `replaces`: only one connection of this client (the same client, user, node
        and dialect) stays among those that were registered with it; the policy `duplicates`, or else the rules', says
        which. `greet`: the user's greeting (`auto_login`) is part of the answer.
        """
        if session.over:
            return
        policy = duplicates or self._rules.duplicates
        refusal = self._refusal(session, identity, policy if replaces else "allow")
        if refusal is not None:
            self._refuse(session, identity, registrant, refusal)
            return
        before = self._joining(session)
        had = targets_of(session.identity) if session in self._hub else ()
        kept = {stream_of(target) for target in had} if had else ()
        registering = _Registering(identity, registrant, resume, kept)
        session.move(State.JOINING)
        session.registered_at = None
        if had:
            self._positions.forget(session)  # those of the identity before; a new session has none
        session.unique = replaces
        session.replaceable = replaces and policy == "replace"
        held = session.held
        if held is not None:
            held.expect(registering)
        self._hub.add(session, identity)
        if greet and identity.user_id is not None and self._backplane.trouble is None:
            registering.greeted = False
            self._greetings.greeting(identity.user_id, Reply(partial(self._on_greeting, session, registering)))
        self._backplane.join(registering.targets, resume, Reply(partial(self._on_joined, session, registering)))
        # Only after the join, so that a target of both identities stays joined throughout.
        if before is not None:
            before.superseded = True  # its targets are left later: left now, what it missed would not be read
        elif had:
            self._backplane.leave(had)
        if held is None and not session.over:
            self._begin(session, registering)

    def _begin(self, session: Session, registering: _Registering) -> None:
        """Answer at once where that is possible, as in one process; else begin to hold what comes."""
        joined = registering.joined
        if registering.complete and not (joined is not None and joined.missed):
            self._answered(session, registering)
        else:
            session.held = held = Held()
            held.expect(registering)
            self._proceed(session)

    def _answered(self, session: Session, registering: _Registering) -> None:
        try:
            self._answer(session, registering)
            if not session.over:
                session.move(State.REGISTERED)
        except Exception as error:
            session.owner.on_error(session, error)
            session.close(CloseCode.INTERNAL, "internal error")

    def _joining(self, session: Session) -> _Registering | None:
        """The registration under the session's present identity, if it has not joined yet."""
        for item in reversed(session.held.items) if session.held is not None else ():
            if isinstance(item, _Registering) and item.identity is session.identity:
                return item if item.joined is None else None
        return None

    def refuse(self, session: Session, identity: Identity, registrant: Registrant, refusal: Refusal) -> None:
        """Answer a registration that the dialect refuses by itself, in its turn."""
        self._refuse(session, identity, registrant, refusal)

    def forget(self, session: Session) -> None:
        """The session is found no more; one that isn't there is ignored."""
        self._positions.forget(session)
        self._ahead.forget(session)
        if self._hub.remove(session):
            self._backplane.leave(targets_of(session.identity))

    # May it?

    def _refusal(self, session: Session, identity: Identity, duplicates: DuplicatePolicy) -> Refusal | None:
        returns = self.returns
        wait = returns.wait(client_of(identity, session.handler.name, principal(session))) if returns else 0.0
        if wait and not (session in self._hub and session.identity == identity):
            return self._too_often(wait)
        if duplicates != "allow":
            for other in self._hub.same_client(identity):
                if other is session or other.over or not other.unique or other.handler is not session.handler:
                    continue
                if not same_principal(session, other):
                    continue
                if duplicates == "keep":
                    return Refusal(
                        "already_connected", "This client is connected already; close that connection first."
                    )
                self.on_replaced(other)
        if self.takeover.is_full_here(session, identity.user_id):
            return self._too_many()
        return None

    def _too_often(self, wait: float) -> Refusal:
        self.returns.refused += 1
        again = f"try again in {ceil(wait)} s"
        message = f"This client was replaced or kicked too often; is there another of this client_id? Else {again}."
        return Refusal(ErrorCode.RATE_LIMITED, message, CloseCode.TRY_LATER, f"replaced or kicked too often; {again}")

    def _too_many(self) -> Refusal:
        self.takeover.refused += 1
        limit = self._rules.per_user
        message = f"This user is at the limit of {limit} connections; close one of them first."
        return Refusal(ErrorCode.RATE_LIMITED, message, CloseCode.TRY_LATER, TOO_MANY)

    def _refuse(self, session: Session, identity: Identity, registrant: Registrant, refusal: Refusal) -> None:
        registering = _Registering(identity, registrant, None, ())
        registering.refusal = refusal
        if session.held is None:
            self._answer(session, registering)
        else:
            session.held.expect(registering)

    def on_replaced(self, session: Session) -> None:
        """A newer connection of this client is here, or at another node."""
        self.on_put_out(session)
        self.forget(session)
        session.close(CloseCode.REPLACED, REPLACED)

    def on_put_out(self, session: Session) -> None:
        """A session is about to be closed, since its client was replaced or kicked: count that."""
        self.returns.on_put_out(client_of(session.identity, session.handler.name, principal(session)))

    # Join, check

    def _on_greeting(self, session: Session, registering: _Registering, greeting: Event | None) -> None:
        registering.greeting = greeting
        registering.greeted = True
        self._proceed(session)

    def _on_joined(self, session: Session, registering: _Registering, joined: Joined) -> None:
        registering.joined = joined
        if registering.superseded:
            self._backplane.leave(registering.targets)
        if session.over:
            return
        self._account_for(session, registering, joined)
        if session.identity is not registering.identity:
            registering.checked = True  # an identity that is over already: only the present one is claimed and counted
        else:
            session.registered_at = self._wall()
            self.takeover.claim(session)
            if session.over:
                return
            if self._rules.per_user and registering.identity.user_id is not None:
                self.takeover.count(session, Reply(partial(self._on_counted, session, registering)))
            else:
                registering.checked = True
        self._proceed(session)

    def _ask_again(self, session: Session, registering: _Registering) -> None:
        """Join once more: the epoch has ended since the first join, and the answer before this one is of the new epoch.
        Positions of the old epoch would lead the client back."""
        registering.joined = None
        # The targets are joined already (or left again); this join is left at once, and asks for positions only.
        reply = Reply(partial(self._on_joined_again, session, registering))
        self._backplane.join(registering.targets, registering.resume, reply)
        self._backplane.leave(registering.targets)

    def _on_joined_again(self, session: Session, registering: _Registering, joined: Joined) -> None:
        registering.joined = joined
        if not session.over:
            self._account_for(session, registering, joined)
            self._proceed(session)

    def _account_for(self, session: Session, registering: _Registering, joined: Joined) -> None:
        """Note what the answer will give and what the client has had already: neither is sent after the answer."""
        if joined.ahead or session in self._ahead.sessions:
            self._ahead.note(session, registering.resume, joined)
        self._positions.account_for(session, registering.targets, registering.accounted)

    def _on_counted(self, session: Session, registering: _Registering, others: int) -> None:
        registering.checked = True
        if others >= self._rules.per_user and session.identity is registering.identity and not session.over:
            registering.refusal = self._too_many()
        self._proceed(session)

    # Answer

    def _proceed(self, session: Session) -> None:
        """Answer what can be answered, and send what was held behind it, in order."""
        held = session.held
        if held is None or session.over:
            return
        try:
            while held.items and not session.over:
                item = held.items[0]
                if isinstance(item, _Registering):
                    if not item.complete:
                        return
                    if held.answered and item.joined is not None and self._is_over(item.joined.epoch, held.epoch):
                        self._ask_again(session, item)
                        return
                    held.take()
                    # What is sent now goes out at once.
                    session.held = None
                    self._answer(session, item, held)
                    if session.over:
                        return
                    session.held = held
                    if item.refusal is None:
                        owed = item.owed(held)
                        item.account(held)
                        if owed:
                            held.replay(owed)
                elif session.peer.has_backlog:
                    if not held.waits_for_room:
                        held.waits_for_room = True
                        session.peer.when_room(partial(self._on_room, session, held))
                    return
                elif isinstance(item, Replay):
                    if item.events:
                        frame = session.handler.push(item.events.popleft())
                        if frame is not None:
                            session.peer.send(frame)
                    else:
                        held.take()
                else:
                    assert isinstance(item, HeldMessage)
                    held.take()
                    if held.owes(item):
                        session.peer.send(item.frame)
            if not session.over:
                session.held = None
                session.move(State.REGISTERED)
        except Exception as error:
            session.owner.on_error(session, error)
            session.close(CloseCode.INTERNAL, "internal error")

    def _is_over(self, epoch: str, answered: str) -> bool:
        """Whether an epoch, in which a session has joined, has ended, and the answer before was of another epoch."""
        return epoch != answered and epoch != self._backplane.epoch

    def _on_room(self, session: Session, held: Held) -> None:
        held.waits_for_room = False
        if session.held is held:
            self._proceed(session)

    def _answer(self, session: Session, registering: _Registering, held: Held | None = None) -> None:
        refusal, identity, registrant = registering.refusal, registering.identity, registering.registrant
        if refusal is not None:
            registrant.on_refused(session, identity, refusal)
            if refusal.close is not None:
                self.forget(session)
                session.close(refusal.close, refusal.closing)
            return
        registrant.on_registered(session, identity, self._registered(session, registering, held))
        if not session.over:
            self._observer.on_registered(session, identity)

    def _registered(self, session: Session, registering: _Registering, held: Held | None) -> Registered:
        joined, resume = registering.joined, registering.resume
        assert joined is not None
        named = resume.offsets if resume is not None and resume.epoch == joined.epoch else {}
        if not (registering.kept or joined.missed) and len(joined.offsets) == len(registering.targets):
            # Nothing is on its way: it begins where its streams are.
            return Registered(joined.epoch, joined.offsets, joined.lost, joined.recovered, registering.greeting)
        waiting = held.first_offsets() if held is not None else {}
        ahead = self._ahead.offsets(session, joined.epoch)
        offsets: dict[str, int] = {}
        unknown: set[str] = set()
        for target in registering.targets:
            stream = stream_of(target)
            position = joined.offsets.get(stream)
            begins = registering.begins(stream, held)
            if position is None:
                offsets[stream] = named.get(stream, UNKNOWN)
                unknown.add(stream)
                continue
            if stream in joined.missed and begins is not None:
                offsets[stream] = min(position, begins)
                continue
            if stream in registering.kept:
                position = self._positions.before_what_waits(session, target, position, waiting.get(stream))
                if position == UNKNOWN:
                    offsets[stream] = UNKNOWN  # the gap behind this answer says where it goes on
                    continue
            # Never before what the client has had already, from another node or behind an earlier answer.
            given = -1 if held is None else held.given_up_to(stream, joined.epoch)
            offsets[stream] = max(position, given, ahead.get(stream, -1))
        if unknown and session.identity is registering.identity:
            self._positions.note(session, registering.identity, unknown)
        return Registered(joined.epoch, offsets, joined.lost, joined.recovered, registering.greeting)
