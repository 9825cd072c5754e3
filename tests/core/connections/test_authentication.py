"""What a connection must have proven: each way to show a token, each dialect, each mode, and what is closed without."""

from typing import Any

import pytest

from portico.wire.codes import CloseCode
from portico.wire.messages import Target
from service.core.api_keys import ApiKey, Scope, digest_of
from service.core.proof import KeyAwaited, NotProven, Proof
from service.core.refusals import GUESSES
from tests.fakes import Refused, Stage, handshake, refusal, stage, stages

KEY = "an-api-key-of-this-test-0123456789"
HANDSHAKE_KEY = "a-handshake-key-of-this-test"


class FakeTokens:
    """Tokens by their text; what they say is made here, so that the clock of the stage decides when they end."""

    AWAITED = "a.awaited.c"
    """One whose key is being fetched."""

    def __init__(self) -> None:
        self.proofs: dict[str, Proof] = {}

    def verify(self, token: str) -> Proof:
        """The proof that was put there."""
        if token == self.AWAITED:
            raise KeyAwaited
        if token.count(".") != 2:
            raise NotProven("malformed", "The token is no signed JWT.")
        if token not in self.proofs:
            raise NotProven("signature", "The token's signature does not hold.")
        return self.proofs[token]

    def make(self, name: str, user: str | None = None, **more: Any) -> str:
        """A token of this name: for a user `ann`, unless it says otherwise."""
        self.proofs[f"a.{name}.c"] = Proof(user or ("ann" if more.get("role", "client") == "client" else None), **more)
        return f"a.{name}.c"


def at(mode: str, *, production: bool = False, **rules: Any) -> tuple[Stage, FakeTokens]:
    tokens = FakeTokens()
    made = stage(authentication=mode, production=production, tokens=tokens, **rules)
    return made, tokens


def register(token: str | None = None, **identity: Any) -> dict[str, Any]:
    return {"type": "c_client_register", "client_id": "c1", **({"token": token} if token else {}), **identity}


# Where a token may stand


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize(
    "where",
    [
        {"headers": {"authorization": "Bearer a.ann.c"}},
        {"headers": {"authorization": "bearer   a.ann.c "}},
        {"headers": {"sec-websocket-protocol": "portico.c-client.v1, bearer.a.ann.c"}},
        {"headers": {"sec-websocket-protocol": "bearer.a.ann.c"}},
        {"query": "x=1&token=a.ann.c"},
        {"query": "token=a%2Eann.c"},
    ],
)
def test_a_token_in_the_handshake(mode: str, where: dict[str, Any]) -> None:
    gw, tokens = at(mode)
    tokens.make("ann", expires_at=gw.clock.wall() + 60)
    session, _ = gw.connect("/ws", **where)
    (answer,) = gw.ask(session, register())
    assert (answer["type"], answer["user_id"]) == ("registration_success", "ann")
    assert answer["expires_at"] == gw.clock.wall() + 60


def test_the_subprotocol_that_is_named_bears_no_token_if_there_is_another() -> None:
    gw, tokens = at("required")
    tokens.make("ann")
    for offered, named in [
        ("bearer.a.ann.c, portico.c-client.v1", "portico.c-client.v1"),
        ("bearer.a.ann.c", "bearer.a.ann.c"),  # a browser wants one that it offered
    ]:
        admission = gw.gateway.admit(handshake("/ws", headers={"sec-websocket-protocol": offered}))
        assert getattr(admission, "subprotocol", None) == named


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize("path", ["/", "/ws", "/worker", "/requester", "/ws/ann"])
def test_a_bad_token_is_refused_at_the_door_on_every_path(mode: str, path: str) -> None:
    gw, _ = at(mode)
    with pytest.raises(Refused) as refused:
        gw.connect(path, headers={"authorization": "Bearer a.forged.c"})
    status, body = refusal(refused.value.answer)
    assert (status, body["error"]["code"]) == (401, "unauthorized")
    assert "forged" not in body["error"]["message"]
    assert ("www-authenticate", "Bearer") in refused.value.answer.headers
    assert gw.gateway.authentication.refused == {"signature": 1}


def test_a_token_in_the_first_message() -> None:
    gw, tokens = at("required")
    session, _ = gw.connect("/ws")
    (answer,) = gw.ask(session, register(tokens.make("ann")))
    assert (answer["type"], answer["user_id"]) == ("registration_success", "ann")
    assert "expires_at" not in answer


