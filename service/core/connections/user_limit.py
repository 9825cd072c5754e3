"""How many connections a user may have at a time, over all nodes. 0 means no limit.

The newest are refused, never those that are there: each session counts those that came before it. What is on this
node is known at once; what others hold is asked for after the session has joined, and it is closed if that is too
much. Where not all answer, what is known counts: a node that is slow shuts nobody out. Source: protocol reference,
"Limits".
"""

from typing import Final

import msgspec

from portico.wire.codes import CloseCode
from portico.wire.messages import Target, encode

from ..cluster.cluster_messages import ClusterMessages
from ..cluster.survey import SurveyResult
from ..reply import Reply
from .hub import Hub
from .session import Session

KIND: Final = "before"
"""The kind of the question among nodes."""
TOO_MANY: Final = "this user is at the limit of connections"

_question = msgspec.json.Decoder(tuple[str, float, str]).decode
_count = msgspec.json.Decoder(int).decode


class UserLimit:
    """Counts the connections of users when there is a limit."""

    def __init__(self, hub: Hub, cluster_messages: ClusterMessages, limit: int) -> None:
        self.limit: Final = limit
        self.refused = 0
        self._hub = hub
        self._cluster_messages = cluster_messages
        cluster_messages.answer_to(KIND, lambda body: encode(self._before(*_question(body))))

    def full_here(self, session: Session, user_id: str | None) -> bool:
        """Whether this node alone holds as many connections of the user as there may be, beside this one."""
        if not self.limit or user_id is None:
            return False
        others = self._hub.find(Target("user_id", user_id))
        if len(others) < self.limit or sum(1 for s in others if s is not session and not s.over) < self.limit:
            return False
        self.refused += 1
        return True

    def check(self, session: Session) -> None:
        """The session has just joined: close it if that is one too many."""
        identity, at = session.identity, session.registered_at
        user_id = identity.user_id
        if not self.limit or user_id is None or at is None or session.over:
            return
        here = self._before(user_id, at, session.id)

        def counted(result: SurveyResult) -> None:
            total = here
            for answer in result.answers:
                try:
                    total += _count(answer.body)
                except msgspec.MsgspecError:  # another version's answer
                    continue
            if total >= self.limit and not session.over and session.identity is identity:
                self.refused += 1
                session.close(CloseCode.TRY_LATER, TOO_MANY)

        if here >= self.limit:
            counted(SurveyResult([], True))
        else:
            question = encode((user_id, at, session.id))
            self._cluster_messages.ask_holders(Target("user_id", user_id), KIND, question, Reply(counted))

    def _before(self, user_id: str, at: float, name: str) -> int:
        """How many connections of a user came before one here."""
        return sum(
            1
            for session in self._hub.find(Target("user_id", user_id))
            if session.registered_at is not None
            and not session.over
            and (session.registered_at, session.id) < (at, name)
        )
