"""Hub: the index of registered sessions, by each field of their identity.

Knows sessions only as things with an identity; never a dialect, a socket or a clock. An address (`user_id` u1, for
example) leads to one session, and from the second on to a dict of sessions: most addresses have one holder, and a dict
for each would take more memory than the session. Dicts keep the order of arrival. The text of an address is kept once,
however many sessions have it.
"""

from collections.abc import Collection, Iterator
from typing import Final

from msgspec.structs import force_setattr

from portico.wire.messages import ADDRESS_FIELDS, Identity, Target

from .session import Session

Holder = Session | dict[Session, None]


class Hub:
    """The index of registered sessions. All calls are O(1) in the number of connections, but `find` copies
    nothing: iterate over what it gives before anything else can run, or take a copy."""

    def __init__(self) -> None:
        self._everybody: dict[Session, None] = {}
        self._by: Final[dict[str, dict[str, Holder]]] = {kind: {} for kind in ADDRESS_FIELDS}

    def __len__(self) -> int:
        return len(self._everybody)

    def __contains__(self, session: Session) -> bool:
        return session in self._everybody

    def __iter__(self) -> Iterator[Session]:
        return iter(self._everybody)

    def add(self, session: Session, identity: Identity) -> None:
        """Index a session under every address of `identity`; one that is there is moved to the new ones."""
        if session in self._everybody:
            self._unlink(session)
        else:
            self._everybody[session] = None
        session.identity = identity
        for kind, holders in self._by.items():
            value: str | None = getattr(identity, kind)
            if value is None:
                continue
            holder = holders.get(value)
            if holder is None:
                holders[value] = session
                continue
            if isinstance(holder, Session):
                first = holder
                holders[value] = {holder: None, session: None}
            else:
                first = next(iter(holder))
                holder[session] = None
            # The two texts are equal, so only memory changes: the name of a channel of thousands is kept once.
            force_setattr(identity, kind, getattr(first.identity, kind))

    def remove(self, session: Session) -> bool:
        """Forget a session; False if it isn't there."""
        if session not in self._everybody:
            return False
        del self._everybody[session]
        self._unlink(session)
        return True

    def _unlink(self, session: Session) -> None:
        for kind, holders in self._by.items():
            value: str | None = getattr(session.identity, kind)
            if value is None:
                continue
            holder = holders[value]
            if isinstance(holder, Session):
                del holders[value]
                continue
            del holder[session]
            if len(holder) == 1:
                holders[value] = next(iter(holder))

    def addresses(self, kind: str) -> Collection[str]:
        """All addresses of a kind that somebody has."""
        return self._by[kind].keys()

    def find(self, target: Target) -> Collection[Session]:
        """The sessions that a target means; empty if there are none."""
        if target.kind == "all":
            return self._everybody
        holder = self._by[target.kind].get(target.value)
        if holder is None:
            return ()
        if isinstance(holder, Session):
            return (holder,)
        return holder

    def same_client(self, identity: Identity) -> list[Session]:
        """Sessions with the same `client_id`, `user_id` and `node_id`: the same client, connected before."""
        if identity.client_id is None:
            return []
        return [
            session
            for session in self.find(Target("client_id", identity.client_id))
            if session.identity.user_id == identity.user_id and session.identity.node_id == identity.node_id
        ]
