"""A connection without a dialect is told nothing but its faults, and closed if it stays silent."""

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Event
from service.core.dialects.no_dialect import NoDialect
from tests.fakes import stage


def test_it_is_told_nothing_but_faults() -> None:
    handler = NoDialect()
    assert handler.push(Event("t")) is None
    assert handler.draining(1000) is None
    assert b"bad_json" in handler.refusal(PeerFault(ErrorCode.BAD_JSON, "No.")).payload


def test_who_stays_silent_is_closed() -> None:
    at = stage()
    session, peer = at.connect("/")
    NoDialect().expired(session)
    assert peer.close_code == CloseCode.SILENT
