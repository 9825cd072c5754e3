"""What programs are told when something fails: one printable sentence, with the reason."""

import itertools
from typing import Any

import pytest

from portico import Backoff, Client, GaveUp, NoWorkers, RequestFailed, RequestTimeout, WorkerLost, WorkersBusy
from portico.client.errors import ConnectFailed, DiscoveryFailed, printable, reason_of, request_failed
from tests.portico.client.fake_gateway import Events


def chain(*errors: BaseException) -> BaseException:
    """The first error, caused by the second, and so on."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (chain(OSError("all failed"), ExceptionGroup("all failed", [OSError("refused")])), "all failed"),
        (chain(ValueError(""), OSError("certificate verify failed")), "certificate verify failed"),
        (chain(ValueError("no valid answer"), EOFError("connection closed")), "connection closed"),
        (EOFError(), "EOFError"),
        (OSError("Server disconnected."), "Server disconnected"),
        (ValueError("two\nlines"), "two\\nlines"),
    ],
)
def test_the_reason_is_the_innermost_that_says_something(error: BaseException, said: str) -> None:
    assert reason_of(error) == said


def test_a_chain_that_goes_round_is_no_trouble() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert reason_of(one) in ("one", "other")


@pytest.mark.parametrize("where", [{"url": "ws://127.0.0.1:9"}, {"base_url": "http://127.0.0.1:9"}])
async def test_nobody_there_is_a_sentence_without_the_innards(where: dict[str, Any]) -> None:
    events = Events()
    with pytest.raises(GaveUp) as caught:
        async with Client(**where, backoff=Backoff(max_attempts=1), on_event=events):
            raise AssertionError("never entered")
    assert isinstance(caught.value.__cause__, ConnectFailed | DiscoveryFailed)
    assert "127.0.0.1:9" in str(caught.value)
    assert "exception" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("No available workers", NoWorkers),
        ("Workers busy", WorkersBusy),
        ("Worker lost", WorkerLost),
        ("Worker response timeout", RequestTimeout),
        ("division by zero", RequestFailed),
    ],
)
def test_an_answer_s_error_is_the_exception_of_its_cause(error: str, kind: type[RequestFailed]) -> None:
    failed = request_failed(error, "r1", "w1")
    assert type(failed) is kind
    assert (str(failed), failed.error, failed.request_id, failed.processed_by) == (error, error, "r1", "w1")


def test_untrusted_text_is_escaped_and_cut() -> None:
    assert printable("a\x1b[31m" + "x" * 500) == "a\\x1b[31m" + "x" * 194 + "…"
