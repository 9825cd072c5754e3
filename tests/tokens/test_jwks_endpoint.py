"""The JWKS endpoint, against a real HTTP server that is slow, gone, or lies."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio

from service.core.proof import KeyAwaited, NotProven, cause_of
from service.tokens import jwks_endpoint
from service.tokens.jwks_endpoint import JwksEndpoint
from service.tokens.keys import public_keys
from service.tokens.tokens import TokenVerifier

from .signing import NOW, another_key, jwk, public_pem, signing_key, token


class Told:
    """What a source has told."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.problems: list[str] = []
        self._heard = trio.Event()

    def on_keys(self, source: str, count: int) -> None:
        self.counts.append(count)
        self._hear()

    def on_key_trouble(self, source: str, problem: str) -> None:
        self.problems.append(problem)
        self._hear()

    def _hear(self) -> None:
        self._heard.set()
        self._heard = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(10):
            while not condition():
                await self._heard.wait()


class Endpoint:
    """An HTTP server that answers what it is told to."""

    def __init__(self) -> None:
        self.keys: list[dict[str, object]] = [jwk("ES256", kid="one")]
        self.raw: bytes | None = None
        self.hang = False
        self.dribble = b""
        self.asked = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request:
                some = await stream.receive_some()
                if not some:
                    return
                request += some
            self.asked += 1
            if self.hang:
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
                await trio.sleep_forever()
            if self.dribble:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(self.dribble)
                    while True:
                        await trio.sleep(0.01)
                        await stream.send_all(b"x")
            body = json.dumps({"keys": self.keys}).encode()
            head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            with suppress(trio.BrokenResourceError):  # it has read enough of too much
                await stream.send_all(self.raw or head + body)


@asynccontextmanager
async def endpoint() -> AsyncIterator[tuple[Endpoint, str]]:
    server = Endpoint()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        yield server, f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/keys"
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"MIN_BETWEEN": 0.0, "RETRY": 0.02, "TIMEOUT": 0.5}.items():
        monkeypatch.setattr(jwks_endpoint, name, seconds)


async def test_keys_are_fetched_and_rotated_without_a_gap() -> None:
    told = Told()
    async with endpoint() as (server, url), trio.open_nursery() as nursery:
        source = JwksEndpoint(url, told)
        assert len(source.ring) == 0
        nursery.start_soon(source.run)
        await told.until(lambda: told.counts == [1])
        server.keys.append(jwk("Ed25519", kid="two"))
        assert source.ring.knows("one")
        assert not source.ring.knows("two")
        source.want("two")
        await told.until(lambda: len(told.counts) > 1)
        assert source.ring.knows("one")
        assert source.ring.knows("two")
        del server.keys[0]
        source.want("three")
        await told.until(lambda: told.counts[-1] == 1 and len(told.counts) > 2)
        assert not source.ring.knows("one")
        nursery.cancel_scope.cancel()