def test_tokens_are_not_looked_at_where_the_mode_is_off() -> None:
    gw = stage()
    session, _ = gw.connect("/ws", headers={"authorization": "Bearer a.forged.c"}, query="token=x")
    (answer,) = gw.ask(session, register("forged", user_id="ann"))
    assert answer["type"] == "registration_success"


def test_where_the_key_of_a_token_is_being_fetched_its_owner_is_told_to_come_again() -> None:
    gw, tokens = at("required")
    for address in ("192.0.2.1", "192.0.2.2"):
        # As often as would be guessing.
        for _ in range(30):
            with pytest.raises(Refused) as refused:
                gw.connect("/ws", address=address, query="token=" + tokens.AWAITED)
            status, body = refusal(refused.value.answer)
            assert (status, body["error"]["code"]) == (503, "unavailable")
            assert ("retry-after", "5") in refused.value.answer.headers
    assert gw.gateway.authentication.refused == {"key_awaited": 60}
    session, peer = gw.connect("/ws")
    (answer,) = gw.ask(session, register(tokens.AWAITED))
    assert (answer["type"], answer["reason"]) == ("registration_rejected", "unavailable")
    assert peer.closes[0][0] is CloseCode.TRY_LATER
    session, peer = gw.connect("/ws")
    gw.say(session, register(tokens.make("one", expires_at=gw.clock.wall() + 60)))
    (answer,) = gw.ask(session, {"type": "token_refresh", "token": tokens.AWAITED})
    assert (answer["type"], answer["code"]) == ("error", "unavailable")
    assert not peer.closes


# Who one may be


def test_required_and_nothing_shown() -> None:
    gw, _ = at("required")
    session, peer = gw.connect("/ws")
    (answer,) = gw.ask(session, register(user_id="ann"))
    assert (answer["type"], answer["reason"]) == ("registration_rejected", "unauthorized")
    assert peer.closes[0][0] is CloseCode.NOT_AUTHENTICATED
    assert len(gw.gateway.hub) == 0
    assert gw.journal.of("registered") == []


def test_optional_and_nothing_shown_is_as_before() -> None:
    gw, _ = at("optional")
    session, _ = gw.connect("/ws")
    assert gw.ask(session, register(user_id="ann"))[0]["type"] == "registration_success"


@pytest.mark.parametrize(
    ("claims", "identity"),
    [
        ({}, {"user_id": "bob"}),
        ({"fields": {"client_id": ("phone-*",)}}, {}),
        ({"fields": {"channel_id": ("news",)}}, {"channel_id": "board"}),
        ({"role": "worker", "user": "ann"}, {}),
        ({"role": "requester", "user": "ann"}, {}),
    ],
)
def test_another_one_than_the_token_says(claims: dict[str, Any], identity: dict[str, Any]) -> None:
    gw, tokens = at("optional")
    token = tokens.make("ann", **claims)
    session, peer = gw.connect("/ws")
    (answer,) = gw.ask(session, register(token, **identity))
    assert (answer["type"], answer["reason"]) == ("registration_rejected", "forbidden")
    assert peer.closes[0][0] is CloseCode.NOT_ALLOWED
    assert len(gw.gateway.hub) == 0


def test_a_switch_of_user_needs_that_users_token() -> None:
    gw, tokens = at("required")
    session, peer = gw.connect("/ws")
    gw.say(session, register(tokens.make("ann")))
    (answer,) = gw.ask(session, register(tokens.make("bob", "bob"), user_id="bob"))
    assert answer["user_id"] == "bob"
    gw.ask(session, register(user_id="ann"))
    assert peer.closes[0][0] is CloseCode.NOT_ALLOWED


def test_an_admin_may_be_anybody() -> None:
    gw, tokens = at("required")
    session, _ = gw.connect("/ws")
    assert gw.ask(session, register(tokens.make("root", role="admin"), user_id="bob"))[0]["user_id"] == "bob"


