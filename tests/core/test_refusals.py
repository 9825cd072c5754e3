"""Refusals: all counted by cause and told; and who guesses keys or tokens is slowed down, and nobody else."""

from typing import Any

import pytest

from portico.wire.codes import CloseCode
from service.core.refusals import ADDRESSES, GUESSES, SECONDS_PER_GUESS, Refusals
from tests.core.connections.test_authentication import FakeTokens
from tests.fakes import ManualClock, Stage, handshake, refusal, stage
from tests.http.stage import SessionOwner, behind_proxy, house

KEY, HANDSHAKE = "an-api-key-of-this-test-0123456789", "a-handshake-key-of-this-test-01234"
ATTACKER, NEIGHBOUR = "192.0.2.66", "192.0.2.7"
WHOLE = {"production": True, "api_keys": [KEY], "handshake_key": HANDSHAKE, "open_requesters": False}


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


class Told:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.lines: list[tuple[str, str]] = []
        self.refusals = Refusals(self, lambda *line: self.lines.append(line), now=self.clock.now)

    def on_refused(self, cause: str, address: str) -> None:
        self.lines.append((cause, address))

    def on_act(self, *_: Any, **__: Any) -> None:
        """Not of interest here."""

    def on_push(self, *_: Any) -> None:
        """Not of interest here."""


def test_an_address_that_guesses_is_slowed_down_and_forgotten_again() -> None:
    told = Told()
    for _ in range(GUESSES):
        assert told.refusals.wait(ATTACKER) == 0
        told.refusals.on_refused("signature", ATTACKER)
    assert told.refusals.wait(ATTACKER) == pytest.approx(SECONDS_PER_GUESS)
    told.clock.move(SECONDS_PER_GUESS)
    assert told.refusals.wait(ATTACKER) == 0
    told.refusals.on_refused("api_key", ATTACKER)
    assert told.refusals.wait(ATTACKER) > 0
    told.clock.move(GUESSES * SECONDS_PER_GUESS)
    for _ in range(GUESSES):
        assert told.refusals.wait(ATTACKER) == 0
        told.refusals.on_refused("api_key", ATTACKER)


def test_a_burst_does_not_shut_an_address_for_ever() -> None:
    told = Told()
    for _ in range(100 * GUESSES):
        told.refusals.on_refused("api_key", ATTACKER)
    assert told.refusals.wait(ATTACKER) <= (GUESSES + 1) * SECONDS_PER_GUESS


@pytest.mark.parametrize("cause", ["missing", "expired", "revoked", "other_user", "limit_address", "origin", "host"])
def test_what_is_no_guess_slows_nobody(cause: str) -> None:
    told = Told()
    for _ in range(10 * GUESSES):
        told.refusals.on_refused(cause, ATTACKER)
    assert told.refusals.wait(ATTACKER) == 0
    assert told.refusals.counted[cause] == 10 * GUESSES


def test_of_ipv6_a_whole_network_is_one() -> None:
    told = Told()
    for number in range(GUESSES):
        told.refusals.on_refused("api_key", f"2001:db8::{number:x}")
    assert told.refusals.wait("2001:db8::ffff") > 0
    assert told.refusals.wait("2001:db8:0:1::1") == 0
    assert told.refusals.wait("::ffff:192.0.2.7") == 0


def test_the_tables_are_bounded() -> None:
    told = Told()
    for number in range(ADDRESSES + 50):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        told.refusals.on_fault("api_key", address)
        told.refusals.on_proven(address, KEY)
    assert len(told.refusals._failures) == len(told.refusals._proven) == ADDRESSES


async def calls(at: SessionOwner, secret: str, address: str, count: int = 1) -> list[int]:
    answers = [
        await at.call(
            "GET", "/api/clients", peer=("10.0.0.1", 1), headers={**bearer(secret), "x-forwarded-for": address}
        )
        for _ in range(count)
    ]
    assert all((answer.status_code == 429) == ("retry-after" in answer.headers) for answer in answers)
    return [answer.status_code for answer in answers]


async def test_brute_force_by_http() -> None:
    at = house(behind_proxy, **WHOLE)
    assert await calls(at, KEY, NEIGHBOUR) == [200]
    assert await calls(at, "wrong", ATTACKER, GUESSES + 5) == [401] * GUESSES + [429] * 5
    # A right guess looks as a wrong one does, in every way.
    assert await calls(at, KEY, ATTACKER) == [429]
    # Others behind the same proxy go on.
    assert await calls(at, KEY, NEIGHBOUR) == [200]
    assert await calls(at, KEY, "192.0.2.8") == [200]
    at.stage.pass_time(SECONDS_PER_GUESS)
    assert await calls(at, KEY, ATTACKER) == [200]
    # What was right from there before goes on, whatever others do behind that address.
    assert await calls(at, "wrong", ATTACKER, 2) == [401, 429]
    assert await calls(at, KEY, ATTACKER) == [200]
    counted = at.stage.gateway.refusals.counted
    assert (counted["api_key"], counted["slowed_down"]) == (GUESSES + 1, 7)


def attempt(at: Stage, path: str, secret: str, address: str = ATTACKER) -> int:
    answer = at.gateway.admit(handshake(path, headers=bearer(secret), address=address))
    return refusal(answer)[0] if hasattr(answer, "status") else 101


def test_brute_force_in_handshakes() -> None:
    at = stage(**WHOLE)
    assert [attempt(at, "/requester", "wrong") for _ in range(GUESSES + 2)] == [403] * GUESSES + [429] * 2
    assert attempt(at, "/requester", KEY) == 429
    assert attempt(at, "/requester", KEY, NEIGHBOUR) == 101
    at.pass_time(10 * SECONDS_PER_GUESS)
    assert attempt(at, "/requester", KEY) == 101


