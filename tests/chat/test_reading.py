"""What the API's events say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.chat.event_stream import LARGEST
from service.chat.faults import ChatFault, Ending
from service.chat.reading import MAX_ANSWER, Reading, Usage


def reading() -> Reading:
    return Reading(key="k" * 20, model="m")


def read(*events: bytes) -> tuple[str, Reading]:
    one = reading()
    text = "".join(piece for event in events for piece in one.feed(b"data: " + event + b"\n\n"))
    return text, one


def test_a_refusal_of_the_model_is_its_answer() -> None:
    text, one = read(b'{"choices": [{"delta": {"content": null, "refusal": "No."}, "finish_reason": "stop"}]}')
    one.end()
    assert text == "No."


def test_an_answer_in_pieces() -> None:
    pieces = b'[{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "Yes"}]'
    assert read(b'{"choices": [{"delta": {"content": ' + pieces + b"}}]}")[0] == "Yes"


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (b'{"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "more": {}}', Usage(1, 2, 3)),
        (b'{"prompt_tokens": 1, "completion_tokens": null}', Usage(1, 0, 1)),
        (b'{"prompt_tokens": -1, "completion_tokens": 99999999999}', Usage(0, 10**9, 10**9)),
    ],
)
def test_usage(usage: bytes, counted: Usage) -> None:
    assert read(b'{"choices": [], "usage": ' + usage + b"}")[1].usage == counted


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("429", Ending.BUSY),
        ("rate_limit_exceeded", Ending.BUSY),
        ("insufficient_quota", Ending.BUSY),
        ("invalid_api_key", Ending.KEY_REFUSED),
        ("context_length_exceeded", Ending.TOO_LONG),
        ("model_not_found", Ending.UNKNOWN_MODEL),
        ("content_filter", Ending.FILTERED),
        ("server_error", Ending.API_ERROR),
        ("9" * 30, Ending.API_ERROR),
    ],
)
def test_an_error_within_the_stream(code: str, ending: Ending) -> None:
    with pytest.raises(ChatFault) as caught:
        read(b'{"error": {"message": "m", "code": "' + code.encode() + b'"}}')
    assert caught.value.ending is ending


def test_an_answer_without_end_is_cut_off() -> None:
    piece = b"x" * (LARGEST // 2)
    with pytest.raises(ChatFault, match="The answer is too long") as caught:
        read(*[b'{"choices": [{"delta": {"content": "' + piece + b'"}}]}'] * (2 + MAX_ANSWER // len(piece)))
    assert caught.value.ending is Ending.TOO_LONG


def test_nothing_after_the_end_is_read() -> None:
    text, one = read(b'{"choices": [{"delta": {"content": "a"}}]}', b"[DONE]", b"{", b'{"error": "x"}')
    assert (text, one.done) == ("a", True)


@given(st.lists(st.binary(max_size=200)))
def test_whatever_comes_is_text_or_a_fault(chunks: list[bytes]) -> None:
    one = reading()
    try:
        for chunk in chunks:
            for piece in one.feed(b"data: " + chunk):
                piece.encode()
        one.end()
    except ChatFault:
        pass