def test_an_admin_of_a_tenant_is_held_to_its_claims() -> None:
    """Whoever it named might be another tenant's, whose history and login it would get."""
    gw, tokens = at("required", production=True)
    made = {"role": "admin", "tenant": "t2", "fields": {"channel_id": ("t2:*",)}, "commands": ("t2.*",)}
    boss = tokens.make("boss", "boss", **made)
    for asked in ({"user_id": "ann"}, {"channel_id": "t1:x"}):
        session, peer = gw.connect("/ws")
        (answer,) = gw.ask(session, register(boss, **asked))
        assert (answer["type"], peer.close_code) == ("registration_rejected", 4003)
        session, peer = gw.connect("/worker")
        data = {"role": "worker", "client_id": "w", "commands": ["t2.a"], "token": boss, **asked}
        gw.ask(session, {"type": "connect", "data": data})
        assert peer.close_code == 4003
    with pytest.raises(Refused):
        gw.connect("/ws/ann", headers={"authorization": f"Bearer {boss}"})
    session, peer = gw.connect("/ws/boss", headers={"authorization": f"Bearer {boss}"})
    session, peer = gw.connect("/ws")
    (answer,) = gw.ask(session, register(boss, channel_id="t2:x"))
    assert (answer["type"], answer["user_id"]) == ("registration_success", "boss")
    session, _ = gw.connect("/requester", headers={"authorization": f"Bearer {boss}"})
    (answer,) = gw.ask(session, {"request_id": 1, "command": "t1.pay", "data": {}})
    assert (answer["success"], answer["error"] == "No available workers") == (False, False)
    (answer,) = gw.ask(session, {"request_id": 2, "command": "t2.pay", "data": {}})
    assert answer["error"] == "No available workers"


def test_registrations_are_answered_in_order_also_those_refused() -> None:
    gw, tokens = at("required")
    session, _ = gw.connect("/ws")
    token = tokens.make("ann")
    answers = []
    for identity in ({"user_id": "ann"}, {"user_id": "bob"}):
        answers += gw.ask(session, register(token, **identity))
    assert [answer["type"] for answer in answers] == ["registration_success", "registration_rejected"]


# Other dialects


def test_envelope_clients() -> None:
    gw, tokens = at("required")
    token = tokens.make("ann", expires_at=gw.clock.wall() + 60)
    session, _ = gw.connect("/ws")
    (answer,) = gw.ask(session, {"type": "connect", "data": {"client_id": "e1", "token": token}})
    assert (answer["type"], answer["data"]["expires_at"]) == ("connect", gw.clock.wall() + 60)
    assert session.identity.user_id == "ann"
    session, peer = gw.connect("/ws")
    gw.say(session, {"type": "connect", "data": {"client_id": "e1", "user_id": "ann"}})
    assert peer.closes[0][0] is CloseCode.NOT_AUTHENTICATED


@pytest.mark.parametrize("kind", ["connect", "handshake", "path"])
def test_workers_by_token(kind: str) -> None:
    gw, tokens = at("required", production=True)
    token = tokens.make("w", role="worker", commands=("echo", "add"))
    headers = {"authorization": f"Bearer {token}"} if kind == "path" else None
    session, peer = gw.connect("/worker" if kind == "path" else "/ws", headers=headers)
    if kind == "connect":
        gw.say(session, {"type": "connect", "data": {"client_id": "w1", "role": "worker", "token": token}})
    elif kind == "handshake":
        gw.say(session, {"type": "handshake", "data": {"handshake_key": token}})
    assert not peer.closes
    assert session.worker is not None
    gw.pass_time(1)
    assert session.worker.commands == frozenset({"echo", "add"})
    assert not peer.rate_limited


def test_a_worker_may_not_serve_more_than_its_token_names() -> None:
    gw, tokens = at("required")
    session, peer = gw.connect("/ws")
    token = tokens.make("w", role="worker", commands=("echo",))
    gw.say(session, {"type": "connect", "data": {"role": "worker", "token": token, "commands": ["echo", "pay"]}})
    assert peer.closes[0][0] is CloseCode.NOT_ALLOWED
    assert session.worker is None


@pytest.mark.parametrize("sub", [None, "bob"])
def test_a_workers_token_makes_it_no_user_but_its_own(sub: str | None) -> None:
    # It would get her pushes, and what she missed.
    gw, tokens = at("optional", production=True)
    token = tokens.make("w", sub, role="worker")
    session, peer = gw.connect("/ws")
    gw.say(session, {"type": "connect", "data": {"role": "worker", "token": token, "user_id": "ann"}})
    assert peer.close_code == CloseCode.NOT_ALLOWED
    assert session.worker is None
    session, peer = gw.connect("/ws")
    gw.say(session, {"type": "connect", "data": {"role": "worker", "token": token, "client_id": "w", "user_id": sub}})
    assert not peer.closes
    assert session.worker is not None