def test_who_comes_in_as_nobody_learns_nothing_of_a_key() -> None:
    at = stage(**WHOLE)
    for _ in range(GUESSES):
        assert attempt(at, "/", "wrong") == 101
    session, _ = at.connect("/", headers=bearer(KEY), address=ATTACKER)
    assert session.key is None


def last(at: Stage, path: str, message: dict[str, Any], address: str = ATTACKER) -> int | None:
    session, peer = at.connect(path, address=address)
    at.say(session, message)
    return peer.close_code


@pytest.mark.parametrize("path", ["/worker", "/"])
@pytest.mark.parametrize("form", ["handshake", "connect"])
def test_brute_force_of_the_handshake_key(path: str, form: str) -> None:
    at = stage(**WHOLE)

    def worker(secret: str, address: str = ATTACKER) -> int | None:
        data = {"handshake_key": secret} if form == "handshake" else {"role": "worker", "token": secret}
        return last(at, path, {"type": form, "data": data}, address)

    assert worker(HANDSHAKE, NEIGHBOUR) is None
    codes = [worker("wrong") for _ in range(GUESSES + 1)]
    assert codes == [CloseCode.NOT_AUTHENTICATED] * GUESSES + [CloseCode.RATE_LIMITED]
    assert worker(HANDSHAKE) == CloseCode.RATE_LIMITED
    assert worker(HANDSHAKE, NEIGHBOUR) is None
    at.pass_time(SECONDS_PER_GUESS)
    assert worker(HANDSHAKE) is None
    assert worker("wrong") == CloseCode.NOT_AUTHENTICATED
    assert worker(HANDSHAKE) is None


def test_tokens_that_do_not_hold() -> None:
    known = FakeTokens()
    good = known.make("good")
    at = stage(tokens=known, authentication="required", **WHOLE)

    def register(shown: str) -> int | None:
        message = {"type": "c_client_register", "client_id": "c1", "user_id": "ann", "token": shown}
        return last(at, "/", message)

    codes = [register("a.b.c") for _ in range(GUESSES + 1)]
    assert codes == [CloseCode.NOT_AUTHENTICATED] * GUESSES + [CloseCode.RATE_LIMITED]
    answer = at.gateway.admit(handshake("/", headers=bearer("a.b.c"), address=ATTACKER))
    assert refusal(answer)[0] == 429
    # Nobody can guess one that holds: whose it is doesn't suffer from who else is behind her address.
    assert register(good) is None


@pytest.mark.parametrize("dialect", ["c_client", "envelope"])
def test_guesses_on_an_open_connection_count_as_others_do(dialect: str) -> None:
    known = FakeTokens()
    at = stage(tokens=known, authentication="required", **WHOLE)
    session, peer = at.connect("/", address=ATTACKER)
    if dialect == "c_client":
        refresh: dict[str, Any] = {"type": "token_refresh", "token": "a.b.c"}
        at.ask(session, {"type": "c_client_register", "client_id": "c1", "token": known.make("ann")})
    else:
        refresh = {"type": "custom", "data": {"event": "token_refresh", "token": "a.b.c"}}
        at.ask(session, {"type": "connect", "data": {"client_id": "c1", "token": known.make("ann")}})
    told = [at.ask(session, refresh)[0] for _ in range(GUESSES + 2)]
    codes = [said["code"] if dialect == "c_client" else said["data"]["code"] for said in told]
    assert codes == ["unauthorized"] * GUESSES + ["rate_limited"] * 2
    # It keeps what it has; another guess from its address is looked at no sooner.
    assert not peer.closes
    assert attempt(at, "/requester", KEY) == 429
    assert attempt(at, "/requester", KEY, NEIGHBOUR) == 101
    assert at.gateway.refusals.counted["signature"] == GUESSES
    assert at.gateway.refusals.counted["slowed_down"] >= 2


def test_each_cause_is_counted_and_told_with_the_address() -> None:
    at = stage(
        allowed_origins=["https://www.example.com"],
        allowed_hosts=["gw.example.com"],
        max_connections_per_address=1,
        **WHOLE,
    )
    at.gateway.admit(handshake("/", headers={"origin": "https://evil.example"}, address=ATTACKER))
    at.gateway.admit(handshake("/", host="evil.example", address=ATTACKER))
    at.gateway.admit(handshake("/requester", address=ATTACKER))
    at.connect("/", address=ATTACKER)
    at.gateway.admit(handshake("/", address=ATTACKER))
    causes = ["origin", "host", "forbidden", "limit_address"]
    assert at.journal.refused == [(cause, ATTACKER) for cause in causes]
    assert at.gateway.counters.refused == dict.fromkeys(causes, 1)


async def test_each_cause_by_http() -> None:
    at = house(allowed_origins=["https://www.example.com"], allowed_hosts=["gw.example.com"], **WHOLE)
    address = "203.0.113.9"
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {}, bearer("wrong")):
        await at.call("GET", "/api/clients", peer=(address, 1), headers=headers)
    assert at.stage.journal.refused == [(cause, address) for cause in ("origin", "host", "no_api_key", "api_key")]
    development = house()
    await development.call("GET", "/api/clients", peer=(address, 1))
    assert development.stage.journal.refused == [("locality", address)]
    shut = house(production=True)
    await shut.call("GET", "/api/clients", peer=(address, 1))
    assert shut.stage.journal.refused == [("no_api_key", address)]
