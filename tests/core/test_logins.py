"""Login sessions, where what they do to clients (see handlers/test_c_client.py) is not the point."""

import pytest
from msgspec import Raw

from service.core import delivery, logins
from service.wire.faults import PeerFault

from ..fakes import START, stage


def test_what_is_found() -> None:
    house = stage()
    ours = house.gateway.logins
    first = ours.start("u1", "ann", Raw(b"{}"), 60, {})
    second = ours.start("u1", None, Raw(b"{}"), 120, {})
    assert (first.created_at, first.expires_at) == (START, START + 60)
    assert ours.of_user("u1") == [first, second]
    assert ours.current("u1") is second
    assert ours.get(first.session_id) is first
    assert (ours.of_user("x"), ours.current("x"), ours.current(None), ours.get("x")) == ([], None, None, None)
    ours.end(second.session_id, "logout")
    assert ours.current("u1") is first
    house.pass_time(62.1)
    assert (len(ours), ours.of_user("u1")) == (0, [])
    assert len(ours._deadlines) == 0


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "LIMIT", 2)
    ours = stage().gateway.logins
    for _ in range(2):
        login = ours.start("u", None, Raw(b"{}"), 60, {})
    with pytest.raises(PeerFault) as caught:
        ours.start("u", None, Raw(b"{}"), 60, {})
    assert caught.value.code == "unavailable"
    ours.end(login.session_id, "logout")
    ours.start("u", None, Raw(b"{}"), 60, {})


def test_where_too_many_pushes_wait_a_login_is_not_begun_and_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SLICE", 1)
    house = stage()
    for number in range(2):
        house.client(client_id=f"c{number}", user_id="u1")
    house.client(client_id="other", user_id="u2")
    ours = house.gateway.logins
    for user in ("u1", "u1", "u2"):
        ours.start(user, None, Raw(b"{}"), 60, {})
    house.defer.run()
    monkeypatch.setattr(delivery, "MAX_WAITING_SENDS", 0)
    with pytest.raises(PeerFault):
        ours.start("u1", None, Raw(b"{}"), 60, {})
    assert len(ours) == 3
    house.pass_time(62.1)
    assert len(ours) == 0