def test_an_end_far_away_is_an_end() -> None:
    gw, tokens = at("required")
    session, peer = gw.connect("/ws")
    (answer,) = gw.ask(session, register(tokens.make("ann", expires_at=1e308)))
    assert answer["expires_at"] == 1e308
    gw.pass_time(60)
    assert not peer.closes


def test_a_clients_token_makes_no_worker() -> None:
    gw, tokens = at("optional", production=True, handshake_key=HANDSHAKE_KEY)
    session, peer = gw.connect("/ws")
    gw.say(session, {"type": "connect", "data": {"role": "worker", "token": tokens.make("ann")}})
    assert peer.closes[0][0] is CloseCode.NOT_ALLOWED


def test_older_workers_come_in_by_their_key_in_every_mode() -> None:
    for mode in ("optional", "required"):
        gw, _ = at(mode, production=True, handshake_key=HANDSHAKE_KEY)
        session, peer = gw.connect("/ws")
        gw.say(session, {"type": "handshake", "data": {"handshake_key": HANDSHAKE_KEY}})
        assert session.worker is not None
        assert not peer.closes


def test_commands_that_a_token_covers() -> None:
    gw, tokens = at("required")
    gw.worker(token=tokens.make("w", role="worker"), commands=["echo", "pay"])
    headers = {"authorization": "Bearer " + tokens.make("r", role="requester", commands=("ec*",))}
    session, _ = gw.connect("/requester", headers=headers)
    (answer,) = gw.ask(session, {"request_id": "1", "command": "pay"})
    assert (answer["success"], answer["request_id"]) == (False, "1")
    assert gw.ask(session, {"request_id": "2", "command": "echo"}) == []  # at the worker
    client, _ = gw.connect("/ws")
    gw.say(client, {"type": "connect", "data": {"client_id": "e", "token": tokens.make("e", commands=("echo",))}})
    (answer,) = gw.ask(client, {"type": "request", "msg_id": "m", "data": {"action": "pay"}})
    assert (answer["type"], answer["data"]["code"]) == ("error", "forbidden")


def test_an_envelope_that_never_said_who_it_is_asks_nobody_where_proof_is_required() -> None:
    gw, tokens = at("required")
    _, worker = gw.worker(token=tokens.make("w", role="worker"), commands=["echo"])
    worker.take()
    for action in ("echo", "get_client_info"):
        session, peer = gw.connect("/ws")
        (answer,) = gw.ask(session, {"type": "request", "msg_id": "m", "data": {"action": action}})
        assert (answer["type"], answer["data"]["code"]) == ("error", "unauthorized")
        assert peer.closes[0][0] is CloseCode.NOT_AUTHENTICATED
    assert worker.take() == []


@pytest.mark.parametrize("how", ["/ws", "portico.envelope.v1"])
@pytest.mark.parametrize(
    "first",
    [
        {"type": "heartbeat", "data": {}},
        {"type": "notification", "data": {}},
        {"type": "response", "data": {"request_id": "x"}},
        {"type": "custom", "data": {"event": "token_refresh", "token": "a.b.c"}},
        None,
    ],
)
def test_who_proves_nothing_in_time_goes_where_proof_is_required(how: str, first: dict[str, Any] | None) -> None:
    """In whatever dialect, and whatever it says meanwhile: it would stay as long as it likes."""
    gw, tokens = at("required", registration_timeout=60)
    headers = {} if how == "/ws" else {"sec-websocket-protocol": how}
    session, peer = gw.connect("/ws", headers=headers)
    for _ in range(59):
        if first is not None:
            gw.ask(session, first)
        gw.pass_time(1)
    assert peer.closes == []
    gw.pass_time(2)
    expected = CloseCode.SILENT if first is None and how == "/ws" else CloseCode.NOT_AUTHENTICATED
    assert [code for code, _ in peer.closes] == [expected]
    # Those who prove it stay.
    session, peer = gw.connect("/ws", headers=headers)
    gw.ask(session, {"type": "connect", "data": {"client_id": "c", "token": tokens.make("ann")}})
    by_handshake = gw.connect("/ws", headers={**headers, "authorization": "Bearer " + tokens.make("bob", "bob")})
    gw.ask(by_handshake[0], {"type": "heartbeat", "data": {}})
    gw.pass_time(120)
    assert (peer.closes, by_handshake[1].closes) == ([], [])


