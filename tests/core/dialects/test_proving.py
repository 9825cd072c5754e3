"""A connection of which the connect hook says who it is: every dialect, every answer, and what comes meanwhile."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from portico.wire.codes import CloseCode, ErrorCode
from portico.wire.faults import PeerFault
from service.core.connections.session import Session
from service.core.dialects.proving import MAX_KEPT
from service.core.proof import Presented, Proof
from service.core.reply import Reply
from service.core.revocations import Revocation
from tests.fakes import MemoryPeer, Stage, stage

REFUSED = PeerFault(ErrorCode.UNAUTHORIZED, "You are not known here.", close=CloseCode.NOT_AUTHENTICATED)
AWAY = PeerFault(ErrorCode.UNAVAILABLE, "Try again later.", close=CloseCode.TRY_LATER)
ANN = Proof("ann")


class FakeHook:
    """A hook whose answers the test gives."""

    headers = ("cookie",)

    def __init__(self) -> None:
        self.asked: list[Presented] = []
        self.replies: list[Reply[Proof | PeerFault | None]] = []
        self.cancelled = 0

    def ask(self, presented: Presented, reply: Reply[Proof | PeerFault | None]) -> Callable[[], None]:
        """Keep the question."""
        self.asked.append(presented)
        self.replies.append(reply)
        return self.cancel

    def cancel(self) -> None:
        """Count it."""
        self.cancelled += 1

    def answer(self, answer: Proof | PeerFault | None) -> None:
        """Answer the last question."""
        self.replies.pop()(answer)


def at(mode: str = "required", **rules: Any) -> tuple[Stage, FakeHook]:
    hook = FakeHook()
    return stage(authentication=mode, connect_hook=hook, **rules), hook


def register(**identity: Any) -> dict[str, Any]:
    return {"type": "c_client_register", "client_id": "c1", **identity}


def connect(gw: Stage, path: str = "/ws", message: object = None, **more: Any) -> tuple[Session, MemoryPeer]:
    session, peer = gw.connect(path, **more)
    if message is not None:
        gw.say(session, message)
    return session, peer


def test_it_is_shown_the_handshake_and_the_first_message() -> None:
    gw, hook = at()
    _, peer = connect(gw, "/ws", register(), headers={"cookie": "s=1", "x": "y"}, query="a=b", address="192.0.2.7")
    assert hook.asked == [
        Presented("/ws", "a=b", "192.0.2.7", {"cookie": "s=1"}, json.dumps(register()).encode()),
    ]
    assert not peer.messages, "nothing is said before it has answered"
    hook.answer(Proof("ann", expires_at=gw.clock.wall() + 60))
    said = peer.take()[0]
    assert (said["type"], said["user_id"], said["expires_at"]) == (
        "registration_success",
        "ann",
        gw.clock.wall() + 60,
    )


def test_what_comes_meanwhile_is_taken_in_its_order() -> None:
    gw, hook = at()
    session, peer = connect(gw, message=register())
    gw.say(session, {"type": "heartbeat"})
    gw.say(session, register(user_id="bob"))
    assert not peer.messages
    hook.answer(ANN)
    assert [message["type"] for message in peer.take()] == [
        "registration_success",
        "heartbeat",
        "registration_rejected",
    ]
    assert peer.close_code == CloseCode.NOT_ALLOWED
    assert len(hook.asked) == 1


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_an_answer_binds_the_user_for_as_long_as_the_connection(mode: str) -> None:
    gw, hook = at(mode)
    session, peer = connect(gw, message=register())
    hook.answer(Proof("ann", fields={"channel_id": ("news",)}))
    assert peer.take()[0]["user_id"] == "ann"
    # Herself again, with another name of the same user's device, is no other user; and the hook is not asked again.
    for again in (register(client_id="c2"), register(user_id="ann", channel_id="news")):
        assert gw.ask(session, again)[0]["user_id"] == "ann"
    # A refresh needs a token, and there is none that could be checked.
    (said,) = gw.ask(session, {"type": "token_refresh", "token": "a.b.c"})
    assert (said["type"], said["code"]) == ("error", "forbidden")
    gw.say(session, register(user_id="bob"))
    (said,) = peer.take()
    assert (said["type"], said["reason"]) == ("registration_rejected", "forbidden")
    assert peer.close_code == CloseCode.NOT_ALLOWED
    assert len(hook.asked) == 1


def test_an_answer_ends_when_it_says_and_only_coming_back_renews_it() -> None:
    gw, hook = at()
    _, peer = connect(gw, message=register())
    hook.answer(Proof("ann", expires_at=gw.clock.wall() + 60))
    gw.pass_time(90)
    assert peer.close_code == CloseCode.NOT_AUTHENTICATED
    _, peer = connect(gw, message=register())
    hook.answer(ANN)
    assert peer.take()[0]["user_id"] == "ann"
    assert len(hook.asked) == 2


def test_who_is_another_is_not_told_by_a_users_path_that_she_was_taken_back() -> None:
    told = []
    for user in ("ann", "nobody"):
        gw, hook = at()
        gw.gateway.revoking.index.add(Revocation("user_id", "ann", None, gw.clock.wall(), gw.clock.wall() + 60))
        _, peer = connect(gw, f"/ws/{user}")
        hook.answer(Proof("bob"))
        told.append((peer.take(), peer.closes))
    assert told[0] == told[1]
    assert told[0][1][0][0] is CloseCode.NOT_ALLOWED


MESSAGES: list[tuple[str, object, str]] = [
    ("/ws", register(), "registration_rejected"),
    ("/", {"type": "connect", "data": {}}, "error"),
    ("/", {"type": "request", "msg_id": "m", "data": {"action": "get_time"}}, "error"),
    ("/", {"command": "echo", "request_id": "r"}, ""),
    ("/requester", {"command": "echo", "request_id": "r"}, ""),
    ("/", b"nonsense", "error"),
    ("/ws/ann", None, "error"),
]


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize("production", [False, True])
@pytest.mark.parametrize(("fault", "code"), [(REFUSED, 4001), (AWAY, 1013)])
@pytest.mark.parametrize(("path", "message", "answered"), MESSAGES)
def test_who_is_refused_is_told_in_its_dialect_and_closed(
    mode: str, production: bool, fault: PeerFault, code: int, path: str, message: object, answered: str
) -> None:
    gw, hook = at(mode, production=production)
    session, peer = connect(gw, path, message)
    hook.answer(fault)
    told = peer.take()
    assert told, "it is told why"
    if answered:
        assert any(one["type"] == answered for one in told)
    else:
        assert told[0]["success"] is False
    if message != b"nonsense":
        assert peer.close_code == code
    else:
        assert peer.close_code in (code, 1003)
    assert session not in gw.gateway.hub


@pytest.mark.parametrize("fault", [REFUSED, AWAY])
@pytest.mark.parametrize("path", ["/requester", "/"])
def test_nothing_that_who_is_refused_has_asked_is_done(path: str, fault: PeerFault) -> None:
    gw, hook = at("optional", open_requesters=True)
    worker, its = gw.connect("/worker")
    gw.say(worker, {"type": "connect", "data": {"role": "worker", "client_id": "w1"}})
    hook.answer(None)
    its.take()
    session, peer = connect(gw, path, {"command": "echo", "request_id": "r1"})
    gw.say(session, {"command": "echo", "request_id": "r2"})
    hook.answer(fault)
    assert [one["error"] for one in peer.take() if not one["success"]][:1] == [fault.message]
    assert peer.close_code == fault.close
    assert not its.take(), "no worker hears of it"


@pytest.mark.parametrize("production", [False, True])
def test_every_dialect_comes_in_with_a_proof(production: bool) -> None:
    gw, hook = at(production=production)
    _, peer = connect(gw, "/", {"type": "connect", "data": {"client_id": "e1"}})
    hook.answer(ANN)
    assert peer.take()[0]["type"] == "connect"
    _, peer = connect(gw, "/requester", {"command": "echo", "request_id": "r"})
    hook.answer(Proof(role="requester"))
    assert peer.take()[0]["error"] == "No available workers"
    session, peer = connect(gw, "/ws/ann")
    hook.answer(ANN)
    assert session.identity.user_id == "ann"
    assert peer.close_code is None
    _, peer = connect(gw, "/worker")
    hook.answer(Proof(role="worker", commands=("echo",)))
    assert peer.take()[0]["type"] == "connect"


def test_the_path_of_another_user_is_refused() -> None:
    gw, hook = at()
    session, peer = connect(gw, "/ws/bob")
    hook.answer(ANN)
    assert peer.close_code == CloseCode.NOT_ALLOWED
    assert session not in gw.gateway.hub


@pytest.mark.parametrize(("mode", "code"), [("optional", None), ("required", CloseCode.NOT_AUTHENTICATED)])
def test_nobody_in_particular(mode: str, code: int | None) -> None:
    gw, hook = at(mode)
    _, peer = connect(gw, message=register(user_id="ann"))
    hook.answer(None)
    assert peer.close_code == code


def test_a_worker_with_its_own_secret_needs_no_hook() -> None:
    gw, hook = at(production=True, handshake_key="a-handshake-key-of-this-test")
    session, peer = connect(gw, "/worker")
    hook.answer(REFUSED)
    assert peer.close_code is None
    gw.say(session, {"type": "handshake", "data": {"handshake_key": "a-handshake-key-of-this-test"}})
    assert session.worker is not None


def test_one_with_an_api_key_is_not_asked_about() -> None:
    key = "an-api-key-of-this-test-0123456789"
    gw, hook = at(api_keys=[key])
    connect(gw, message=register(), headers={"authorization": f"Bearer {key}"})
    assert not hook.asked


def test_the_question_is_given_up_when_the_client_goes() -> None:
    gw, hook = at()
    session, peer = connect(gw, message=register())
    gw.close(session)
    assert hook.cancelled == 1
    hook.answer(ANN)  # too late, and for nobody
    assert not peer.messages


def test_what_is_kept_meanwhile_is_bounded() -> None:
    gw, hook = at()
    session, peer = connect(gw, message=register())
    for _ in range(MAX_KEPT):
        gw.say(session, {"type": "heartbeat"})
    assert peer.close_code == CloseCode.POLICY
    assert hook.cancelled == 1
    hook.replies.clear()


def test_one_that_never_speaks_is_closed() -> None:
    gw, hook = at(registration_timeout=5.0)
    _, peer = gw.connect("/ws")
    gw.pass_time(6)
    assert peer.close_code == CloseCode.SILENT
    assert not hook.asked


PATHS: list[tuple[str, object, Proof]] = [
    ("/ws", register(), ANN),
    ("/", {"type": "connect", "data": {}}, ANN),
    ("/requester", {"command": "echo"}, Proof("ann", role="requester")),
    ("/", {"command": "echo"}, Proof("ann", role="requester")),
    ("/", {"type": "request", "data": {"action": "echo"}}, ANN),
    ("/ws/ann", None, ANN),
]


@pytest.mark.parametrize(("path", "message", "proof"), PATHS)
def test_who_was_taken_back_stays_away_whatever_the_hook_says(path: str, message: object, proof: Proof) -> None:
    gw, hook = at()
    now = gw.clock.wall()
    replies: list[PeerFault | None] = []
    gw.gateway.revoking.revoke(Revocation("user_id", "ann", None, now, now + 60), Reply(replies.append))
    gw.gateway.tick()
    gw.defer.run()
    assert replies == [None]
    _, peer = connect(gw, path, message)
    hook.answer(proof)
    assert peer.close_code == CloseCode.NOT_AUTHENTICATED


def test_it_is_closed_when_the_proof_ends() -> None:
    gw, hook = at()
    _, peer = connect(gw, message=register())
    hook.answer(Proof("ann", expires_at=gw.clock.wall() + 5))
    gw.pass_time(29)
    assert peer.close_code is None
    gw.pass_time(2)
    assert peer.close_code == CloseCode.NOT_AUTHENTICATED
