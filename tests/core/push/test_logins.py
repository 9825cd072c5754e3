"""Login sessions, where what they do to clients (see handlers/test_c_client.py) is not the point; and on two nodes."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Event, Target
from service.backplane.memory_logins import MemoryLoginStore
from service.core.push import delivery, login_store
from service.core.push.login_store import Login, LogoutEvent
from service.core.reply import Reply

from ...fakes import START, Stage, end_login, publish, stage, stages, start_login


def asked(ask: Callable[..., None], *words: object) -> Any:
    """What a call tells its callback."""
    answers: list[Any] = []
    ask(*words, Reply(answers.append))
    (answer,) = answers
    return answer


def test_what_is_found() -> None:
    house = stage()
    ours = house.gateway.logins
    first = start_login(house, "u1")
    second = start_login(house, "u1", None, 120)
    assert (first.created_at, first.expires_at) == (START, START + 60)
    assert asked(ours.of_user, "u1") == [first, second]
    assert asked(ours.current, "u1") is second
    assert asked(ours.get, first.session_id) is first
    assert asked(ours.of_user, "x") == []
    assert [asked(ours.current, "x"), asked(ours.current, None), asked(ours.get, "x")] == [None, None, None]
    end_login(house, second.session_id)
    assert asked(ours.current, "u1") is first
    house.pass_time(62.1)
    assert (len(ours), asked(ours.of_user, "u1")) == (0, [])
    assert isinstance(ours.store, MemoryLoginStore)
    assert ours.store.empty


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_store, "LIMIT", 2)
    house = stage()
    for _ in range(2):
        login = start_login(house, "u")
    with pytest.raises(PeerFault) as caught:
        start_login(house, "u")
    assert caught.value.code == "unavailable"
    end_login(house, login.session_id)
    start_login(house, "u")


def test_where_too_many_pushes_wait_a_login_is_not_begun_and_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "SLICE", 1)
    house = stage()
    for number in range(2):
        house.client(client_id=f"c{number}", user_id="u1")
    house.client(client_id="other", user_id="u2")
    for user in ("u1", "u1", "u2"):
        start_login(house, user)
    monkeypatch.setattr(delivery, "MAX_WAITING_SENDS", 0)
    with pytest.raises(PeerFault):
        start_login(house, "u1")
    ours = house.gateway.logins
    assert len(ours) == 3
    (last,) = asked(ours.of_user, "u2")
    with pytest.raises(PeerFault):
        end_login(house, asked(ours.of_user, "u1")[0].session_id)
    assert len(ours) == 2
    house.pass_time(62.1)
    assert (len(ours), asked(ours.get, last.session_id)) == (0, None)


@pytest.mark.parametrize("way", ["logout", "revoked", "expired"])
def test_what_is_sent_besides_at_the_end_reaches_every_dialect_of_every_node(way: str) -> None:
    one, other = stages(2)
    _, c_client = one.client(client_id="c1", user_id="u1")
    envelope, enveloped = other.connect("/ws")
    other.ask(envelope, {"type": "connect", "data": {"user_id": "u1"}})
    _, plain = other.connect("/ws/u1")
    _, stranger = other.client(client_id="c2", user_id="u2")
    login = start_login(
        one,
        "u1",
        extra={"website_config": Raw(b'{"lang":"en"}'), "reason": Raw(b'"forged"')},
        message="Welcome back",
        on_logout=LogoutEvent("user_logout", Raw(b'{"user_id":"u1","logout_api":"/bye"}')),
    )
    assert [message["message"] for message in (*c_client.take(), *plain.take())] == ["Welcome back"] * 2
    assert enveloped.take()[-1]["data"]["payload"]["message"] == "Welcome back"
    if way == "expired":
        one.clock.move(62)
        other.gateway.tick()
    else:
        end_login(other, login.session_id, "revoked" if way == "revoked" else "logout")
    for flat in (c_client.take(), plain.take()):
        assert kinds(flat) == ["logout_notification", "user_logout"]
        assert (flat[0]["reason"], flat[0]["website_config"]) == (way, {"lang": "en"})
        assert flat[1] == {"type": "user_logout", "user_id": "u1", "logout_api": "/bye"}
    notices = [message["data"] for message in enveloped.take()]
    assert [notice["event"] for notice in notices] == ["logout_notification", "user_logout"]
    assert notices[1]["payload"] == {"user_id": "u1", "logout_api": "/bye"}
    assert stranger.take() == []


# Two nodes


def two() -> tuple[Stage, Stage]:
    one, other = stages(2)
    return one, other


def kinds(messages: list[Any]) -> list[str]:
    return [message["type"] for message in messages]


def test_a_login_reaches_the_clients_of_every_node_once() -> None:
    one, other = two()
    peers = [house.client(client_id=f"c{n}", user_id="u1")[1] for n, house in enumerate((one, other))]
    login = start_login(one, "u1")
    came = [peer.take() for peer in peers]
    assert came[0] == came[1]
    assert kinds(came[0]) == ["auto_login"]
    newcomer, _ = other.connect("/ws")
    answers = other.ask(newcomer, {"type": "c_client_register", "client_id": "c3", "user_id": "u1"})
    assert kinds(answers) == ["registration_success", "auto_login"]
    assert answers[1] == came[0][0]
    end_login(other, login.session_id)
    assert [kinds(peer.take()) for peer in peers] == [["logout_notification"]] * 2
    assert end_login(one, login.session_id) is None


def test_feedback_reaches_the_user_s_other_clients_of_every_node_once() -> None:
    one, other = two()
    session, own = one.client(client_id="c1", user_id="u1")
    others = [house.client(client_id=f"d{n}", user_id="u1")[1] for n, house in enumerate((one, other))]
    _, stranger = other.client(client_id="e", user_id="u2")
    login = start_login(other, "u1")
    for peer in (own, *others):
        peer.take()
    one.say(session, {"type": "session_feedback", "success": True, "message": "in"})
    assert (own.take(), stranger.take()) == ([], [])
    came = [peer.take() for peer in others]
    assert came[0] == came[1]
    assert kinds(came[0]) == ["session_feedback"]
    (feedback,) = asked(other.gateway.logins.get, login.session_id).feedback
    assert (feedback.client_id, feedback.message) == ("c1", "in")


def test_an_end_by_the_clock_is_told_once() -> None:
    one, other = two()
    _, peer = one.client(client_id="c1", user_id="u1")
    start_login(other, "u1")
    peer.take()
    one.clock.move(62)
    for house in (other, one, other):
        house.gateway.tick()
    (notice,) = peer.take()
    assert (notice["type"], notice["reason"]) == ("logout_notification", "expired")


# A store that is slow, or away


class SlowStore(MemoryLoginStore):
    """Tells what it has to tell when it is told to, or refuses."""

    def __init__(self, house: Stage) -> None:
        super().__init__(now=house.clock.now)
        self.waiting: list[Callable[[], None]] = []
        self.away = False

    def later(self, ask: Callable[..., None], done: Callable[[Any], None], *words: object) -> None:
        def answer() -> None:
            if self.away:
                done(PeerFault(ErrorCode.UNAVAILABLE, "Away."))
            else:
                ask(*words, done)

        self.waiting.append(answer)

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer()

    def start(self, login: Login, ttl: float, done: Any) -> None:
        self.later(super().start, done, login, ttl)

    def current(self, user_id: str, done: Any) -> None:
        self.later(super().current, done, user_id)

    def report(self, user_id: str, session_id: str | None, feedback: Any, done: Any) -> None:
        self.later(super().report, done, user_id, session_id, feedback)

    def expired(self, done: Any) -> None:
        self.later(super().expired, done)


def slow() -> tuple[Stage, SlowStore]:
    house = stage()
    store = SlowStore(house)
    object.__setattr__(house.gateway.logins, "store", store)
    return house, store


REGISTER = {"type": "c_client_register", "client_id": "c1", "user_id": "u1"}


def test_the_automatic_login_comes_with_the_answer_however_slow_the_store() -> None:
    house, store = slow()
    begun: list[object] = []
    house.gateway.logins.start("u1", None, Raw(b"{}"), 60, {}, Reply(begun.append))
    assert begun == []
    store.release()
    assert isinstance(begun[0], Login)
    session, peer = house.connect("/ws")
    assert house.ask(session, REGISTER) == []
    publish(house, Target("user_id", "u1"), Event("live"))
    store.release()
    assert kinds(peer.take()) == ["registration_success", "auto_login", "live"]
    envelope, other = house.connect("/ws")
    connect = {"type": "connect", "data": {"user_id": "u1"}}
    assert house.ask(envelope, connect) == []
    store.release()
    greeting, login = other.take()
    assert (greeting["type"], login["data"]["event"]) == ("connect", "auto_login")


def test_a_switch_of_users_before_the_login_was_found_gets_both_answers() -> None:
    house, store = slow()
    house.gateway.logins.start("u1", None, Raw(b"{}"), 60, {}, Reply(lambda _: None))
    store.release()
    session, peer = house.connect("/ws")
    house.say(session, REGISTER)
    house.say(session, {**REGISTER, "user_id": "u2"})
    gone, _ = house.connect("/ws")
    house.say(gone, {**REGISTER, "client_id": "c2"})
    house.close(gone)
    store.release()
    first, login, second = peer.take()
    assert (first["user_id"], login["type"], login["user_id"], second["user_id"]) == ("u1", "auto_login", "u1", "u2")


def test_without_the_store_clients_register_and_logins_are_refused() -> None:
    house, store = slow()
    store.away = True
    session, peer = house.connect("/ws")
    house.say(session, REGISTER)
    begun: list[Any] = []
    house.gateway.logins.start("u1", None, Raw(b"{}"), 60, {}, Reply(begun.append))
    house.say(session, {"type": "session_feedback", "success": True})
    store.release()
    assert [fault.code for fault in begun] == ["unavailable"]
    assert kinds(peer.take()) == ["registration_success", "error"]
    assert len(house.gateway.logins) == 0


def test_one_sweep_at_a_time_and_the_next_after_an_outage() -> None:
    house, store = slow()
    house.gateway.logins.start("u1", None, Raw(b"{}"), 5, {}, Reply(lambda _: None))
    store.release()
    store.away = True
    for _ in range(5):
        house.pass_time(2)
    assert len(store.waiting) == 1
    store.release()
    store.away = False
    house.pass_time(2)
    store.release()
    assert len(house.gateway.logins) == 0