def test_where_it_is_not_required_an_envelope_that_says_something_stays_as_before() -> None:
    gw, _ = at("optional", registration_timeout=60)
    session, peer = gw.connect("/ws")
    gw.ask(session, {"type": "heartbeat", "data": {}})
    gw.pass_time(120)
    assert peer.closes == []


def test_several_tokens_in_one_place_are_none() -> None:
    """A proxy or a log may have read the other one."""
    gw, tokens = at("optional")
    ann, bob = tokens.make("ann"), tokens.make("bob", "bob")
    for where in (
        {"query": f"token={ann}&token={bob}"},
        {"query": f"token={ann}&x=1&token={ann}"},
        {"query": f"token={ann}&%74oken={bob}"},
        {"headers": {"sec-websocket-protocol": f"bearer.{ann}, bearer.{bob}"}},
        {"headers": {"authorization": f"Bearer {ann}, Bearer {bob}"}},
    ):
        with pytest.raises(Refused) as refused:
            gw.connect("/ws", **where)
        assert refusal(refused.value.answer)[0] == 401
    assert gw.connect("/ws", query=f"token={ann}")[0].proof == tokens.proofs[ann]


# What is closed to those who prove nothing


@pytest.mark.parametrize("path", ["/requester", "/ws/ann"])
def test_paths_without_a_place_for_a_token(path: str) -> None:
    for mode, production, opened, status in [
        ("off", False, False, None),
        ("off", True, False, 403),
        ("off", True, True, None),
        ("optional", True, False, 403),
        ("optional", True, True, None),
        ("required", False, True, 401),
        ("required", True, True, 401),
    ]:
        rules: dict[str, Any] = {"production": production, "open_requesters": opened, "open_users": opened}
        if mode != "off":
            rules |= {"authentication": mode, "tokens": FakeTokens()}
        gw = stage(**rules)
        if status is None:
            gw.connect(path)
            continue
        with pytest.raises(Refused) as refused:
            gw.connect(path)
        assert refused.value.answer.status == status, (mode, production, opened)


@pytest.mark.parametrize("how", ["first message", "subprotocol"])
def test_a_requester_on_a_path_for_all_dialects(how: str) -> None:
    headers = {"sec-websocket-protocol": "portico.requester.v1"} if how == "subprotocol" else None
    gw = stage(production=True, open_requesters=False)
    if how == "subprotocol":
        with pytest.raises(Refused) as refused:
            gw.connect("/", headers=headers)
        assert refused.value.answer.status == 403
    else:
        session, peer = gw.connect("/")
        (answer,) = gw.ask(session, {"request_id": 7, "command": "echo"})
        assert (answer["success"], answer["data"]) == (False, None)
        assert peer.closes[0][0] is CloseCode.NOT_ALLOWED
    gw, tokens = at("required")
    token = tokens.make("r", role="requester")
    session, _ = gw.connect("/", headers={**(headers or {}), "authorization": f"Bearer {token}"})
    assert gw.ask(session, {"command": "echo"})[0]["error"] == "No available workers"


def test_who_may_use_a_users_path() -> None:
    gw, tokens = at("required")
    for name, claims, allowed in [
        ("ann", {}, True),
        ("bob", {"user": "bob"}, False),
        ("root", {"role": "admin"}, True),
        ("r", {"role": "requester", "user": "ann"}, False),
    ]:
        headers = {"authorization": "Bearer " + tokens.make(name, **claims)}
        if allowed:
            gw.connect("/ws/ann", headers=headers)
        else:
            with pytest.raises(Refused) as refused:
                gw.connect("/ws/ann", headers=headers)
            assert refused.value.answer.status == 403


