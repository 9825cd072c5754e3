"""Admission: from a handshake's path, subprotocols, origin and address to an Admission or the HTTP refusal.

Source: protocol reference, "Who gets in, and in which dialect".
"""

from dataclasses import dataclass
from typing import Final

from portico.wire.codes import ErrorCode
from portico.wire.dialects.negotiate import BY_SUBPROTOCOL, Dialect
from portico.wire.faults import PeerFault
from portico.wire.messages import check_name, encode

from ..ports import Handshake, HttpAnswer
from .limits import ConnectionLimits
from .origins import OriginPolicy
from .worker_authentication import WorkerAuthentication

UNDECIDED: Final = "undecided"
USER_PATH: Final = "/ws/"
MAX_USER_ID: Final = 256


@dataclass(frozen=True, slots=True)
class Entrance:
    """What a path leads to: a dialect (or UNDECIDED), and whether the connection is a worker by its path."""

    dialect: str
    worker: bool = False


@dataclass(frozen=True, slots=True)
class Ticket:
    """An accepted handshake (the ports' Admission), with all that the core will want to know of it."""

    entrance: Entrance
    subprotocol: str | None
    max_message_size: int
    user_id: str | None
    trusted: bool


class AdmissionControl:
    """Decides on handshakes."""

    def __init__(
        self,
        origins: OriginPolicy,
        limits: ConnectionLimits,
        workers: WorkerAuthentication,
        *,
        max_message_size: int,
    ) -> None:
        self._origins = origins
        self._limits = limits
        self._workers = workers
        self._max_message_size = max_message_size
        undecided = Entrance(UNDECIDED)
        self._paths: dict[str, Entrance] = {
            "/": undecided,
            "/ws": undecided,
            "/api/websocket": undecided,
            "/worker": Entrance(Dialect.ENVELOPE.value, worker=True),
            "/requester": Entrance(Dialect.REQUESTER.value),
        }
        self._subprotocols = {name: dialect.value for name, dialect in BY_SUBPROTOCOL.items()}
        self.draining = False

    def add(self, dialect: str, *, path: str | None = None, subprotocol: str | None = None) -> None:
        """Add an entrance for a dialect, by path or subprotocol. ValueError where it is taken."""
        if path is not None:
            if path in self._paths or not path.startswith("/") or path.startswith(USER_PATH):
                raise ValueError(f"the path {path!r} is taken, or doesn't begin with a slash; choose another")
            self._paths[path] = Entrance(dialect)
        if subprotocol is not None:
            if subprotocol in self._subprotocols:
                raise ValueError(f"the subprotocol {subprotocol!r} is taken; choose another name")
            self._subprotocols[subprotocol] = dialect

    def admit(self, handshake: Handshake) -> Ticket | HttpAnswer:
        """Decide. Never raises."""
        if self.draining:
            return HttpAnswer(
                503, (("content-type", "text/plain; charset=utf-8"), ("retry-after", "1")), b"Draining.\n"
            )
        user_id: str | None = None
        entrance = self._paths.get(handshake.path)
        if handshake.kind == "worker":
            entrance = self._paths["/worker"]
        elif entrance is None and _names_user(handshake.path):
            try:
                user_id = _user_id(handshake.path[len(USER_PATH) :])
            except PeerFault as fault:
                return _refuse(400, fault.code, fault.message)
            entrance = Entrance(Dialect.USER.value)
        if entrance is None:
            return _refuse(
                404,
                ErrorCode.NOT_FOUND,
                "There is no WebSocket at this path; use /, /ws, /api/websocket, /ws/{user_id}, /worker or /requester.",
            )
        if not self._origins.allows(handshake.headers.get("origin"), handshake.host):
            return _refuse(403, ErrorCode.FORBIDDEN, "Pages of this origin may not connect (PORTICO_ALLOWED_ORIGINS).")
        refusal = self._limits.check(handshake.address)
        if refusal is not None:
            return refusal
        subprotocol = self._choose(handshake.headers.get("sec-websocket-protocol"), entrance.dialect)
        if subprotocol is not None and entrance.dialect == UNDECIDED:
            entrance = Entrance(self._subprotocols[subprotocol])
        return Ticket(
            entrance,
            subprotocol,
            self._max_message_size,
            user_id,
            self._workers.api_key(handshake.headers.get("authorization")),
        )

    def _choose(self, offered: str | None, dialect: str) -> str | None:
        # To name a dialect in the answer that is not the one spoken on this path would be a lie.
        for name in map(str.strip, (offered or "").split(",")):
            if name in self._subprotocols and dialect in (UNDECIDED, self._subprotocols[name]):
                return name
        return None


def _names_user(path: str) -> bool:
    return path.startswith(USER_PATH) and path != USER_PATH and "/" not in path[len(USER_PATH) :]


def _user_id(user_id: str) -> str:
    if "\ufffd" in user_id:
        raise PeerFault(ErrorCode.BAD_FIELD, "The user id in the path is not UTF-8.")
    if len(user_id) > MAX_USER_ID:
        raise PeerFault(ErrorCode.BAD_FIELD, f"The path must be /ws/ and a user id of 1 to {MAX_USER_ID} characters.")
    check_name(user_id, "user_id")
    return user_id


def _refuse(status: int, code: ErrorCode, message: str) -> HttpAnswer:
    return HttpAnswer(
        status, (("content-type", "application/json"),), encode({"error": {"code": code, "message": message}})
    )
