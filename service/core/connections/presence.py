"""Presence: who is connected to the deployment: totals, lists in pages, the workers; and kicking a client.

Each node answers for its own sessions. The node that is asked asks the others, and puts the answers together in the
order of the nodes' names. One node alone answers at once. Several answer within a second, and name the nodes that did
not answer. For example, `"missing_nodes": ["gw-2"]` in an answer says that the clients of gw-2 are not in it.

Different clients, users and nodes are counted over all nodes exactly while each has no more than NAMED of a kind;
beyond that, what is at several nodes counts at each.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from hashlib import blake2b
from itertools import islice
from typing import Final, NamedTuple, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from portico.wire.codes import CloseCode
from portico.wire.messages import ADDRESS_FIELDS, Target, encode

from ..cluster.cluster_messages import ClusterMessages
from ..cluster.survey import SurveyResult
from ..dispatch.dispatcher import Dispatcher
from ..dispatch.model import WorkerStatus
from ..ports import Wall
from ..reply import Reply
from .hub import Hub
from .session import Session

NAMED: Final = 1000
"""How many different clients, users or nodes a node names (by hashes) when it is asked how many are connected."""
KICKED: Final = "kicked by the operator"

T = TypeVar("T")

Missing = list[str] | None
"""None if all nodes have answered, else the names of those known that did not."""

_TESTS: Final[dict[str, Callable[[Session], str | None]]] = {
    "client_id": lambda session: session.identity.client_id,
    "user_id": lambda session: session.identity.user_id,
    "node_id": lambda session: session.identity.node_id,
    "domain_id": lambda session: session.identity.domain_id,
    "cluster_id": lambda session: session.identity.cluster_id,
    "channel_id": lambda session: session.identity.channel_id,
    "username": lambda session: session.identity.username,
    "dialect": lambda session: session.handler.name,
    "transport": lambda session: session.peer.transport,
    "role": lambda session: "client" if session.worker is None else "worker",
}
_COUNTED: Final = ("client_id", "user_id", "node_id")
FILTERS: Final = tuple(_TESTS)


class Distinct(Struct, frozen=True):
    """How many different clients, users and nodes the registered connections name."""

    clients: int = 0
    users: int = 0
    nodes: int = 0


class _Names(Struct, frozen=True):
    """How many different names there are at one node, and, unless they are many, what these are, as hashes."""

    count: int
    hashes: list[int] | None


class Totals(Struct, frozen=True):
    """How many are connected at one node, or at several."""

    total: int
    registered: int
    workers: int
    by_dialect: dict[str, int]
    by_transport: dict[str, int]
    closing: int = 0
    """Of those registered, how many are being closed."""
    names: dict[str, _Names] = {}
    """By kind of address. Only in what nodes tell one another."""


class Status(NamedTuple):
    """How many are connected, in all and at each node."""

    totals: Totals
    by_node: dict[str, int]
    missing: Missing
    distinct: Distinct


class Page(NamedTuple):
    """Some clients of those that were asked for, each as JSON, and how many these are."""

    clients: list[Raw]
    total: int
    missing: Missing


class Workers(NamedTuple):
    """The workers, with the nodes that they are connected to."""

    workers: list[tuple[str, WorkerStatus]]
    missing: Missing


class Kicked(NamedTuple):
    """How many connections were closed."""

    connections: int
    missing: Missing


class _Wanted(Struct, array_like=True):
    filters: dict[str, str]
    offset: int = 0
    limit: int = 0


_totals = msgspec.json.Decoder(Totals).decode
_wanted = msgspec.json.Decoder(_Wanted).decode
_count = msgspec.json.Decoder(int).decode
_rows = msgspec.json.Decoder(list[Raw]).decode
_statuses = msgspec.json.Decoder(list[WorkerStatus]).decode


class Presence:
    """Who is connected, here and elsewhere."""

    def __init__(
        self,
        hub: Hub,
        sessions: Mapping[Session, None],
        dispatcher: Dispatcher,
        cluster_messages: ClusterMessages,
        *,
        wall: Wall,
        on_kicked: Callable[[Session], None],
    ) -> None:
        self._hub = hub
        self._wall = wall
        self._on_kicked = on_kicked
        self._sessions = sessions
        self._dispatcher = dispatcher
        self._cluster_messages = cluster_messages
        cluster_messages.answer_to("totals", lambda _: encode(self._named_totals()))
        cluster_messages.answer_to("count", lambda body: encode(self._count(_wanted(body))))
        cluster_messages.answer_to("clients", lambda body: encode(self._rows(_wanted(body))))
        cluster_messages.answer_to("workers", lambda _: encode(self._dispatcher.worker_statuses()))
        cluster_messages.answer_to("kick", lambda body: encode(self._kick(body.decode())))

    def here(self) -> Totals:
        """How many are connected at this node."""
        by_dialect: Counter[str] = Counter()
        by_transport: Counter[str] = Counter()
        closing = 0
        for session in self._sessions:
            closing += session.over and session in self._hub
            by_dialect[session.handler.name] += 1
            by_transport[session.peer.transport] += 1
        return Totals(
            len(self._sessions),
            len(self._hub),
            len(self._dispatcher.worker_statuses()),
            by_dialect,
            by_transport,
            closing,
        )

    def _named_totals(self) -> Totals:
        return replace(self.here(), names={kind: self._names(kind) for kind in _COUNTED})

    def _names(self, kind: str) -> _Names:
        names = self._hub.addresses(kind)
        return _Names(len(names), [_hash(name) for name in names] if len(names) <= NAMED else None)

    # Over all nodes

    def is_small(self, few: int) -> bool:
        """Whether this is the only node, and has no more than a few connections."""
        return len(self._sessions) <= few and len(self._cluster_messages.backplane.nodes()) <= 1

    def status(self, reply: Reply[Status]) -> None:
        """How many are connected, everywhere."""

        def gathered(parts: dict[str, Totals], missing: Missing) -> None:
            reply(_added(parts, missing))

        self._ask_all("totals", b"", self._named_totals(), _totals, gathered)

    def clients(self, filters: dict[str, str], offset: int, limit: int, reply: Reply[Page]) -> None:
        """The clients that all of `filters` (names from FILTERS) hold for: `limit` of them from `offset` on, node by
        node and the oldest first at each."""
        body = encode(_Wanted(filters))

        def counted(counts: dict[str, int], missing: Missing) -> None:
            reading = _Reading(sum(counts.values()), missing, reply)
            skip, room = offset, limit
            for node, count in counts.items():
                here = min(max(0, count - skip), room)
                if here:
                    part = encode(_Wanted(filters, skip, here))
                    reading.expect(node)
                    self._cluster_messages.ask(node, "clients", part, Reply(partial(reading.read, node)))
                skip, room = max(0, skip - count), room - here
            reading.all_asked()

        self._ask_all("count", body, self._count(_Wanted(filters)), _count, counted)

    def workers(self, reply: Reply[Workers]) -> None:
        """The workers, node by node."""

        def gathered(parts: dict[str, list[WorkerStatus]], missing: Missing) -> None:
            reply(Workers([(node, worker) for node, workers in parts.items() for worker in workers], missing))

        self._ask_all("workers", b"", self._dispatcher.worker_statuses(), _statuses, gathered)

    def kick(self, client_id: str, reply: Reply[Kicked]) -> None:
        """Close all connections of a client, everywhere, with code 4010."""

        def gathered(parts: dict[str, int], missing: Missing) -> None:
            reply(Kicked(sum(parts.values()), missing))

        # Every node is asked, and not only those that hold the client: of these only the number is known, and this node
        # may stop being one of them when it closes its own connections.
        self._ask_all("kick", client_id.encode(), self._kick(client_id), _count, gathered)

    # This node's part

    def _selected(self, filters: Mapping[str, str]) -> Iterable[Session]:
        """One address filter is looked up, not searched for; the others are tried on what remains."""
        sessions: Iterable[Session] = self._hub
        for kind in ADDRESS_FIELDS:
            if kind in filters:
                sessions = self._hub.find(Target(kind, filters[kind]))
                break
        tests = [(_TESTS[name], value) for name, value in filters.items()]
        return (session for session in sessions if all(test(session) == value for test, value in tests))

    def _count(self, wanted: _Wanted) -> int:
        return sum(1 for _ in self._selected(wanted.filters)) if wanted.filters else len(self._hub)

    def _rows(self, wanted: _Wanted) -> list[dict[str, object]]:
        found = self._selected(wanted.filters) if wanted.filters else self._hub
        page = islice(found, wanted.offset, wanted.offset + wanted.limit)
        return [self.own(session) for session in page]

    def own(self, session: Session) -> dict[str, object]:
        """One connection of this node, as lists of clients show it."""
        return {**describe(session, self._wall()), "node": self._own}

    def _kick(self, client_id: str) -> int:
        sessions = [s for s in self._hub.find(Target("client_id", client_id)) if not s.over]
        for session in sessions:
            self._on_kicked(session)
            session.close(CloseCode.KICKED, KICKED)
        return len(sessions)

    # Putting together

    @property
    def node(self) -> str:
        """This node's name."""
        return self._own

    @property
    def _own(self) -> str:
        return self._cluster_messages.backplane.node

    def _ask_all(
        self,
        kind: str,
        body: bytes,
        here: T,
        decode: Callable[[bytes], T],
        done: Callable[[dict[str, T], Missing], None],
    ) -> None:
        self._cluster_messages.ask_all(kind, body, self._gathered(here, decode, done))

    def _gathered(
        self, here: T, decode: Callable[[bytes], T], done: Callable[[dict[str, T], Missing], None]
    ) -> Reply[SurveyResult]:
        def gathered(result: SurveyResult) -> None:
            answers, complete = result
            parts = {self._own: here}
            for node, body in answers:
                try:
                    parts[node] = decode(body)
                except msgspec.MsgspecError:  # another version's answer
                    complete = False
            done(dict(sorted(parts.items())), None if complete else self._missing(parts))

        return Reply(gathered)

    def _missing(self, parts: Iterable[str]) -> list[str]:
        return sorted({state.node for state in self._cluster_messages.backplane.nodes()}.difference(parts))