@pytest.mark.parametrize(("path", "scope"), [("/requester", "request"), ("/ws/ann", "admin")])
def test_a_wrong_key_is_told_from_none_where_a_path_wants_one(path: str, scope: str) -> None:
    house = stage(production=True, api_keys=[KEY], open_requesters=False, open_users=False)
    for headers, beginning in (
        ({}, f"Send an API key with the scope {scope}: "),
        (
            {"authorization": "Bearer wrong"},
            f"This is not one of the API keys. Send an API key with the scope {scope}: ",
        ),
    ):
        with pytest.raises(Refused) as refused:
            house.connect(path, headers=headers)
        status, body = refusal(refused.value.answer)
        assert (status, body["error"]["code"]) == (403, "forbidden")
        assert body["error"]["message"].startswith(beginning)
    assert house.gateway.refusals.counted == {"forbidden": 1, "api_key": 1}


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize("path", ["/requester", "/ws/ann", "/worker"])
def test_a_wrong_key_is_not_spoken_of_as_a_token(mode: str, path: str) -> None:
    gw, _ = at(mode, production=True, api_keys=[KEY])
    with pytest.raises(Refused) as refused:
        gw.connect(path, headers={"authorization": "Bearer wrong"})
    status, body = refusal(refused.value.answer)
    assert (status, body["error"]["code"]) == (401, "unauthorized")
    assert body["error"]["message"].startswith("This is neither one of the API keys nor a token;")
    assert gw.gateway.refusals.counted == {"malformed": 1}


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize("path", ["/requester", "/ws/bob"])
def test_a_token_that_holds_is_no_guess_at_a_key_where_it_does_not_open_the_path(mode: str, path: str) -> None:
    gw, tokens = at(mode, production=True, api_keys=[KEY], open_requesters=False, open_users=False)
    headers = {"authorization": "Bearer " + tokens.make("ann")}
    for _ in range(2 * GUESSES):
        with pytest.raises(Refused) as refused:
            gw.connect(path, headers=headers)
        assert refused.value.answer.status == 403
    assert gw.gateway.refusals.counted == {"forbidden": 2 * GUESSES}


def test_api_keys_open_what_tokens_do() -> None:
    gw, _ = at("required", production=True, api_keys=[KEY])
    session, _ = gw.connect("/requester", headers={"authorization": f"Bearer {KEY}"})
    assert gw.ask(session, {"command": "echo"})[0]["error"] == "No available workers"


@pytest.mark.parametrize(
    ("mode", "production", "claims", "sees"),
    [
        ("off", False, None, True),
        ("off", True, None, False),
        ("optional", False, None, True),
        ("optional", False, {}, False),
        ("optional", True, None, False),
        ("required", False, {}, False),
        ("required", True, {"role": "admin"}, True),
    ],
)
def test_who_is_told_about_others(mode: str, production: bool, claims: dict[str, Any] | None, sees: bool) -> None:
    rules: dict[str, Any] = {"production": production}
    tokens = FakeTokens()
    if mode != "off":
        rules |= {"authentication": mode, "tokens": tokens}
    gw = stage(**rules)
    data = {} if claims is None else {"token": tokens.make("me", **claims)}
    token = {"token": tokens.make("x", "bob")} if mode == "required" else {}
    for client_id in ("other", "me"):
        session, _ = gw.connect("/ws")
        mine = data if client_id == "me" else token
        gw.say(session, {"type": "connect", "data": {"client_id": client_id, **mine}})
    (answer,) = gw.ask(session, {"type": "request", "msg_id": "1", "data": {"action": "get_client_info"}})
    result = answer["data"]["result"]
    assert result["total_clients"] == 2
    assert [each["client_id"] for each in result["clients"]] == (["other", "me"] if sees else ["me"])


# On an open socket


def test_a_refresh_lengthens_and_an_end_closes() -> None:
    gw, tokens = at("required")
    start = gw.clock.wall()
    session, peer = gw.connect("/ws")
    gw.say(session, register(tokens.make("one", expires_at=start + 60)))
    gw.pass_time(50)
    newer = tokens.make("two", expires_at=start + 120)
    assert gw.ask(session, {"type": "token_refresh", "token": newer}) == [
        {"type": "token_refresh", "expires_at": start + 120}
    ]
    gw.pass_time(50)
    assert not peer.closes
    gw.pass_time(43)  # 143 s: 120 and nearly 25
    assert not peer.closes
    gw.pass_time(4)
    assert peer.closes[0][0] is CloseCode.NOT_AUTHENTICATED


@pytest.mark.parametrize("claims", [{"user": "bob"}, {"role": "admin", "user": "ann"}, {"tenant": "other"}])
def test_a_refresh_is_of_the_same_principal(claims: dict[str, Any]) -> None:
    gw, tokens = at("required")
    session, peer = gw.connect("/ws")
    gw.say(session, register(tokens.make("one", expires_at=gw.clock.wall() + 60)))
    (answer,) = gw.ask(session, {"type": "token_refresh", "token": tokens.make("two", **claims)})
    assert (answer["type"], answer["code"]) == ("error", "forbidden")
    assert not peer.closes
    assert session.proof is not None
    assert session.proof.expires_at == gw.clock.wall() + 60


