"""What a request for `chat` may say, and what is made of it for the API.

Knows the rules, no connection. Raises ChatFault with a sentence for whatever can't be asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from portico.wire.safe_text import safe_text

from .faults import ChatFault, Ending
from .rules import ChatRules

ROLES: Final = ("system", "user", "assistant")
MAX_TEMPERATURE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation that may be asked: its messages, and how they are to be answered. `max_tokens` 0: no limit."""

    messages: list[dict[str, str]]
    model: str
    max_tokens: int
    temperature: float | None = None


def question_of(params: object, rules: ChatRules) -> Question:
    """What a request's `data` asks. Raises ChatFault."""
    if not isinstance(params, Mapping):
        raise _wrong('chat needs {"messages": [{"role": "user", "content": "…"}]}.')
    return Question(
        _messages(params.get("messages"), rules),
        _model(params.get("model"), rules),
        _max_tokens(params.get("max_tokens"), rules),
        _temperature(params.get("temperature")),
    )


def _messages(given: object, rules: ChatRules) -> list[dict[str, str]]:
    if not isinstance(given, list) or not given:
        raise _wrong('messages must be a list with at least one {"role": "user", "content": "…"}.')
    if len(given) > rules.max_messages:
        raise _too_long(f"it has {len(given)} messages, and at most {rules.max_messages} are taken")
    messages = [_message(item) for item in given]
    size = sum(len(message["content"]) for message in messages)
    if size > rules.max_characters:
        raise _too_long(f"it has {size} characters, and at most {rules.max_characters} are taken")
    if not any(message["role"] == "user" for message in messages):
        raise _wrong('messages must have one with the role "user".')
    return messages


def _message(item: object) -> dict[str, str]:
    if not isinstance(item, Mapping):
        raise _wrong('Each of the messages must be an object such as {"role": "user", "content": "…"}.')
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise _wrong(f"The role of a message must be one of {', '.join(ROLES)}.")
    if not isinstance(content, str):
        raise _wrong("The content of a message must be a text.")
    return {"role": role, "content": content}


def _model(given: object, rules: ChatRules) -> str:
    if given is None or given == rules.model:
        return rules.model
    if not isinstance(given, str) or not 0 < len(given) <= 256 or not given.isprintable():
        raise _wrong("model must be the name of a model.")
    if given in rules.models or "*" in rules.models:
        return given
    offered = ", ".join([rules.model, *rules.models])
    raise ChatFault(
        Ending.UNKNOWN_MODEL, f"The model '{safe_text(given, 100)}' is not offered here; there are: {offered}."
    )


def _max_tokens(given: object, rules: ChatRules) -> int:
    if given is None:
        return rules.max_tokens
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise _wrong("max_tokens must be a whole number, 1 or more.")
    return min(given, rules.max_tokens) if rules.max_tokens else given


def _temperature(given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= MAX_TEMPERATURE:
        raise _wrong(f"temperature must be a number from 0 to {MAX_TEMPERATURE:g}.")
    return float(given)


def body_of(question: Question, *, token_field: str) -> dict[str, Any]:
    """The request to the API, as JSON has it. `token_field`: what the API calls the limit of tokens."""
    body: dict[str, Any] = {
        "model": question.model,
        "messages": question.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if question.max_tokens:
        body[token_field] = question.max_tokens
    if question.temperature is not None:
        body["temperature"] = question.temperature
    return body


def _wrong(sentence: str) -> ChatFault:
    return ChatFault(Ending.BAD_REQUEST, sentence)


def _too_long(why: str) -> ChatFault:
    return ChatFault(Ending.TOO_LONG, f"The conversation is too long ({why}): begin a new one, or shorten it.")
