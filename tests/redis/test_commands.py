"""The commands of a node to a real Redis: their order, their bounds, and what becomes of them when it is away."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from service.core.cluster.backplane import PATIENCE
from service.redis.commands import Commands
from service.redis.faults import Refusal, Unreachable
from service.redis.link import AskAll
from service.redis.urls import read_url

from ..backplane.redis_server import RedisServer, redis_server, tcp_proxy

PATIENT = 60.0
MOMENT = 10.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command waits for a link for as long as a machine may stand still."""
    monkeypatch.setattr("service.redis.commands.PATIENCE", PATIENT)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@asynccontextmanager
async def running(commands: Commands) -> AsyncIterator[Commands]:
    """These commands, until the block ends."""
    async with trio.open_nursery() as nursery:
        await nursery.start(commands.run)
        yield commands
        nursery.cancel_scope.cancel()


def to(url: str, **more: int) -> Commands:
    """Commands to a Redis."""
    return Commands(read_url(url), **more)  # type: ignore[arg-type]


async def test_answers_come_in_the_order_of_the_questions(redis: RedisServer) -> None:
    async with running(to(redis.url)) as commands:
        answers: list[object] = []
        for n in range(5000):
            commands.send("ECHO", n, done=answers.append)
        assert await commands.ask("ECHO", b"\r\n\x00\xff") == b"\r\n\x00\xff"
        assert answers == [b"%d" % n for n in range(5000)]
        assert (commands.pending, commands.pending_bytes) == (0, 0)


async def test_an_error_is_an_answer(redis: RedisServer) -> None:
    async with running(to(redis.url)) as commands:
        with pytest.raises(Refusal) as refused:
            await commands.ask("NONSENSE")
        assert refused.value.word == "ERR"
        assert await commands.ask("PING") == b"PONG"


async def test_a_callback_that_raises_ends_nothing(redis: RedisServer) -> None:
    def spoil(answer: object) -> None:
        raise ValueError

    async with running(to(redis.url)) as commands:
        commands.send("PING", done=spoil)
        assert await commands.ask("PING") == b"PONG"


async def test_what_finds_the_outbox_full_is_refused_at_once(redis: RedisServer) -> None:
    redis.kill()
    async with running(to(redis.url, max_commands=3, max_bytes=1000)) as commands:
        answers: list[object] = []
        commands.send("ECHO", "x" * 5000, done=answers.append)
        assert answers == []
        commands.send("ECHO", "x", done=answers.append)
        assert isinstance(answers.pop(), Unreachable)
        with trio.fail_after(PATIENT):
            while commands.pending:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)
        answers.clear()
        for _ in range(5):
            commands.send("PING", done=answers.append)
        assert len(answers) == 2
        assert commands.refused == 4


@pytest.mark.usefixtures("patient")
async def test_what_waits_is_sent_when_redis_is_there(redis: RedisServer) -> None:
    redis.kill()
    async with running(to(redis.url)) as commands:
        assert commands.trouble is not None
        answers: list[object] = []
        commands.send("PING", done=answers.append)
        redis.start()
        with trio.fail_after(PATIENT):
            while not answers:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)
        assert answers == [b"PONG"]
        assert commands.trouble is None


async def test_what_was_sent_before_the_link_broke_is_never_sent_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tcp_proxy(redis.port) as proxy, running(to(proxy.url)) as commands:
        await commands.ask("SET", "n", 0)
        # Redis has it, and its answer gets lost.
        commands.send("INCR", "n")
        proxy.stall()
        with pytest.raises(Unreachable):
            await commands.ask("INCR", "n")
        proxy.resume()
        monkeypatch.setattr("service.redis.commands.PATIENCE", PATIENT)
        count = await commands.ask("GET", "n")
        assert isinstance(count, bytes)
        assert int(count) <= 2


async def test_a_silent_redis_is_noticed(redis: RedisServer) -> None:
    async with tcp_proxy(redis.port) as proxy, running(to(proxy.url)) as commands:
        await commands.ask("PING")
        proxy.stall()
        started = trio.current_time()
        with pytest.raises(Unreachable):
            await commands.ask("PING")
        assert trio.current_time() - started < PATIENCE + MOMENT
        with trio.fail_after(PATIENT):
            while commands.trouble is None:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)


@pytest.mark.parametrize("oldest_first", [True, False])
async def test_a_process_that_was_stopped_does_not_take_redis_for_silent(
    redis: RedisServer, oldest_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By this trio draws the order of the tasks that are ready at once: the one that reads, and those that look.
    monkeypatch.setattr("trio._core._run._r.shuffle", lambda batch: None if oldest_first else batch.reverse())
    async with running(to(redis.url)) as commands:
        await commands.ask("PING")
        answers: list[object] = []
        redis.stop()
        commands.send("ECHO", "x", done=answers.append)
        await trio.testing.wait_all_tasks_blocked()  # it is on its way
        redis.cont()
        time.sleep(PATIENCE + 0.5)  # noqa: ASYNC251 - it stands still, as where a machine has no time for it
        assert await commands.ask("PING") == b"PONG"
        assert answers == [b"x"]
        assert (commands.refused, commands.trouble) == (0, None)


async def test_what_is_pending_at_the_end_is_sent(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.redis.commands.FLUSH_SECONDS", PATIENT)
    async with running(to(redis.url)) as commands:
        await commands.ask("PING")
        for _ in range(2000):
            commands.send("INCR", "n")
    assert redis.command("GET", "n") == b"$4\r\n2000\r\n"


async def test_the_end_does_not_wait_for_a_redis_that_is_away(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.redis.commands.FLUSH_SECONDS", 3600.0)
    redis.kill()
    with trio.fail_after(PATIENT):
        async with running(to(redis.url)) as commands:
            commands.send("PING")


@pytest.mark.usefixtures("patient")
async def test_what_must_be_said_first_is_said_on_each_connection(redis: RedisServer) -> None:
    said: list[list[object]] = []

    async def prepare(ask_all: AskAll) -> None:
        said.append(await ask_all([("ECHO", "a"), ("ECHO", "b")]))

    commands = Commands(read_url(redis.url), prepare=prepare)
    async with running(commands):
        await commands.ask("PING")
        redis.command("CLIENT", "KILL", "TYPE", "normal")
        with trio.fail_after(PATIENT):
            while len(said) < 2:  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(0.01)
        assert await commands.ask("PING") == b"PONG"
        assert said == [[b"a", b"b"]] * 2


async def test_a_refused_greeting_is_told_as_trouble(redis: RedisServer) -> None:
    async def prepare(ask_all: AskAll) -> None:
        await ask_all([("AUTH", "nobody", "secret")])

    async with running(Commands(read_url(redis.url), prepare=prepare)) as commands:
        assert commands.trouble is not None
        assert "WRONGPASS" in commands.trouble
