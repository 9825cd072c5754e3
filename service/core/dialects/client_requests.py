"""Clients that can be asked something, on whatever node they are connected: C-Clients and envelope clients.

Knows where a client is asked, not what. Those of this node come first; the others are asked for theirs.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Target

from ..cluster.cluster_messages import ClusterMessages
from ..cluster.survey import SurveyResult
from ..connections.hub import Hub
from ..connections.session import Session
from ..dispatch.model import WorkerLink
from ..dispatch.remote_dispatch import RemoteDispatch
from ..reply import Reply

KIND: Final = "client_requests"
"""The question among nodes: a client's id; answered with the name of its dialect, or nothing if it isn't there."""


class Askable(Protocol):
    """A dialect whose clients can be asked."""

    @property
    def name(self) -> str:
        """Its name."""

    def link(self, session: Session) -> WorkerLink:
        """How dispatch reaches a session of it."""


class ClientRequests:
    """Finds clients to ask."""

    def __init__(
        self, hub: Hub, askable: Sequence[Askable], cluster_messages: ClusterMessages, remote: RemoteDispatch
    ) -> None:
        """`askable`: the dialects whose clients can be asked. If several have a client of one id, the first one's is
        asked."""
        self._hub = hub
        self._askable = askable
        self._names = [handler.name for handler in askable]
        self._cluster_messages = cluster_messages
        self._remote = remote
        remote.guests.client_finder = self
        cluster_messages.answer_to(KIND, lambda body: (self._dialect(body.decode()) or "").encode())

    def find_client(self, client_id: str) -> WorkerLink | None:
        """The link of a client's newest connection to this node that can be asked."""
        sessions = list(reversed(list(self._hub.find(Target("client_id", client_id)))))
        for handler in self._askable:
            for session in sessions:
                if session.handler.name == handler.name and not session.over:
                    return handler.link(session)
        return None

    def find(self, client_id: str, reply: Reply[WorkerLink | PeerFault]) -> None:
        """Find a client on any node. `reply` gets, maybe before this returns, the client's link, to be used at once; or
        why it cannot be asked: `not_found`, `unknown_dialect`, or `unavailable` if not every node answered."""
        link = self.find_client(client_id)
        if link is not None:
            reply(link)
            return
        dialect = self._dialect(client_id)

        def answered(result: SurveyResult) -> None:
            reply(self._found(client_id, dialect, result))

        self._cluster_messages.ask_holders(Target("client_id", client_id), KIND, client_id.encode(), Reply(answered))

    def _dialect(self, client_id: str) -> str | None:
        """The dialect of a client of this node; if it has several, one that can be asked."""
        names = [s.handler.name for s in self._hub.find(Target("client_id", client_id)) if not s.over]
        return next((name for name in self._names if name in names), next(reversed(names), None))

    def _found(self, client_id: str, here: str | None, result: SurveyResult) -> WorkerLink | PeerFault:
        dialects = [here] if here is not None else []
        for node, body in result.answers:
            dialect = body.decode()
            if dialect in self._names:
                return self._remote.client_link(node, client_id)
            if dialect:
                dialects.append(dialect)
        if dialects:
            return PeerFault(
                ErrorCode.UNKNOWN_DIALECT,
                f"This client speaks the dialect {dialects[0]}, which has no answers; "
                f"only clients of the dialects {' and '.join(self._names)} can be asked.",
                field="client_id",
            )
        if not result.complete:
            return PeerFault(
                ErrorCode.UNAVAILABLE, "Not all nodes could be asked whether this client is connected; try again."
            )
        return PeerFault(ErrorCode.NOT_FOUND, "No client of this id is connected.", field="client_id")
