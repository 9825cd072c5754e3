"""Log lines: what they say, and that nothing untrusted gets into one as it came."""

import io
import json
import re

import pytest
import structlog
from msgspec import Raw

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target
from service.core.cluster.backplane import Publication
from service.core.reply import Reply
from service.observe import FAULTS_PER_SECOND, REGISTRATIONS_PER_SECOND, LogJournal, event_of, make_log, said
from tests.fakes import stage
from tests.gateways import ROOT


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_stays_one_line(log_format: str) -> None:
    stream = io.StringIO()
    make_log(log_format, "info", stream).info("refused", reason='x\r\n{"event": "forged"}\x1b[2J')
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_levels_and_absent_values() -> None:
    stream = io.StringIO()
    log = make_log("json", "warning", stream)
    log.info("not this")
    log.warning("this", nothing=None, number=5)
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["number"]) == ("this", "warning", 5)
    assert "nothing" not in line
    assert "timestamp" in line


def journal(level: str = "info") -> tuple[LogJournal, io.StringIO]:
    stream = io.StringIO()
    log: structlog.typing.FilteringBoundLogger = make_log("json", level, stream)
    return LogJournal(log), stream


def test_a_connection_has_one_line_when_it_ends_that_says_who_how_long_how_much_and_why() -> None:
    at = stage()
    session, peer = at.client(client_id="c1", user_id="ann")
    kept, stream = journal()
    kept.on_opened(session)
    kept.on_registered(session)
    kept.on_closed(session, 1006, "", 1.23456)
    (line,) = lines(stream)
    assert {name: value for name, value in line.items() if name != "timestamp"} == {
        "event": "connection closed",
        "level": "info",
        "connection": session.id,
        "dialect": "c_client",
        "client_id": "c1",
        "user_id": "ann",
        "transport": "memory",
        "address": session.address,
        "seconds": 1.235,
        "received": 0,
        "sent": sum(len(frame.wire) for frame in peer.frames),
        "code": 1006,
        "reason": "the connection broke off",
    }


def test_every_line_names_its_node_as_it_is_called_now() -> None:
    names = ["gw-1"]
    for log_format in ("json", "console"):
        stream = io.StringIO()
        log = make_log(log_format, "info", stream, node=lambda: names[0])
        log.info("one")
        names[0] = "gw-1-abcd"
        log.info("two")
        log.info("of another", node="gw-2")
        names[0] = "gw-1"
        for line, name in zip(stream.getvalue().splitlines(), ("gw-1", "gw-1-abcd", "gw-2"), strict=True):
            assert f'"node":"{name}"' in line or f"node={name}" in re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_accepted_pushes_are_told_at_debug_only() -> None:
    at = stage()
    at.client(client_id="c1", user_id="ann")
    stream = io.StringIO()
    publish = at.gateway.backplane.publish
    assert said(publish, make_log("json", "info", stream)) == publish
    results: list[object] = []
    telling = said(publish, make_log("json", "debug", stream))
    telling(Publication(Target("user_id", "ann"), Event("cart", Raw(b"{}")), "p1"), Reply(results.append))
    (line,) = lines(stream)
    assert len(results) == 1
    told = ("event", "type", "target", "id", "matched", "queued")
    assert [line[name] for name in told] == ["push accepted", "cart", "user_id:ann", "p1", 1, 1]


def test_an_error_is_said_to_be_of_whose_close_it_is() -> None:
    session, _ = stage().connect("/ws/ann")
    kept, stream = journal()
    kept.on_closed(session, CloseCode.INTERNAL, "", 1.0)
    kept.on_closed(session, CloseCode.INTERNAL, "internal error", 1.0)
    told = [line["reason"] for line in lines(stream)]
    assert told == ["the client closed it, for an error of its own", "internal error"]


def test_what_happens_to_a_connection_before_its_end_is_told_at_debug() -> None:
    session, _ = stage().connect("/ws/ann")
    kept, stream = journal("debug")
    kept.on_opened(session)
    kept.on_registered(session)
    kept.on_closed(session, CloseCode.KICKED, "kicked\n", 1.23456)
    opened, registered, closed = lines(stream)
    assert opened["event"] == "connection opened"
    assert (opened["transport"], opened["address"]) == (session.peer.transport, session.address)
    assert (registered["user_id"], registered["dialect"]) == ("ann", "user")
    assert (closed["code"], closed["reason"], closed["seconds"]) == (4010, "kicked\\n", 1.235)
    assert opened["connection"] == closed["connection"] == session.id


def test_a_flood_of_faults_is_no_flood_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = stage().connect("/ws/ann")
    kept, stream = journal()
    second = 100.0
    monkeypatch.setattr("service.observe.time.monotonic", lambda: second)
    fault = PeerFault(ErrorCode.BAD_FIELD, "The field 'a' is wrong.", field="a")
    for _ in range(FAULTS_PER_SECOND + 7):
        kept.on_fault(session, fault)
    assert len(lines(stream)) == FAULTS_PER_SECOND
    second = 101.0
    kept.on_fault(session, fault)
    *_, more, last = lines(stream)
    assert (more["event"], more["count"]) == ("more messages refused", 7)
    assert (last["code"], last["field"], last["problem"]) == ("bad_field", "a", "The field 'a' is wrong.")


def test_one_that_registers_again_and_again_is_no_flood_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    kept = LogJournal(make_log("json", "debug", stream))
    at = stage()
    session, _ = at.client(client_id="c1")
    moment = 100.0
    monkeypatch.setattr("service.observe.time.monotonic", lambda: moment)
    for _ in range(REGISTRATIONS_PER_SECOND + 7):
        kept.on_registered(session)
    assert len(lines(stream)) == REGISTRATIONS_PER_SECOND
    moment = 101.0
    kept.on_registered(session)
    more, last = lines(stream)[-2:]
    assert (more["event"], more["count"]) == ("more connections registered", 7)
    assert last["event"] == "connection registered"


def test_a_bug_of_ours_is_logged_with_its_trace() -> None:
    session, _ = stage().connect("/ws/ann")
    kept, stream = journal()
    try:
        raise ZeroDivisionError("oh")
    except ZeroDivisionError as error:
        kept.on_error(session, error)
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert "ZeroDivisionError: oh" in str(line["trace"])


def test_what_a_transport_reports_is_a_sentence() -> None:
    for path in (ROOT / "service" / "transports").glob("*.py"):
        for name in re.findall(r"""log\(\s*"(\w+)\"""", path.read_text(encoding="utf-8")):
            assert " " in event_of(name), f"{path.name}: {name}"
