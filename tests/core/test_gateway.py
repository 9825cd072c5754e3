"""The core put together: who is counted, told, expected and forgotten."""

from portico.wire.messages import EVERYBODY, Event
from service.core.gateway import make_id

from ..fakes import handshake, stage


def test_a_connection_is_journalled_and_counted_from_end_to_end() -> None:
    house = stage()
    session, _ = house.client(client_id="c")
    house.clock.move(12)
    house.close(session, 1001, "bye")
    assert [entry[0] for entry in house.journal.entries] == ["opened", "registered", "closed"]
    assert house.journal.entries[-1][1:] == (session, 1001, "bye", 12.0)
    counters = house.gateway.counters
    assert counters.connections_opened == {"memory": 1}
    assert counters.connections_closed == {"1001": 1}


def test_a_refused_handshake_is_the_transport_s_to_count() -> None:
    house = stage()
    house.gateway.admit(handshake("/nowhere"))
    assert house.gateway.counters.handshakes_refused == 0, "or it would be counted twice"


def test_the_drain_is_told_to_those_whose_dialect_has_a_place_for_it() -> None:
    house = stage()
    _, client = house.client(client_id="c")
    _, worker = house.worker("w")
    quiet = [house.connect(path)[1] for path in ("/", "/ws/u", "/requester")]
    house.gateway.announce_drain(20_000)
    assert client.take() == [{"type": "server_draining", "retry_within_ms": 20_000}]
    assert worker.take()[0]["data"]["event"] == "server_draining"
    assert [peer.frames for peer in quiet] == [[], [], []]
    assert house.gateway.delivery.deliver(EVERYBODY, Event("e"))[0] == 3


def test_ids_are_unguessable() -> None:
    assert len({make_id() for _ in range(100)}) == 100
    assert len(make_id()) == 32
