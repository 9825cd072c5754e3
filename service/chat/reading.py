"""What the API's answer says, event by event or all at once; sans-I/O.

Promises that whatever comes is text and numbers of bounded size, or a ChatFault; the key is in no fault.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from .event_stream import EventStream, TooLarge
from .faults import ChatFault, Ending, cut, error_in, filtered, malformed, refusal, web_page

MAX_ANSWER: Final = 2 * 2**20
"""Characters that one answer may have."""
_LONGEST_NAME: Final = 256
_MOST_TOKENS: Final = 10**9
_DONE: Final = b"[DONE]"


class _Piece(Struct):
    type: str = ""
    text: str | None = None


class _Text(Struct):
    content: str | list[_Piece] | None = None
    refusal: str | None = None  # the model's own no, in place of an answer


class _Choice(Struct):
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: object = None


_chunk = msgspec.json.Decoder(_Chunk)


class Usage(Struct, frozen=True):
    """The tokens that an answer took, as the API counts them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Reading:
    """One answer of the API. `model`: the one that was asked for."""

    def __init__(self, *, key: str, model: str) -> None:
        self._key = key
        self._asked = model
        self._events = EventStream()
        self._size = 0
        self._begun = False
        self.model = model
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.done = False
        """Whether the API has said that this is all."""

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The pieces of text in these bytes; empty ones tell of life without text. Raises ChatFault."""
        try:
            events = self._events.feed(chunk)
        except TooLarge:
            raise malformed("an event that is too large") from None
        for data in events:
            if self.done:
                return
            if data.strip() == _DONE:
                self.done = True
                return
            yield self._read(data)

    def whole(self, body: bytes) -> str:
        """The text of an answer that came as one JSON object, though events were asked for. Raises ChatFault."""
        text = self._read(body)
        self.done = True
        return text

    def end(self) -> None:
        """Nothing more comes. Raises ChatFault where that was not all."""
        if not self.done and self.finish_reason is None:
            raise cut() if self._begun else malformed("no answer")
        if not self._begun:
            raise malformed("an answer without content")
        if self.finish_reason == "content_filter" and not self._size:
            raise filtered()

    def _read(self, data: bytes) -> str:
        try:
            chunk = _chunk.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise (web_page() if data.lstrip()[:1] == b"<" else malformed("what is no answer of a model")) from None
        if chunk.error is not None:
            text, code = error_in(chunk.error)
            raise refusal(_status_of(code), text, code, key=self._key, model=self._asked)
        if chunk.model:
            self.model = chunk.model[:_LONGEST_NAME]
        if chunk.usage is not None:
            self.usage = _counted(chunk.usage)
        if not chunk.choices:
            return ""
        self._begun = True
        choice = chunk.choices[0]
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason[:_LONGEST_NAME]
        said = choice.delta or choice.message
        text = "" if said is None else _text_of(said)
        self._size += len(text)
        if self._size > MAX_ANSWER:
            raise ChatFault(
                Ending.TOO_LONG,
                f"The answer is too long, over {MAX_ANSWER} characters: set PORTICO_CHAT_MAX_TOKENS.",
            )
        return text


def _text_of(said: _Text) -> str:
    content = said.content
    if isinstance(content, list):  # some servers tell an answer's text from what the model thinks before it
        content = "".join(piece.text or "" for piece in content if piece.type == "text")
    return content or said.refusal or ""


def _status_of(code: str) -> int:
    """The HTTP status that an error within a stream would have had."""
    if code.isascii() and code.isdecimal() and 400 <= int(code[:4]) < 600:
        return int(code)
    known = {"rate_limit_exceeded": 429, "rate_limit_error": 429, "insufficient_quota": 429, "invalid_api_key": 401,
             "invalid_request_error": 400, "context_length_exceeded": 400, "BadRequestError": 400,
             "model_not_found": 404, "content_filter": 400}  # fmt: skip
    return known.get(code, 500)


def _counted(usage: _Usage) -> Usage:
    prompt, completion = (
        min(max(0, count or 0), _MOST_TOKENS) for count in (usage.prompt_tokens, usage.completion_tokens)
    )
    total = prompt + completion if usage.total_tokens is None else min(max(0, usage.total_tokens), _MOST_TOKENS)
    return Usage(prompt, completion, total)
