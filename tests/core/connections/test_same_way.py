"""Who may not know whether a user is there is refused on the same way, whether she is or not: the same lines run, so
the same questions are asked of the backplane and the stores, and the same bytes are answered. Nothing is timed."""

import re
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import pytest

from portico.wire.messages import Event, Target
from service.core.api_keys import ApiKey, digest_of
from service.core.ports import HttpAnswer
from service.core.refusals import GUESSES
from service.core.reply import Reply
from service.core.revocations import Revocation
from tests.core.connections.test_authentication import HANDSHAKE_KEY, KEY, FakeTokens, at, register
from tests.fakes import Refused, Stage, handshake, publish, start_login
from tests.lines import lines_of

THERE, NOT_THERE, REVOKED = "qqa", "qqe", "qqr"
"""Of one length each, and all strangers to who asks."""

_MADE = re.compile(r"msg_\w+|(?:client-|worker-)?[0-9a-f]{32}")
"""What is made anew for each connection or message."""


def full(mode: str) -> tuple[Stage, FakeTokens]:
    """A gateway at which `qqa` is connected, as client and as user, logged in, with a history; `qqr` was taken back."""
    keys = (ApiKey("shop", frozenset(("publish", "worker")), digest_of(KEY)),)
    made, tokens = at(mode, production=True, api_keys=keys, handshake_key=HANDSHAKE_KEY, max_connections_per_user=2)
    tokens.make("bob", "bob")
    tokens.make("boss", "bob", role="admin", tenant="other")
    tokens.make("tied", "bob", fields={"client_id": ("bobs-*",)})
    tokens.make("operator", role="admin")
    token = tokens.make("her", THERE)
    session, _ = made.connect("/")
    made.ask(session, register(token, user_id=THERE, client_id=f"dev-{THERE}", channel_id=f"ch-{THERE}"))
    made.connect(f"/ws/{THERE}", headers={"authorization": f"Bearer {token}"})
    start_login(made, THERE)
    publish(made, Target("user_id", THERE), Event("secret"), durable=True)
    until = made.clock.wall() + 3600
    made.gateway.revoking.revoke(Revocation("user_id", REVOKED, None, made.clock.wall(), until), Reply(lambda _: None))
    return made, tokens


def handshake_with(shown: str | None) -> Callable[[Stage, str], object]:
    headers = {} if shown is None else {"authorization": f"Bearer {shown}"}

    def probe(made: Stage, name: str) -> object:
        with pytest.raises(Refused) as refused:
            made.connect(f"/ws/{name}", headers=headers)
        return refused.value.answer

    return probe


def saying(first: Callable[[str], dict[str, Any]], *then: Callable[[str], dict[str, Any]]) -> Callable[..., object]:
    """What a connection says; what it is told is taken without the names that it has said itself."""

    def probe(made: Stage, name: str) -> object:
        session, peer = made.connect("/")
        for message in (first, *then):
            made.say(session, message(name))
        made.close(session)
        return [_MADE.sub("#", text).replace(name, "?") for text in peer.texts], peer.closes

    return probe


def register_as(shown: str | None) -> Callable[[str], dict[str, Any]]:
    return lambda name: register(shown, user_id=name, client_id=f"dev-{name}")


def connect_as(shown: str | None, **more: Any) -> Callable[[str], dict[str, Any]]:
    return lambda name: {"type": "connect", "msg_id": "m", "data": {"user_id": name, "token": shown, **more}}


def as_bob(**more: Any) -> Callable[[str], dict[str, Any]]:
    return lambda name: register("a.bob.c", user_id="bob", client_id="bobs", **more)


def resuming(name: str) -> dict[str, Any]:
    offsets = {f"user:{name}": 0, f"channel:ch-{name}": 0, f"client:dev-{name}": 0}
    return register("a.bob.c", user_id="bob", client_id="bobs", resume={"epoch": "e", "offsets": offsets})


def asks(name: str) -> dict[str, Any]:
    params = {"user_id": name, "client_id": f"dev-{name}"}
    return {"type": "request", "msg_id": "m", "data": {"action": "get_client_info", "params": params}}


def answers(name: str) -> dict[str, Any]:
    return {"type": "response", "msg_id": "m", "data": {"request_id": f"dev-{name}", "success": True, "result": 1}}