class _Reading:
    """A page that is read from several nodes."""

    def __init__(self, total: int, missing: Missing, reply: Reply[Page]) -> None:
        self._total = total
        self._missing = missing
        self._reply = reply
        self._parts: dict[str, list[Raw] | None] = {}
        self._waiting = 1  # for all having been asked

    def expect(self, node: str) -> None:
        """Some rows of the page come from this node, behind those of the nodes that were named before."""
        self._parts[node] = None
        self._waiting += 1

    def read(self, node: str, result: SurveyResult) -> None:
        """A node has given its rows, or did not answer."""
        try:
            self._parts[node] = _rows(result.answers[0].body) if result.answers else None
        except msgspec.MsgspecError:
            self._parts[node] = None
        self.all_asked()

    def all_asked(self) -> None:
        """One answer less to wait for; after the last one the page is given."""
        self._waiting -= 1
        if self._waiting == 0:
            silent = [node for node, rows in self._parts.items() if rows is None]
            missing = sorted({*silent, *(self._missing or ())}) if silent or self._missing is not None else None
            clients = [row for rows in self._parts.values() if rows is not None for row in rows]
            self._reply(Page(clients, self._total, missing))


def _added(parts: dict[str, Totals], missing: Missing) -> Status:
    by_dialect: Counter[str] = Counter()
    by_transport: Counter[str] = Counter()
    for part in parts.values():
        by_dialect.update(part.by_dialect)
        by_transport.update(part.by_transport)
    totals = Totals(
        sum(part.total for part in parts.values()),
        sum(part.registered for part in parts.values()),
        sum(part.workers for part in parts.values()),
        by_dialect,
        by_transport,
        sum(part.closing for part in parts.values()),
    )
    return Status(totals, {node: part.total for node, part in parts.items()}, missing, _distinct(parts.values()))


