"""The form of messages between nodes."""

import msgspec
import pytest

from service.core.dispatch.model import OutcomeKind
from service.core.dispatch.remote_messages import (
    Attempt,
    AttemptResult,
    Offer,
    OfferedWorker,
    decode_attempt,
    decode_names,
    decode_offer,
    decode_result,
    encode,
)


def test_messages_come_out_as_they_went_in() -> None:
    worker = OfferedWorker(7, 2, "w", 1.5, 16, 3, 0.002, True, {"n2": 1})
    offer = Offer(False, True, {2: ["echo"], 3: None}, [worker], [4, 5])
    assert decode_offer(encode(offer)) == offer
    attempt = Attempt("r-1.1", 99, "echo", b"{}", 3000, True, 1, "k", ("w1",), 7, False)
    assert decode_attempt(encode(attempt)) == attempt
    result = AttemptResult("r-1.1", OutcomeKind.OK, False, b"1", None, "w", 0.25)
    assert decode_result(encode(result)) == result
    assert decode_names(encode(["a", "b"])) == ["a", "b"]


def test_fields_that_an_older_node_does_not_send_have_their_defaults() -> None:
    attempt = Attempt("r-1.1", 99, "echo", b"{}", 3000, True, 1, None, (), None, True)
    fields = msgspec.msgpack.decode(encode(attempt))
    assert decode_attempt(msgspec.msgpack.encode(fields[:11])) == attempt
    assert decode_attempt(msgspec.msgpack.encode([*fields, "from a newer one"])) == attempt


def test_what_is_no_such_message_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_offer(encode(["no", "offer"]))
