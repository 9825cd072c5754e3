"""The index of who is connected, against a plain list."""

from hypothesis import given
from hypothesis import strategies as st

from portico.wire.messages import ADDRESS_FIELDS, EVERYBODY, Identity, Target
from service.core.connections.hub import Hub
from service.core.connections.session import Session

from ...fakes import stage

VALUES = ["a", "b", None]
identities = st.builds(Identity, *(st.sampled_from(VALUES) for _ in Identity.__struct_fields__))


def sessions(count: int) -> list[Session]:
    house = stage()
    return [house.connect("/")[0] for _ in range(count)]


SOME = sessions(4)


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | identities), max_size=30))
def test_it_finds_what_a_plain_list_would(steps: list[tuple[int, Identity | None]]) -> None:
    hub = Hub()
    there: dict[Session, Identity] = {}
    for number, identity in steps:
        session = SOME[number]
        if identity is None:
            hub.remove(session)
            there.pop(session, None)
        else:
            hub.add(session, identity)
            there[session] = identity
        assert len(hub) == len(there)
        assert set(hub) == set(hub.find(EVERYBODY)) == set(there)
        for kind in ADDRESS_FIELDS:
            for value in ("a", "b", "c"):
                found = hub.find(Target(kind, value))
                assert len(found) == len(set(found))
                assert set(found) == {each for each, its in there.items() if getattr(its, kind) == value}
        for its in there.values():
            same = {
                each
                for each, other in there.items()
                if its.client_id is not None
                and (other.client_id, other.user_id, other.node_id) == (its.client_id, its.user_id, its.node_id)
            }
            assert set(hub.same_client(its)) == same
    for session in list(there):
        hub.remove(session)
    assert not any(hub._by.values())


def test_holders_keep_the_order_of_arrival() -> None:
    hub = Hub()
    for session in SOME:
        hub.add(session, Identity(user_id="u"))
    hub.remove(SOME[1])
    assert list(hub.find(Target("user_id", "u"))) == [SOME[0], SOME[2], SOME[3]]


def test_what_sessions_have_in_common_is_kept_once() -> None:
    """Memory per client: the names that come are made anew with each message."""
    stage_ = stage()
    found = []
    for number in range(3):
        session, _ = stage_.connect("/ws")
        names = {"user_id": "u", "node_id": "node", "channel_id": "channel"}
        stage_.say(session, {"type": "c_client_register", "client_id": f"c{number}", **names})
        found.append(session.identity)
    for field in ("user_id", "node_id", "channel_id"):
        assert len({id(getattr(identity, field)) for identity in found}) == 1
    assert [identity.client_id for identity in found] == ["c0", "c1", "c2"]
