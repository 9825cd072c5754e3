"""What a command's outcome is as an exit code."""

import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio

from portico.client.errors import BadAddress, ClientError, Unreachable
from portico.publisher.answers import Refused
from service.cli.outcomes import INTERRUPTED, UNREACHABLE, WRONG, explain, fail, run


async def answers_seven() -> int:
    await trio.lowlevel.checkpoint()
    return 7


async def has_no_address() -> int:
    await trio.lowlevel.checkpoint()
    raise BadAddress("'x' is no address.")


async def reaches_nobody() -> int:
    await trio.lowlevel.checkpoint()
    raise ClientError("Nobody is there.")


async def is_interrupted() -> int:
    await trio.lowlevel.checkpoint()
    raise KeyboardInterrupt


async def is_interrupted_in_a_nursery() -> int:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(is_interrupted)
    return 0


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        (answers_seven, 7, ""),
        (has_no_address, WRONG, "portico: 'x' is no address.\n"),
        (reaches_nobody, UNREACHABLE, "portico: Nobody is there.\n"),
        (is_interrupted, INTERRUPTED, ""),
        (is_interrupted_in_a_nursery, INTERRUPTED, ""),
    ],
)
def test_every_outcome_is_an_exit_code(
    program: Callable[[], Awaitable[int]], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(program)
    assert ended.value.code == code
    assert capsys.readouterr() == ("", said)


def test_a_failure_is_a_line_for_each_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        fail(WRONG, "One.", "Two.")
    assert ended.value.code == WRONG
    assert capsys.readouterr() == ("", "portico: One.\nportico: Two.\n")


def test_https_where_no_tls_is_spoken_is_told_so() -> None:
    error = Unreachable("No answer from https://localhost:8000: [SSL: WRONG_VERSION_NUMBER] wrong version number")
    error.__cause__ = OSError("a library's")
    error.__cause__.__context__ = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    error.__cause__.__context__.reason = "WRONG_VERSION_NUMBER"
    code, said = explain(error)
    assert code == UNREACHABLE
    assert said.endswith(" No TLS is spoken there: give the address with http:// (or ws://).")


def test_a_port_for_websockets_is_told_so_and_where_the_api_is() -> None:
    code, said = explain(Refused(426, "internal", "the answer is none of a gateway's"))
    assert code == UNREACHABLE
    assert said.startswith("This is a port for WebSockets, which has no HTTP API: give --base-url")
    assert "none of a gateway's" not in said
