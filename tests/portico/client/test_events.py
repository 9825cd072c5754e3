import logging

import pytest

from portico.client.errors import ConnectionLost, RegistrationRejected, SentAway, printable
from portico.client.events import (
    BadMessage,
    Complaint,
    Connected,
    Connecting,
    Draining,
    Event,
    Lost,
    Retrying,
    log_event,
)

NASTY = "\x1b[31mred\r\nX-Fake: yes\u202egnp.exe"


@pytest.mark.parametrize(
    "event",
    [
        Connecting("ws://localhost:1", 1),
        Connected("ws://localhost:1", NASTY),
        Lost(ConnectionLost(4010, NASTY)),
        Lost(SentAway(4010, NASTY)),
        Lost(RegistrationRejected(NASTY, NASTY)),
        Retrying(1.25),
        Draining("finishing"),
        BadMessage(NASTY),
        Complaint(NASTY),
    ],
)
def test_every_event_is_one_printable_line(event: Event) -> None:
    assert str(event).isprintable()


def test_the_usual_lines() -> None:
    assert str(Connecting("ws://gw", 1)) == "connecting to ws://gw"
    assert str(Connecting("ws://gw", 2)) == "connecting to ws://gw (attempt 2)"
    assert str(Connected("ws://gw", "w1")) == "registered as w1 at ws://gw"
    assert str(Retrying(1.26)) == "retry in 1.3 s"
    assert str(BadMessage("not JSON")) == "bad message: not JSON"
    assert str(Complaint("Missing command")) == "the gateway says: Missing command"


def test_what_others_wrote_is_cut_and_escaped_but_still_readable() -> None:
    assert printable("naïve 日本") == "naïve 日本"
    assert printable("a\nb") == "a\\nb"
    assert printable("x" * 300) == "x" * 200 + "…"


def test_events_go_to_the_log_by_default(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="portico.client"):
        log_event(Retrying(1.0))
        log_event(Lost(ConnectionLost(1006)))
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