LIES: dict[str, bytes] = {
    "an error": b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
    "a redirect": b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    "a login page": b"HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n<html>login</html>",
    "no keys": b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"keys":[]}',
    "too much": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (1 << 20),
    "no HTTP": b"hello\r\n\r\n",
    "a redirect to a file": b"HTTP/1.1 301 Moved\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n",
    "half an answer": b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n{"keys":[',
    "a bomb": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lying_endpoint_changes_nothing(lie: str) -> None:
    told = Told()
    async with endpoint() as (server, url), trio.open_nursery() as nursery:
        source = JwksEndpoint(url, told)
        nursery.start_soon(source.run)
        await told.until(lambda: told.counts == [1])
        server.raw = LIES[lie]
        source.want("two")
        await told.until(lambda: bool(told.problems))
        assert source.ring.knows("one")
        assert "127.0.0.1" not in told.problems[0]
        server.raw = None
        await told.until(lambda: len(told.counts) > 1)
        nursery.cancel_scope.cancel()


async def test_an_endpoint_that_hangs() -> None:
    told = Told()
    async with endpoint() as (server, url), trio.open_nursery() as nursery:
        source = JwksEndpoint(url, told)
        server.hang = True
        nursery.start_soon(source.run)
        await told.until(lambda: bool(told.problems))
        server.hang = False
        await told.until(lambda: told.counts == [1])
        nursery.cancel_scope.cancel()


DRIBBLES = {
    "a head": b"HTTP/1.1 200 OK\r\nx: ",
    "a body": b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
    "a body without end": b"HTTP/1.1 200 OK\r\n\r\n",
    "a status": b"HTTP/1.1 2",
}


@pytest.mark.parametrize("what", DRIBBLES)
async def test_an_endpoint_that_never_comes_to_an_end_holds_nothing(what: str) -> None:
    told = Told()
    async with endpoint() as (server, url), trio.open_nursery() as nursery:
        source = JwksEndpoint(url, told)
        server.dribble = DRIBBLES[what]
        nursery.start_soon(source.run)
        await told.until(lambda: len(told.problems) > 1)
        assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0, "a thread still waits for it"
        server.dribble = b""
        await told.until(lambda: told.counts == [1])
        nursery.cancel_scope.cancel()


async def test_private_keys_that_are_published_are_no_keys() -> None:
    told = Told()
    async with endpoint() as (server, url), trio.open_nursery() as nursery:
        source = JwksEndpoint(url, told)
        nursery.start_soon(source.run)
        await told.until(lambda: told.counts == [1])
        for kind in ("ES256", "RS256", "Ed25519"):
            server.keys = [jwk("ES384", kid="two"), {**signing_key(kind).as_dict(private=True), "kid": "three"}]
            told.problems.clear()
            source.want("two")
            await told.until(lambda: bool(told.problems))
            assert "private key" in told.problems[0]
            assert source.ring.knows("one")
            assert not source.ring.knows("two")
        nursery.cancel_scope.cancel()


async def test_keys_of_one_id_and_of_several_kinds_each_check_their_own() -> None:
    told = Told()
    async with endpoint() as (server, url), trio.open_nursery() as nursery:
        server.keys = [jwk(kind, kid="one") for kind in ("ES256", "RS256", "Ed25519", "ES384")]
        server.keys += [jwk("RS256", kid="two", alg="RS256"), {"kty": "oct", "k": "c2VjcmV0" * 8, "kid": "one"}]
        source = JwksEndpoint(url, told)
        nursery.start_soon(source.run)
        await told.until(lambda: told.counts == [5])
        check = TokenVerifier(lambda: source.ring, wall=lambda: NOW)
        for kind in ("ES256", "RS256", "Ed25519", "ES384"):
            assert check.verify(token(kind, header={"kid": "one"})).user_id == "ann"
        for kind, kid in (("HS256", "one"), ("ES512", "one")):
            with pytest.raises(NotProven):
                check.verify(token(kind, header={"kid": kid}))
        by_another_algorithm = token("PS256", key=signing_key("RS256"), header={"kid": "one"})
        assert check.verify(by_another_algorithm).user_id == "ann"
        with pytest.raises(NotProven):
            check.verify(token("PS256", key=signing_key("RS256"), header={"kid": "two"}))
        nursery.cancel_scope.cancel()


async def test_a_token_whose_key_is_not_there_yet_is_told_to_come_again() -> None:
    told = Told()
    async with endpoint() as (server, url), trio.open_nursery() as nursery:
        server.hang = True
        source = JwksEndpoint(url, told)
        check = TokenVerifier(lambda: source.ring, wall=lambda: NOW, on_unknown_key=source.want)
        nursery.start_soon(source.run)
        await told.until(lambda: bool(told.problems))
        # No keys at all: nobody can say anything of any token.
        for text in (token("ES256"), token("ES256", header={"kid": "one"})):
            with pytest.raises(KeyAwaited):
                check.verify(text)
        server.hang = False
        await told.until(lambda: told.counts == [1])
        assert check.verify(token("ES256", header={"kid": "one"})).user_id == "ann"
        # A key that was rotated in, and one that never was.
        server.keys.append(jwk("Ed25519", kid="two"))
        for kind, kid in (("Ed25519", "two"), ("ES384", "never")):
            with pytest.raises(KeyAwaited):
                check.verify(token(kind, header={"kid": kid}))
        await told.until(lambda: source.ring.knows("two"))
        assert check.verify(token("Ed25519", header={"kid": "two"})).user_id == "ann"
        while source.want("never"):  # noqa: ASYNC110 - until an answer has come that was asked for after it was shown
            await trio.sleep(0.01)
        with pytest.raises(NotProven) as refused:
            check.verify(token("ES384", header={"kid": "never"}))
        assert refused.value.cause == "unknown_key"
        nursery.cancel_scope.cancel()


SUCCESSORS: list[tuple[str, str, str | None]] = [
    ("ES256", "ES256", "one"),
    ("ES256", "Ed25519", "one"),
    ("Ed25519", "Ed25519", None),
    ("ES256", "Ed25519", None),
]


@pytest.mark.parametrize(("kind", "then", "kid"), SUCCESSORS)
async def test_a_key_in_the_place_of_another_under_its_id(kind: str, then: str, kid: str | None) -> None:
    named: dict[str, Any] = {} if kid is None else {"kid": kid}
    told, now = Told(), 1000.0
    async with endpoint() as (server, url), trio.open_nursery() as nursery:
        server.keys = [jwk(kind, **named)]
        source = JwksEndpoint(url, told, now=lambda: now)
        check = TokenVerifier(lambda: source.ring, wall=lambda: NOW, on_unknown_key=source.want, on_doubt=source.doubt)
        nursery.start_soon(source.run)
        await told.until(lambda: told.counts == [1])
        check.verify(token(kind, header=named))
        successor = another_key(then)
        server.keys = [{**successor.as_dict(private=False), **named}]
        shown = token(then, key=successor, header=named)
        with pytest.raises(KeyAwaited):
            check.verify(shown)
        await told.until(lambda: len(told.counts) > 1)
        assert check.verify(shown).user_id == "ann"
        with pytest.raises((NotProven, KeyAwaited)):
            check.verify(token(kind, header=named))
        nursery.cancel_scope.cancel()


def test_forged_tokens_are_refused_and_dont_keep_it_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_endpoint, "MIN_BETWEEN", 10.0)
    now = 1000.0
    source = JwksEndpoint("http://127.0.0.1:1/", Told(), now=lambda: now)
    source._ring, source._good_until = public_keys(json.dumps(jwk("ES256", kid="one")).encode()), 2000.0
    check = TokenVerifier(lambda: source.ring, wall=lambda: NOW, on_unknown_key=source.want, on_doubt=source.doubt)

    def cause(kind: str, kid: str) -> str:
        with pytest.raises((NotProven, KeyAwaited)) as caught:
            check.verify(token(kind, key=another_key(kind), header={"kid": kid}))
        return cause_of(caught.value)

    source._asked_at = now
    assert cause("ES256", "one") == "signature"
    assert source._wanted.is_set(), "it is asked again, when it may be"
    now += 10
    assert cause("ES256", "one") == "key_awaited"
    source._asked_at = now
    assert [cause("ES256", "one") for _ in range(3)] == ["signature"] * 3
    now += 10
    # What no key of an endpoint's can have signed is not waited for, nor asked about.
    source._wanted = trio.Event()
    assert cause("HS256", "one") == "unknown_key"
    assert not source._wanted.is_set()


def test_what_is_remembered_of_key_ids_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_endpoint, "MAX_UNKNOWN", 3)
    source = JwksEndpoint("http://127.0.0.1:1/", Told(), now=lambda: 0.0)
    source._ring, source._good_until = public_keys(public_pem("ES256")), 1.0
    assert all(source.want(f"k{number}") for number in range(10))
    assert list(source._unknown) == ["k7", "k8", "k9"]


