"""A connection whose dialect nobody has named: its first message decides, and until then the gateway is silent."""

from collections.abc import Mapping

from portico.wire.dialects import c_client
from portico.wire.dialects.negotiate import Dialect, dialect_of, read_first

from ..connections.authentication import Authentication
from ..connections.session import DialectHandler, Session
from ..ports import UNDECIDED
from .c_client import CClientHandler
from .no_dialect import NoDialect


class UndecidedHandler(NoDialect):
    """Waits for the first message, hands it and the session to the dialect that it is of."""

    name = UNDECIDED

    def __init__(
        self, c_clients: CClientHandler, handlers: Mapping[str, DialectHandler], authentication: Authentication
    ) -> None:
        self._c_clients = c_clients
        self._authentication = authentication
        self._handlers = handlers

    def receive(self, session: Session, payload: bytes) -> None:
        """Decide, then let the dialect have the message. Raises PeerFault `unknown_dialect`."""
        payload = read_first(payload)
        register = c_client.first_register(payload)
        if register is not None:
            # Most connections begin so: the message that decides is decoded once.
            session.speak(self._c_clients)
            self._c_clients.register(session, register)
            return
        dialect = dialect_of(payload)
        handler = self._handlers[dialect.value]
        session.speak(handler)
        if dialect is Dialect.REQUESTER:
            self._authentication.check_requester(session)
        handler.receive(session, payload)
