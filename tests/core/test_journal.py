"""A journal that fails breaks nothing of what it reports on."""

from service.core.connections.session import Session
from service.core.counters import Counters
from service.core.journal import ContainedJournal

from ..fakes import stage


class Failing:
    """A Journal that can't."""

    def __getattr__(self, name: str) -> object:
        def fail(*_: object) -> None:
            raise OSError("no space left on device")

        return fail


def test_a_connection_is_served_and_forgotten_as_ever() -> None:
    house = stage()
    house.gateway._journal = ContainedJournal(Failing(), house.gateway.counters)  # type: ignore[arg-type]  # __getattr__
    session, peer = house.connect("/ws")
    house.say(session, {"type": "c_client_register", "client_id": "c1"})
    assert peer.take()[0]["type"] == "registration_success"
    house.say(session, {"type": "nonsense"})
    assert peer.take()[0]["type"] == "error"
    house.close(session)
    assert not house.gateway.sessions
    assert not house.gateway.hub
    assert house.gateway.counters.contained_errors >= 4


def test_what_is_told_is_passed_on() -> None:
    told: list[tuple[object, ...]] = []

    class Heard(Failing):
        def on_closed(self, session: Session, code: int, reason: str, seconds: float) -> None:
            told.append((session, code, reason, seconds))

    session, _ = stage().connect("/ws")
    ContainedJournal(Heard(), Counters()).on_closed(session, 1000, "bye", 1.5)  # type: ignore[arg-type]  # __getattr__
    assert told == [(session, 1000, "bye", 1.5)]
