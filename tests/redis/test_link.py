"""What all connections to Redis have in common: how they begin and end, what is said of it, and the next one."""

import io
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from service.observe import make_log
from service.redis.address import Address
from service.redis.faults import FAULTS, MalformedReply, Refusal, Unreachable, reason, refused
from service.redis.link import Link, ask_all, ask_once, open_link, until_one_fails
from service.redis.resp import encode

from ..backplane.redis_server import redis_server

PATIENT = 60.0


async def served(answer: bytes, ask: Callable[[Address], Awaitable[object]]) -> object:
    """What comes of asking somebody who says the same to everything."""

    async def say(stream: trio.SocketStream) -> None:
        async with stream:
            async for _ in stream:
                await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, say, 0, host="127.0.0.1"))
        try:
            return await ask(Address("127.0.0.1", listener.socket.getsockname()[1], password="s3cret"))
        except FAULTS as error:
            return error
        finally:
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer", [b"-ERR wrong number of arguments for AUTH s3cret\r\n", b"-WRONGPASS s3cret is no password\r\n"]
)
async def test_what_is_answered_to_auth_is_not_repeated(answer: bytes) -> None:
    error = await served(answer, open_link)
    assert isinstance(error, Refusal)
    assert "s3cret" not in str(error) + reason(error)
    assert error.word == answer[1:].split()[0].decode()
    assert "check those in REDIS_URL" in reason(error)


async def test_an_answer_that_nobody_asked_for_is_out_of_step() -> None:
    error = await served(b"+OK\r\n+OK\r\n+OK\r\n", open_link)
    assert isinstance(error, MalformedReply)
    assert "out of step" in reason(error)


async def test_what_is_no_redis_is_told(tmp_path: Path) -> None:
    error = await served(b"HTTP/1.1 400 Bad Request\r\n\r\n", partial(ask_once, questions=[("PING",)], seconds=5))
    assert isinstance(error, MalformedReply)


def test_the_code_of_a_refusal_may_be_anything() -> None:
    assert refused("AUTH", Refusal("s3cret is wrong")).word == "ERR"
    assert str(refused("GET", Refusal("WRONGTYPE of key"))) == "WRONGTYPE of key"


def test_reasons_are_clauses() -> None:
    broken = trio.BrokenResourceError()
    broken.__cause__ = OSError(104, "Connection reset by peer")
    assert reason(broken) == "Connection reset by peer"
    assert reason(trio.BrokenResourceError()) == "the connection broke"
    assert reason(trio.TooSlowError(), 2.0) == "it did not answer within 2 s"
    assert reason(ExceptionGroup("", [ExceptionGroup("", [Unreachable("it ended")])])) == "it ended"
    assert len(reason(Refusal("ERR " + "x" * 10_000))) < 300


async def test_the_first_of_several_tasks_that_fails_ends_all() -> None:
    ended: list[str] = []

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise Unreachable("gone")

    async def last() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("last")

    with pytest.raises(Unreachable, match="gone"):
        await until_one_fails(last, fail)
    assert ended == ["last"]


async def test_a_link_is_made_anew_and_each_change_is_said_once(tmp_path: Path) -> None:
    said = io.StringIO()
    with redis_server(tmp_path / "redis") as redis:
        link = Link(Address("127.0.0.1", redis.port), name="me", purpose="tests", log=make_log("json", "debug", said))
        uses = 0
        reasons: list[str] = []
        stirred = trio.Event()

        async def use(stream: trio.abc.Stream) -> None:
            nonlocal uses
            assert b"name=me" in b"".join(one for one in await ask_all(stream, [("CLIENT", "LIST")]) if one)  # type: ignore[misc]
            uses += 1
            link.is_up()
            stirred.set()
            assert not await stream.receive_some()
            raise Unreachable("it closed the connection")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.keep, use, reasons.append)
            for expected in (1, 2):
                with trio.fail_after(PATIENT):
                    await stirred.wait()
                stirred = trio.Event()
                assert uses == expected
                redis.kill()
                with trio.fail_after(PATIENT):
                    # Several tries in vain, for one and the same reason.
                    while len(reasons) < expected * 4:  # noqa: ASYNC110 - nothing tells of it
                        await trio.sleep(0.01)
                if expected == 1:
                    redis.start()
                    reasons.clear()
                    reasons += [""] * 4
            nursery.cancel_scope.cancel()
    lines = said.getvalue().splitlines()
    assert sum("connected to Redis" in line for line in lines) == 2
    assert sum("the connection to Redis was lost" in line for line in lines) == 2
    assert 2 <= sum("cannot connect to Redis" in line for line in lines) <= 4
    assert all('"purpose": "tests"' in line or '"purpose":"tests"' in line for line in lines)
    assert link.losses == 2


def test_a_command_is_encoded_by_its_bytes() -> None:
    assert encode(["SET", b"\r\n", "ü", 7]) == b"*4\r\n$3\r\nSET\r\n$2\r\n\r\n\r\n$2\r\n\xc3\xbc\r\n$1\r\n7\r\n"