def test_a_narrower_token_lengthens_nothing_that_a_wider_one_gave() -> None:
    gw, tokens = at("required")
    end = gw.clock.wall() + 60
    session, peer = gw.connect("/ws")
    gw.say(session, register(tokens.make("one", expires_at=end), channel_id="board"))
    narrow = tokens.make("two", fields={"channel_id": ("news",)}, expires_at=end + 600)
    (answer,) = gw.ask(session, {"type": "token_refresh", "token": narrow})
    assert (answer["type"], answer["code"]) == ("error", "forbidden")
    assert session.proof is not None
    assert session.proof.expires_at == end
    # As who it may be, it goes on with it.
    (answer,) = gw.ask(session, register(narrow, channel_id="news"))
    assert (answer["type"], answer["expires_at"]) == ("registration_success", end + 600)
    assert not peer.closes


@pytest.mark.parametrize("commands", [None, ["echo", "calculate"]])
def test_nor_does_a_worker_serve_more_by_it(commands: list[str] | None) -> None:
    gw, tokens = at("required")
    end = gw.clock.wall() + 60
    session, peer = gw.connect("/worker", query="token=" + tokens.make("one", role="worker", expires_at=end))
    gw.ask(session, {"type": "connect", "data": {"role": "worker", "client_id": "w1", "commands": commands}})
    for allowed, answered in ((("echo",), "error"), (("echo", "calc*"), "custom" if commands else "error")):
        token = tokens.make("two", role="worker", commands=allowed, expires_at=end + 600)
        (answer,) = gw.ask(session, {"type": "custom", "data": {"event": "token_refresh", "token": token}})
        assert answer["type"] == answered
    assert not peer.closes


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize("role", ["client", "requester"])
@pytest.mark.parametrize("where", ["path", "port"])
def test_who_is_no_worker_is_told_so_where_workers_arrive(mode: str, role: str, where: str) -> None:
    gw, tokens = at(mode, production=True)
    kind = "worker" if where == "port" else "websocket"
    token = tokens.make("one", role=role, user="ann")
    session, peer = gw.connect("/worker" if where == "path" else "/", kind=kind, query=f"token={token}")
    (answer,) = peer.take()
    assert (answer["type"], answer["data"]["code"]) == ("error", "forbidden")
    assert peer.closes[0][0] is CloseCode.NOT_ALLOWED
    assert session.worker is None


def test_a_switch_of_user_that_is_refused_leaves_nobody_under_anothers_token() -> None:
    """Else whoever stole ann's token keeps her pushes by one of her own, when hers is over or was taken back."""
    gw, tokens = at("required", duplicates="keep")
    there, _ = gw.connect("/ws")
    gw.say(there, register(tokens.make("bob", "bob"), client_id="b"))
    session, peer = gw.connect("/ws")
    gw.say(session, register(tokens.make("ann", expires_at=gw.clock.wall() + 60)))
    again = tokens.make("bob-too", "bob", expires_at=gw.clock.wall() + 6000)
    answers = gw.ask(session, register(again, client_id="b"))
    assert answers[0]["reason"] == "already_connected"
    assert peer.closes[0][0] is CloseCode.NOT_ALLOWED
    # Her own, refused so, goes on as she was.
    session, peer = gw.connect("/ws")
    gw.say(session, register(again, client_id="c"))
    assert gw.ask(session, register(client_id="b"))[0]["reason"] == "already_connected"
    assert not peer.closes


def test_a_bad_refresh_is_said_and_the_connection_stays() -> None:
    gw, tokens = at("required")
    session, peer = gw.connect("/ws")
    gw.say(session, register(tokens.make("one", expires_at=gw.clock.wall() + 60)))
    for message, code in [
        ({"type": "token_refresh", "token": "a.forged.c"}, "unauthorized"),
        ({"type": "token_refresh"}, "missing_field"),
        ({"type": "token_refresh", "token": 7}, "bad_field"),
    ]:
        (answer,) = gw.ask(session, message)
        assert (answer["type"], answer["code"]) == ("error", code)
    assert not peer.closes
    other = stage()
    session, _ = other.client(client_id="c")
    assert other.ask(session, {"type": "token_refresh", "token": "x"})[0]["code"] == "forbidden"


