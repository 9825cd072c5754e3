"""How a program ends that `run` runs. (Real signals, on real programs: tests/portico/test_samples.py.)"""

import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest
import trio
import trio.testing

from portico import NoWorkers, run
from portico.client.program import FAILED, INTERRUPTED, left_out


@pytest.fixture(autouse=True)
def log() -> Iterator[logging.Logger]:
    """The SDK's logger, as it was afterwards."""
    log = logging.getLogger("portico.client")
    level, handlers = log.level, list(log.handlers)
    yield log
    log.setLevel(level)
    log.handlers[:] = handlers


def raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def program() -> None:
        raise error

    return program


def ended(program: Callable[[], Awaitable[object]]) -> object:
    with pytest.raises(SystemExit) as caught:
        run(program)
    return caught.value.code


def test_where_a_program_is_only_imported_it_is_not_run() -> None:
    with left_out():
        run(raising(AssertionError("it ran")))
    with pytest.raises(AssertionError, match="it ran"):
        run(raising(AssertionError("it ran")))


def test_a_program_that_ends_returns() -> None:
    ran: list[int] = []

    async def program() -> None:
        ran.append(1)

    run(program)
    assert ran == [1]


@pytest.mark.parametrize(
    "error",
    [
        NoWorkers("No available workers"),
        ExceptionGroup("calls", [NoWorkers("No available workers")] * 3),
        ExceptionGroup("calls", [ExceptionGroup("some", [NoWorkers("No available workers")])]),
    ],
)
def test_what_the_sdk_raises_is_one_sentence(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(raising(error)) == FAILED
    assert capsys.readouterr() == ("", "No available workers\n")


def test_different_refusals_are_all_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(raising(ExceptionGroup("calls", [NoWorkers("one"), NoWorkers("two"), NoWorkers("one")]))) == FAILED
    assert capsys.readouterr().err == "one\ntwo\n"


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), ExceptionGroup("both", [ValueError("a bug"), NoWorkers("No available workers")])]
)
def test_a_bug_is_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        run(raising(error))
    assert caught.value is error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), BaseExceptionGroup("tasks", [KeyboardInterrupt(), ValueError("on the way")])]
)
def test_an_interruption_that_comes_out_is_quiet(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(raising(error)) == INTERRUPTED
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_program_finish(told: signal.Signals) -> None:
    finished: list[str] = []

    async def program() -> None:
        try:
            signal.raise_signal(told)
            await trio.sleep_forever()
        finally:
            finished.append("cleaned up")

    run(program)
    assert finished == ["cleaned up"]


def test_it_says_that_it_has_ended_where_it_was_told_to(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "propagate", False)  # pytest has set up the root logger

    async def told() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()
        finally:
            log.info("finished what was in flight")

    async def ends_by_itself() -> None:
        pass

    run(told)
    assert capsys.readouterr().err == "finished what was in flight\nended\n"
    run(ends_by_itself)
    assert capsys.readouterr().err == ""


def test_what_happens_is_shown_unless_logging_is_set_up(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def program() -> None:
        log.info("registered as w1")

    ours = logging.NullHandler()
    log.addHandler(ours)
    run(program)
    assert (log.handlers, capsys.readouterr().err) == ([ours], "")
    log.removeHandler(ours)
    monkeypatch.setattr(log, "propagate", False)  # pytest has set up the root logger
    run(program)
    assert capsys.readouterr().err == "registered as w1\n"


def test_a_second_ctrl_c_ends_it_also_where_the_interruption_is_swallowed() -> None:
    """Python raises it in whatever code is running, and that may be code that takes it for a lost connection."""
    before = signal.getsignal(signal.SIGINT)

    async def program() -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            with suppress(KeyboardInterrupt), trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                signal.raise_signal(signal.SIGINT)
                await trio.sleep(10)

    assert ended(program) == INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is before
