"""A reply is given once: not twice, not never, and not at the cost of who gives it."""

import gc
import sys

import pytest

from service.core.reply import AnsweredTwice, NeverAnswered, Reply


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    found: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: found.append(report.exc_type))
    return found


def test_the_answer_gets_where_it_was_asked() -> None:
    answers: list[int] = []
    reply: Reply[int] = Reply(answers.append)
    reply(5)
    assert answers == [5]


def test_a_second_answer_is_reported_and_not_delivered(reported: list[type[BaseException]]) -> None:
    answers: list[int] = []
    reply: Reply[int] = Reply(answers.append)
    reply(1)
    reply(2)
    assert (answers, reported) == ([1], [AnsweredTwice])


def test_an_answer_while_it_is_being_answered_is_a_second_one(reported: list[type[BaseException]]) -> None:
    answers: list[int] = []

    def again(answer: int) -> None:
        answers.append(answer)
        reply(answer + 1)

    reply: Reply[int] = Reply(again)
    reply(1)
    assert (answers, reported) == ([1], [AnsweredTwice])


def test_a_question_that_is_dropped_without_an_answer_is_reported(reported: list[type[BaseException]]) -> None:
    reply: Reply[int] = Reply(print)
    del reply
    gc.collect()
    assert reported == [NeverAnswered]


def test_what_the_asker_raises_is_reported_and_not_raised(reported: list[type[BaseException]]) -> None:
    def fail(_: int) -> None:
        raise KeyError("a bug of the asker's")

    Reply(fail)(1)
    assert reported == [KeyError]


def test_who_has_gone_is_told_nothing_and_owed_nothing(reported: list[type[BaseException]]) -> None:
    answers: list[int] = []
    reply: Reply[int] = Reply(answers.append)
    reply.withdraw()
    reply(1)
    gone: Reply[int] = Reply(answers.append)
    gone.withdraw()
    del gone
    gc.collect()
    assert (answers, reported) == ([], [])