def test_an_envelope_refresh() -> None:
    gw, tokens = at("required")
    start = gw.clock.wall()
    session, _ = gw.connect("/ws")
    gw.say(session, {"type": "connect", "data": {"token": tokens.make("one", expires_at=start + 60)}})
    data = {"event": "token_refresh", "token": tokens.make("two", expires_at=start + 90)}
    (answer,) = gw.ask(session, {"type": "custom", "data": data})
    assert answer["data"] == {"event": "token_refresh", "expires_at": start + 90}


def test_a_token_that_ends_on_any_dialect() -> None:
    gw, tokens = at("required")
    end = gw.clock.wall() + 60
    peers = []
    for path, claims in [("/ws/ann", {}), ("/requester", {"role": "requester"}), ("/worker", {"role": "worker"})]:
        headers = {"authorization": "Bearer " + tokens.make(path[1:].replace("/", "-"), expires_at=end, **claims)}
        peers.append(gw.connect(path, headers=headers)[1])
    gw.pass_time(84)
    assert [peer.closes for peer in peers] == [[], [], []]
    gw.pass_time(3)
    assert [peer.closes[0][0] for peer in peers] == [CloseCode.NOT_AUTHENTICATED] * 3


# One client, twice


def test_who_has_proven_nothing_replaces_nobody_who_has() -> None:
    gw, tokens = at("optional")
    proven, peer = gw.connect("/ws")
    gw.say(proven, register(tokens.make("ann"), user_id="ann", node_id="n"))
    stranger, _ = gw.connect("/ws")
    gw.say(stranger, register(user_id="ann", node_id="n"))
    assert not peer.closes
    again, _ = gw.connect("/ws")
    gw.say(again, register(tokens.make("ann2"), user_id="ann", node_id="n"))
    assert peer.closes[0][0] is CloseCode.REPLACED


def test_nor_over_nodes() -> None:
    tokens = FakeTokens()
    one, other = stages(2, authentication="optional", tokens=tokens)
    session, peer = one.connect("/ws")
    one.say(session, register(tokens.make("ann"), user_id="ann"))
    stranger, _ = other.connect("/ws")
    other.say(stranger, register(user_id="ann"))
    assert not peer.closes
    again, _ = other.connect("/ws")
    other.say(again, register(tokens.make("ann2"), user_id="ann"))
    assert peer.closes[0][0] is CloseCode.REPLACED


def test_a_replayed_refresh_gives_no_longer_life_than_it_says() -> None:
    gw, tokens = at("required")
    now = gw.clock.wall()
    old, new = tokens.make("old", "ann", expires_at=now + 10), tokens.make("new", "ann", expires_at=now + 100)
    session, peer = gw.connect("/ws")
    gw.ask(session, register(old))
    for shown, end in ((new, now + 100), (new, now + 100), (old, now + 10)):
        (answer,) = gw.ask(session, {"type": "token_refresh", "token": shown})
        assert answer == {"type": "token_refresh", "expires_at": end}
    gw.clock.move(10 + 25 + 2)
    gw.gateway.tick()
    assert peer.close_code == 4001


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize(
    ("shown", "scopes", "may"),
    [
        (HANDSHAKE_KEY, ("worker",), False),
        (KEY, ("worker",), False),
        (KEY, ("worker", "admin"), True),
    ],
)
def test_a_key_makes_a_worker_and_no_user_where_everybody_is_proven(
    mode: str, shown: str, scopes: tuple[Scope, ...], may: bool
) -> None:
    """As `ann` it would get what is pushed to her, and her history."""
    key = ApiKey("jobs", frozenset(scopes), digest_of(KEY))
    gw, _ = at(mode, production=True, handshake_key=HANDSHAKE_KEY, api_keys=(key,))
    connect = {"client_id": "w1", "role": "worker", "token": shown, "node_id": "n1"}
    session, peer = gw.connect("/ws")
    gw.say(session, {"type": "connect", "data": connect})
    assert session.worker is not None, "under a name of its own, as before"
    gw.say(session, {"type": "connect", "data": {**connect, "user_id": "ann"}})
    if may or mode == "optional":
        assert not peer.closes
        assert session.identity.user_id == "ann"
    else:
        assert peer.closes[0][0] is CloseCode.NOT_ALLOWED
        assert gw.gateway.authentication.refused["other_user"] == 1
        assert gw.gateway.hub.find(Target("user_id", "ann")) == ()
