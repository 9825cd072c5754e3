"""Sources of keys, against a real HTTP server that is slow, gone, or lies."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from service.tokens import sources
from service.tokens.keys import BadKey
from service.tokens.sources import JwksEndpoint, KeyFile

from .signing import jwk, public_pem


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
    for name, seconds in {"MIN_BETWEEN": 0.0, "RETRY": 0.02, "TIMEOUT": 0.5, "FILE_CHECK": 0.02}.items():
        monkeypatch.setattr(sources, name, seconds)


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
        source.want()
        await told.until(lambda: len(told.counts) > 1)
        assert source.ring.knows("one")
        assert source.ring.knows("two")
        del server.keys[0]
        source.want()
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
        source.want()
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
        now += sources.MAX_STALE - 1
        assert source.ring.knows("one")
        now += 1
        assert len(source.ring) == 0
        nursery.cancel_scope.cancel()


async def test_unknown_key_ids_cost_the_endpoint_nothing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(sources, "MIN_BETWEEN", 10.0)
    monkeypatch.setattr(sources, "REFRESH", 300.0)
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
            source.want()
        nursery.cancel_scope.cancel()
    assert 9 <= len(asked) <= 12
    assert min(later - earlier for earlier, later in pairwise(asked)) >= 10


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    told, path = Told(), tmp_path / "keys.pem"
    source = KeyFile(path, told)
    with pytest.raises(BadKey, match="cannot be read"):
        source.load()
    path.write_bytes(public_pem("ES256"))
    source.load()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        path.write_bytes(b"being written")
        await told.until(lambda: bool(told.problems))
        assert len(source.ring.candidates("ES256", None)) == 1
        path.unlink()
        await told.until(lambda: len(told.problems) == 2)
        assert len(source.ring.candidates("ES256", None)) == 1
        other = tmp_path / "new"
        other.write_bytes(public_pem("Ed25519") + public_pem("ES384"))
        other.rename(path)
        await told.until(lambda: told.counts[-1] == 2)
        assert len(source.ring.candidates("ES256", None)) == 0
        nursery.cancel_scope.cancel()
