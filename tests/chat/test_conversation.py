"""What may be asked, and what is made of it."""

from dataclasses import replace
from typing import Any

import pytest

from service.chat.conversation import body_of, question_of
from service.chat.faults import ChatFault, Ending
from service.chat.rules import ChatRules

RULES = ChatRules("http://x/v1", "k", model="m", models=("n",), max_tokens=100, max_messages=3, max_characters=10)
HI = [{"role": "user", "content": "hi"}]


def test_a_conversation() -> None:
    messages = [{"role": "system", "content": "be"}, {"role": "user", "content": "hi", "name": "x"}]
    question = question_of({"messages": messages, "temperature": 1, "stream": False, "tools": []}, RULES)
    assert body_of(question, token_field="max_completion_tokens") == {
        "model": "m",
        "messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 100,
        "temperature": 1.0,
    }


@pytest.mark.parametrize(("given", "limit", "asked"), [(None, 100, 100), (7, 100, 7), (999, 100, 100), (9, 0, 9)])
def test_the_limit_of_tokens(given: int | None, limit: int, asked: int) -> None:
    question = question_of({"messages": HI, "max_tokens": given}, replace(RULES, max_tokens=limit))
    assert body_of(question, token_field="max_tokens")["max_tokens"] == asked


def test_without_a_limit_none_is_asked_for() -> None:
    question = question_of({"messages": HI}, replace(RULES, max_tokens=0))
    assert "max_tokens" not in body_of(question, token_field="max_tokens")


@pytest.mark.parametrize(("named", "models"), [("m", ()), ("n", ("n",)), ("anything", ("*",))])
def test_models_that_may_be_named(named: str, models: tuple[str, ...]) -> None:
    assert question_of({"messages": HI, "model": named}, replace(RULES, models=models)).model == named


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (None, "chat needs"),
        ([], "chat needs"),
        ({}, "messages must be a list"),
        ({"messages": []}, "messages must be a list"),
        ({"messages": "hi"}, "messages must be a list"),
        ({"messages": ["hi"]}, "must be an object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "The role of a message must be one of"),
        ({"messages": [{"role": [], "content": "x"}]}, "The role of a message must be one of"),
        ({"messages": [{"role": "user"}]}, "The content of a message must be a text"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "must be a text"),
        ({"messages": [{"role": "system", "content": "x"}]}, 'one with the role "user"'),
        ({"messages": HI, "model": ""}, "model must be"),
        ({"messages": HI, "model": 7}, "model must be"),
        ({"messages": HI, "max_tokens": 0}, "max_tokens must be"),
        ({"messages": HI, "max_tokens": True}, "max_tokens must be"),
        ({"messages": HI, "max_tokens": 1.5}, "max_tokens must be"),
        ({"messages": HI, "temperature": 3}, "temperature must be"),
        ({"messages": HI, "temperature": float("nan")}, "temperature must be"),
        ({"messages": HI, "temperature": "hot"}, "temperature must be"),
    ],
)
def test_what_cannot_be_asked(params: Any, sentence: str) -> None:
    with pytest.raises(ChatFault, match=sentence) as caught:
        question_of(params, RULES)
    assert caught.value.ending is Ending.BAD_REQUEST


def test_too_much() -> None:
    with pytest.raises(ChatFault, match="it has 4 messages, and at most 3 are taken"):
        question_of({"messages": HI * 4}, RULES)
    with pytest.raises(ChatFault, match="it has 12 characters, and at most 10 are taken"):
        question_of({"messages": [{"role": "user", "content": "x" * 6}] * 2}, RULES)


def test_a_model_that_is_not_offered() -> None:
    with pytest.raises(ChatFault, match=r"The model 'gpt\\n9' is not offered here; there are: m, n\.") as caught:
        question_of({"messages": HI, "model": "gpt\\n9"}, RULES)
    assert caught.value.ending is Ending.UNKNOWN_MODEL
