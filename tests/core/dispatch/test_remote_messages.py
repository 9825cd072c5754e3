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
    offer_messages,
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


@pytest.mark.parametrize("whole", [True, False])
def test_an_offer_that_is_too_large_is_told_in_several_messages(whole: bool) -> None:
    sets: dict[int, list[str] | None] = {n: [f"command-{n}-{m}" for m in range(50)] for n in range(5)}
    workers = [OfferedWorker(100 + n, n % 5, f"worker-{n}", 1.0, 16, 0, 0.0, False, {}) for n in range(300)]
    offer = Offer(whole, True, sets, workers, [1, 2], asks=True)
    assert offer_messages(offer) == [encode(offer)]
    limit = 8000
    messages = offer_messages(offer, limit)
    assert all(len(message) <= limit for message in messages)
    first, *others = map(decode_offer, messages)
    assert (first.whole, first.gone) == (whole, [1, 2])
    assert [part.asks for part in (first, *others)] == [True] + [False] * len(others), "it is asked once"
    assert not any(other.whole or other.gone or other.follow for other in others)
    assert all(part.waits for part in (first, *others))
    assert [worker for part in (first, *others) for worker in part.workers] == workers
    assert first.follow == [worker.number for part in others for worker in part.workers]
    known: dict[int, list[str] | None] = {}
    for part in (first, *others):
        assert not known.keys() & part.command_sets.keys(), "each once"
        known |= part.command_sets
        assert all(worker.commands in known for worker in part.workers), "before it is needed"
    assert known == sets


def test_a_worker_that_no_message_has_room_for_is_left_out() -> None:
    sets: dict[int, list[str] | None] = {1: ["x" * 10_000], 2: None}
    workers = [OfferedWorker(n, 1 if n == 7 else 2, "w", 1.0, 16, 0, 0.0, False, {}) for n in range(5, 10)]
    (message,) = offer_messages(Offer(True, False, sets, workers, []), 8000)
    told = decode_offer(message)
    assert [worker.number for worker in told.workers] == [5, 6, 8, 9]
    assert told.command_sets == {2: None}