async def test_an_endpoint_that_is_not_there_at_first() -> None:
    told = Told()
    async with trio.open_nursery() as nursery:
        source = JwksEndpoint("http://127.0.0.1:1/keys", told)
        nursery.start_soon(source.run)
        await told.until(lambda: len(told.problems) > 1)
        assert len(source.ring) == 0
        nursery.cancel_scope.cancel()


async def test_keys_too_old_are_given_up() -> None:
    told, now = Told(), 1000.0
    async with endpoint() as (_, url), trio.open_nursery() as nursery:
        source = JwksEndpoint(url, told, now=lambda: now)
        nursery.start_soon(source.run)
        await told.until(lambda: told.counts == [1])
        now += jwks_endpoint.MAX_STALE - 1
        assert source.ring.knows("one")
        now += 1
        assert len(source.ring) == 0
        nursery.cancel_scope.cancel()


async def test_unknown_key_ids_cost_the_endpoint_nothing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(jwks_endpoint, "MIN_BETWEEN", 10.0)
    monkeypatch.setattr(jwks_endpoint, "REFRESH", 300.0)
    asked: list[float] = []

    async def ask(self: JwksEndpoint) -> bool:
        self._asked_at = trio.current_time()
        asked.append(self._asked_at)
        return True

    monkeypatch.setattr(JwksEndpoint, "_ask", ask)
    async with trio.open_nursery() as nursery:
        source = JwksEndpoint("http://127.0.0.1:1/", Told())
        nursery.start_soon(source.run)
        for _ in range(1000):
            await trio.sleep(0.1)
            source.want("nobody")
        nursery.cancel_scope.cancel()
    assert 9 <= len(asked) <= 12
    assert min(later - earlier for earlier, later in pairwise(asked)) >= 10