TOKENS = (None, "a.bad.c", "a.bob.c", "a.boss.c")
PROBES: dict[str, Callable[..., object]] = {
    **{
        f"/ws/ with {shown}": handshake_with(shown) for shown in (None, "a.bad.c", "a.bob.c", "no key", KEY, "a.boss.c")
    },
    **{f"register with {shown}": saying(register_as(shown)) for shown in TOKENS},
    **{f"connect with {shown}": saying(connect_as(shown)) for shown in TOKENS},
    **{
        f"work with {s}": saying(connect_as(s, role="worker")) for s in (None, "a.bad.c", "a.bob.c", HANDSHAKE_KEY, KEY)
    },
    "switch": saying(as_bob(), lambda name: register(user_id=name, client_id="bobs")),
    "switch with a wrong token": saying(as_bob(), register_as("a.bad.c")),
    "resume": saying(resuming),
    "another's client_id": saying(lambda name: register("a.tied.c", user_id="bob", client_id=f"dev-{name}")),
    "get_client_info": saying(connect_as("a.bob.c"), asks),
    "get_client_info as oneself": saying(lambda _: connect_as("a.bob.c")("bob"), asks),
    "get_client_info of a tenant's admin": saying(lambda _: connect_as("a.boss.c")("bob"), asks),
    "another's request": saying(lambda _: connect_as("a.bob.c")("bob"), answers),
    "session_feedback without a login": saying(
        as_bob(), lambda name: {"type": "session_feedback", "success": True, "message": name}
    ),
}


def ways_of(made: Stage, probe: Callable[[Stage, str], object], names: Collection[str]) -> list[tuple[object, object]]:
    """What each name is answered, and by which lines."""
    for _ in names:
        probe(made, NOT_THERE)  # what is done once is done
    found: list[tuple[object, object]] = []
    for name in names:
        answers: list[object] = []
        found.append((answers, lines_of(partial(lambda name, to: to.append(probe(made, name)), name, answers))))
    return found


@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES.keys())
def test_a_stranger_is_answered_the_same_on_the_same_way(probe: Callable[[Stage, str], object]) -> None:
    made, _ = full("required")
    there, not_there, revoked = ways_of(made, probe, (THERE, NOT_THERE, REVOKED))
    assert there == not_there == revoked


def test_who_may_know_is_answered_on_another_way() -> None:
    # Else the test above could not fail.
    made, _ = full("required")
    there, not_there, revoked = ways_of(made, saying(register_as("a.operator.c")), (THERE, NOT_THERE, REVOKED))
    assert len({str(way[1]) for way in (there, not_there, revoked)}) == 3


def test_a_login_of_anothers_is_none() -> None:
    made, _ = full("required")
    hers = start_login(made, THERE).session_id

    def probe(made: Stage, session_id: str) -> object:
        return saying(as_bob(), lambda _: {"type": "session_feedback", "session_id": session_id, "success": True})(
            made, session_id
        )

    # Of the same shape: whether a text looks like a large number is seen at what the caller itself sends.
    there, not_there = ways_of(made, probe, (hers, hers.translate(str.maketrans("0123456789abcdf", "1234567890bcdfa"))))
    assert there == not_there


@pytest.mark.parametrize("slowed_down", [False, True])
@pytest.mark.parametrize("path", ["/", "/requester"])
def test_a_guess_is_no_nearer_to_a_key_by_its_beginning_or_while_it_is_not_looked_at(
    path: str, slowed_down: bool
) -> None:
    made, _ = full("optional")
    near, far = KEY[:-1] + "x", "x" * len(KEY)
    if slowed_down:
        for _ in range(2 * GUESSES):
            made.gateway.refusals.on_refused("api_key", "203.0.113.9")

    def guess(made: Stage, secret: str) -> object:
        headers = {"authorization": f"Bearer {secret}"}
        answer = made.gateway.admit(handshake(path, headers=headers, address="203.0.113.9"))
        return answer if isinstance(answer, HttpAnswer) else (answer.key, answer.proof)

    # While guesses from there aren't looked at, the right one goes the way of the wrong ones.
    first, *others = ways_of(made, guess, (near, far, KEY) if slowed_down else (near, far))
    assert all(other == first for other in others)


@pytest.mark.parametrize("slowed_down", [False, True])
@pytest.mark.parametrize("how", [None, "worker"])
def test_nor_to_a_workers_secret(how: str | None, slowed_down: bool) -> None:
    made, _ = full("optional")
    if slowed_down:
        for _ in range(2 * GUESSES):
            made.gateway.refusals.on_refused("worker_secret", "127.0.0.1")

    def message(secret: str) -> dict[str, Any]:
        if how is None:
            return {"type": "handshake", "msg_id": "m", "data": {"handshake_key": secret}}
        return {"type": "connect", "msg_id": "m", "data": {"role": "worker", "token": secret}}

    near, far, short = HANDSHAKE_KEY[:-1] + "x", "x" * len(HANDSHAKE_KEY), "x"
    guesses = (near, far, short, HANDSHAKE_KEY) if slowed_down else (near, far, short)
    first, *others = ways_of(made, saying(message), guesses)
    assert all(other == first for other in others)
