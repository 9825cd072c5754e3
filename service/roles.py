"""Roles: what a process leaves out, where HTTP and WebSockets are served by different processes."""

from typing import NoReturn

from portico.wire.codes import ErrorCode
from portico.wire.messages import encode
from service.core.ports import Admission, Handshake, HttpAnswer, Peer

_SENTENCE = (
    "This process takes no WebSockets (SERVICE_ROLE=api): connect where GET /api/b-client/websocket-info says, to a "
    "process with SERVICE_ROLE=websocket."
)


class HttpOnly:
    """The Gate of a process that answers HTTP alone: every upgrade is told to go elsewhere."""

    def admit(self, handshake: Handshake) -> HttpAnswer:
        """Refuse it."""
        body = encode({"error": {"code": ErrorCode.NOT_FOUND, "message": _SENTENCE}})
        return HttpAnswer(404, (("content-type", "application/json"),), body)

    def opened(self, peer: Peer, admission: Admission) -> NoReturn:
        """Nobody is let in."""
        raise RuntimeError("a connection was opened that was not admitted")