def _distinct(parts: Iterable[Totals]) -> Distinct:
    return Distinct(*(_together([part.names[kind] for part in parts if kind in part.names]) for kind in _COUNTED))


def _together(parts: list[_Names]) -> int:
    known: set[int] = set()
    for part in parts:
        if part.hashes is None:
            return sum(part.count for part in parts)
        known.update(part.hashes)
    return len(known)


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=7).digest())


def describe(session: Session, now: float) -> dict[str, object]:
    """A connection as lists of clients show it. `connected_at` in seconds since the epoch, as `now` is.

    `id`, `ip`, `port`, `status` and `duration` (seconds) are what older programs show.
    """
    identity = session.identity
    return {
        "client_id": identity.client_id,
        "user_id": identity.user_id,
        "username": identity.username,
        "node_id": identity.node_id,
        "domain_id": identity.domain_id,
        "cluster_id": identity.cluster_id,
        "channel_id": identity.channel_id,
        "dialect": session.handler.name,
        "transport": session.peer.transport,
        "role": "worker" if session.worker is not None else "client",
        "connection_id": session.id,
        "connected_at": session.opened_at,
        "id": identity.client_id or session.id,
        "ip": session.address,
        "port": session.peer.port,
        "status": "closing" if session.over else "connected",
        "duration": round(max(0.0, now - session.opened_at), 3),
    }
