"""What went wrong with Redis, in words, and never with a password."""

import pytest
import trio

from service.redis.faults import FAULTS, MalformedReply, Refusal, Unreachable, reason, refused


def broken(cause: Exception | None) -> trio.BrokenResourceError:
    error = trio.BrokenResourceError()
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Refusal("OOM command not allowed"), "it answers 'OOM command not allowed'"),
        (Refusal("x" * 1000), f"it answers '{'x' * 200}'"),
        (Unreachable("it drains"), "it drains"),
        (MalformedReply("byte 3"), "what answers there is not Redis, or out of step (byte 3)"),
        (trio.TooSlowError(), "it did not answer within 2 s"),
        (trio.ClosedResourceError(), "the connection broke"),
        (broken(None), "the connection broke"),
        (broken(OSError(104, "Connection reset by peer")), "Connection reset by peer"),
        (OSError(111, "Connection refused"), "Connection refused"),
        (OSError(), "OSError"),
        (KeyError("a"), "KeyError: 'a'"),
        (ExceptionGroup("several", [ExceptionGroup("more", [Unreachable("inside")])]), "inside"),
    ],
)
def test_every_fault_is_a_clause(error: Exception, said: str) -> None:
    assert reason(error, 2) == said
    assert isinstance(error, (*FAULTS, ExceptionGroup))


def test_without_a_time_it_only_did_not_answer() -> None:
    assert reason(trio.TooSlowError()) == "it did not answer in time"


@pytest.mark.parametrize(
    ("said", "told"),
    [("WRONGPASS invalid s3cret", "WRONGPASS"), ("s3cret is wrong", "ERR"), ("S3CRET" * 20, "S3CRET"), ("", "ERR")],
)
def test_of_a_refused_password_only_the_code_is_told(said: str, told: str) -> None:
    shown = str(refused("AUTH", Refusal(said)))
    assert shown.startswith(told)
    assert shown.endswith("it refuses user or password; check those in REDIS_URL")
    assert "s3cret" not in shown
    assert len(shown) < 100


def test_other_refusals_stay_as_they_are() -> None:
    refusal = Refusal("NOSCRIPT No matching script")
    assert refused("EVALSHA", refusal) is refusal
    assert refusal.word == "NOSCRIPT"
