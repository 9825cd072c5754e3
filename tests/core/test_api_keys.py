"""API keys: lines, scopes, and finding the one that was shown."""

import pytest

from portico.wire.codes import CloseCode
from service.core.api_keys import (
    MAX_KEYS,
    SCOPES,
    ApiKey,
    ApiKeys,
    BadKeyLine,
    Scope,
    bearer,
    digest_of,
    parse_file,
    parse_line,
)
from tests.fakes import Refused, Stage, stage

SECRET = "the-secret-of-the-shop-4711"
HASH = f"sha256:{digest_of(SECRET).hex()}"
SHOP = ApiKey("shop", frozenset(("publish", "logins")), digest_of(SECRET))


def test_a_line_is_what_the_key_prints() -> None:
    assert parse_line(f"  shop   logins+publish {HASH} ") == SHOP
    assert SHOP.line == f"shop publish+logins {HASH}"
    assert SECRET not in repr(SHOP) + SHOP.line


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("shop publish", "has 2 fields"),
        (f"shop publish logins {HASH}", "has 4 fields"),
        (f"sh/op publish {HASH}", "has a name"),
        (f"shop publish+everything {HASH}", "has a scope that does not exist; the scopes are publish, request,"),
        (f"shop publish+ {HASH}", "has a scope"),
        (f"shop publish {SECRET}", "has no hash"),
        (f"shop publish {HASH.upper()}", "has no hash"),
        (f"shop publish {HASH}0", "has no hash"),
    ],
)
def test_what_is_no_line_is_refused_without_a_word_of_it(line: str, problem: str) -> None:
    with pytest.raises(BadKeyLine) as caught:
        parse_line(line)
    assert str(caught.value).startswith(problem)
    assert SECRET not in str(caught.value)
    with pytest.raises(BadKeyLine, match=r"^Line 3 has "):
        parse_file(f"# ours\n\n{line}\n")


def test_a_file_has_comments_and_names_each_key_once() -> None:
    assert parse_file(f"# ours\n\nshop publish+logins {HASH} # the web shop\n") == (SHOP,)
    assert parse_file("# none yet\n") == ()
    with pytest.raises(BadKeyLine, match="The name shop stands for several"):
        parse_file(f"shop publish {HASH}\nshop logins {HASH}\n")
    with pytest.raises(BadKeyLine, match=f"at most {MAX_KEYS}"):
        parse_file("\n".join(f"shop-{number} publish {HASH}" for number in range(MAX_KEYS + 1)))


@pytest.mark.parametrize(
    "shown", [None, "", "the-secret-of-the-shop-471", SECRET + "1", SECRET.upper(), HASH, "\ud800"]
)
def test_only_the_secret_itself_is_the_key(shown: str | None) -> None:
    keys = ApiKeys([SHOP])
    assert keys.find(SECRET) == SHOP
    assert keys.find(shown) is None
    assert keys.find(bearer(f"bearer  {SECRET} ")) == SHOP
    assert bearer(f"Basic {SECRET}") is None


def test_an_empty_hash_is_not_the_key_of_who_sends_nothing() -> None:
    assert ApiKeys([ApiKey("odd", frozenset(), digest_of(""))]).find("") is None
    assert not ApiKeys([""]).configured


def test_a_key_opens_what_its_scopes_say_and_admin_everything() -> None:
    assert [scope for scope in SCOPES if SHOP.may(scope)] == ["publish", "logins"]
    admin = ApiKey("root", frozenset(("admin",)), b"")
    assert all(admin.may(scope) for scope in SCOPES)
    whole = ApiKeys(["a-key-without-a-line"]).find("a-key-without-a-line")
    assert whole is not None
    assert whole.name == "key-1"
    assert all(whole.may(scope) for scope in SCOPES)


def test_taking_the_last_key_away_closes_and_does_not_open() -> None:
    keys = ApiKeys(configured=True)
    keys.replace([SHOP])
    assert keys.find(SECRET) == SHOP
    keys.replace([])
    assert keys.find(SECRET) is None
    assert keys.configured
    assert keys.version == 2


def key(*scopes: Scope) -> ApiKey:
    return ApiKey("shop", frozenset(scopes), digest_of(SECRET))


BEARER = {"authorization": f"Bearer {SECRET}"}


def refusal(house: Stage, path: str) -> bytes:
    with pytest.raises(Refused) as caught:
        house.connect(path, headers=BEARER)
    assert caught.value.answer.status == 403
    return caught.value.answer.body


def test_a_key_without_the_scope_is_no_way_to_ask_workers() -> None:
    without: tuple[Scope, ...] = ("metrics", "worker", "publish")
    for scope in without:
        house = stage(production=True, api_keys=[key(scope)], open_requesters=False)
        assert b"lacks the scope request" in refusal(house, "/requester")
    enough: tuple[Scope, ...] = ("request", "admin")
    for scope in enough:
        stage(production=True, api_keys=[key(scope)], open_requesters=False).connect("/requester", headers=BEARER)


@pytest.mark.parametrize(("scope", "path"), [("publish", "/ws/ann"), ("clients:read", "/ws/ann")])
def test_nor_to_listen_as_a_user(scope: Scope, path: str) -> None:
    house = stage(production=True, api_keys=[key(scope)], open_users=False)
    assert b"lacks the scope admin" in refusal(house, path)


@pytest.mark.parametrize(("scope", "others"), [("clients:read", True), ("admin", True), ("publish", False)])
def test_nor_to_see_other_clients(scope: Scope, others: bool) -> None:
    house = stage(production=True, api_keys=[key(scope)])
    session, _ = house.connect("/ws", headers=BEARER)
    assert house.gateway.authentication.sees_others(session) is others


def test_who_came_with_a_key_goes_when_it_is_taken_back() -> None:
    house = stage(production=True, more_api_keys=True)
    house.gateway.api_keys.replace([key("request", "worker")])
    _, gone = house.connect("/requester", headers=BEARER)
    worker, gone_too = house.connect("/worker")
    house.say(worker, {"type": "connect", "data": {"role": "worker", "token": SECRET}})
    assert worker.worker is not None
    _, stays = house.connect("/ws")
    house.gateway.api_keys.replace([])
    for peer in (gone, gone_too):
        assert peer.closes == [(CloseCode.NOT_AUTHENTICATED, "the API key was taken back")]
    assert not stays.closes
