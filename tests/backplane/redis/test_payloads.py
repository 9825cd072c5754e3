"""What nodes send one another: what was written is read again, and whatever else comes is None and no exception."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from portico.wire.messages import Event
from service.backplane.redis import payloads
from service.backplane.redis.payloads import Ack, ClusterMessage, Push
from service.core.cluster.backplane import Published

TEXT = st.text(max_size=20)
NUMBERS = st.integers(0, 2**53)
EVENTS = st.builds(Event, TEXT, st.binary(max_size=50).map(Raw), plain=st.none() | st.binary(max_size=20))


@given(EVENTS, TEXT, NUMBERS, st.none() | TEXT)
def test_an_event_is_read_as_it_was_written(event: Event, node: str, number: int, publication_id: str | None) -> None:
    body = payloads.body_of(event, node, number, publication_id)
    push = Push(node, number, event.type, bytes(event.data), event.plain, publication_id)
    assert payloads.read_kept(body) == push
    assert payloads.event_of(push, "user:u1", 7) == Event(event.type, event.data, "user:u1", 7, event.plain)
    assert payloads.read_push(payloads.live(body)) == (push, None, 0, b"")
    assert payloads.read_push(payloads.live(body, b"epoch")) == (push, None, 0, b"epoch")


@given(NUMBERS, NUMBERS, st.binary(max_size=200))
def test_a_durable_one_says_where_it_stands(offset: int, previous: int, epoch: bytes) -> None:
    body = payloads.body_of(Event("t"), "n", 1)
    # As the script makes it (push.lua).
    message = b"\7" + struct.pack(">QQB", offset, previous, len(epoch)) + epoch + body
    assert payloads.read_push(message) == (payloads.read_kept(body), offset, previous, epoch)
    named = b"\6" + bytes([len(epoch)]) + epoch + body
    assert payloads.read_push(named) == (payloads.read_kept(body), None, 0, epoch)


@given(st.lists(st.builds(Ack, NUMBERS, NUMBERS, NUMBERS)), TEXT, st.binary(max_size=50), st.integers(0, 2**64 - 1))
def test_what_comes_to_a_node(some: list[Ack], kind: str, body: bytes, number: int) -> None:
    assert payloads.read_inbox(payloads.acks(some)) == some
    assert payloads.read_inbox(payloads.cluster_message(ClusterMessage("a", kind, body))) == ClusterMessage(
        "a", kind, body
    )
    assert payloads.read_inbox(payloads.fence(number)) == number


@given(st.none() | TEXT, st.none() | NUMBERS, NUMBERS, NUMBERS)
def test_a_receipt(stream: str | None, offset: int | None, matched: int, queued: int) -> None:
    published = Published("id", stream, offset, matched, queued, True)
    value = payloads.receipt(published)
    assert payloads.read_receipt("id", value) == published


@pytest.mark.parametrize(("offset", "known"), [(0, None), (5, 5)])
def test_a_receipt_that_is_still_to_come(offset: int, known: int | None) -> None:
    value = b"\0" + struct.pack(">Q", offset)
    assert payloads.read_receipt("id", value) is None
    assert payloads.pending_offset(value) == known
    assert payloads.pending_offset(value[:-1]) is None


def whole_ones() -> list[bytes]:
    body = payloads.body_of(Event("t", Raw(b"{}")), "n", 1, "id")
    return [
        payloads.live(body),
        b"\7" + struct.pack(">QQB", 2, 1, 3) + b"abc" + body,
        b"\6\3abc" + body,  # as the script makes it
        payloads.live(body, b"abc"),
        payloads.acks([Ack(1, 2, 3)]),
        payloads.cluster_message(ClusterMessage("a", "k", b"b")),
        payloads.fence(9),
        payloads.receipt(Published("id", "all", 1, 2, 3, True)),
    ]


@given(st.binary(max_size=100))
@example(b"")
@example(b"\1" + b"\x91" * 100_000)  # lists in lists
@example(b"\1\xdd\xff\xff\xff\xff")  # a list of four milliards
def test_whatever_comes_nothing_is_raised(payload: bytes) -> None:
    for start in [b"", *(whole[:1] for whole in whole_ones())]:
        for message in (payload, start + payload):
            payloads.read_push(message)
            payloads.read_inbox(message)
            payloads.read_kept(message)
            payloads.read_receipt("id", message)
            payloads.pending_offset(message)


@pytest.mark.parametrize("whole", whole_ones(), ids=lambda whole: str(whole[0]))
def test_what_is_cut_off_is_not_read(whole: bytes) -> None:
    for end in range(len(whole)):
        cut = whole[:end]
        assert payloads.read_push(cut) is None
        assert payloads.read_inbox(cut) is None


def test_a_kind_that_a_node_does_not_know_is_dropped() -> None:
    for kind in (0, 2, 8, 255):
        assert payloads.read_push(bytes([kind]) + b"x" * 30) is None
        assert payloads.read_inbox(bytes([kind]) + b"x" * 30) is None


@pytest.mark.parametrize(
    ("payload", "kind"),
    [(b'{"type":"cart","n":1}', "cart"), (b'{"n": 1}', payloads.UNNAMED), (b'{"type":5}', payloads.UNNAMED)],
)
def test_an_event_from_another_program_is_passed_on_as_it_came(payload: bytes, kind: str) -> None:
    event = payloads.read_ordinary(payload)
    assert (event.type, bytes(event.data), event.plain) == (kind, payload, payload)


@pytest.mark.parametrize("payload", [b"", b"[]", b"nonsense", b'{"a":NaN}', b'{"a":1e999}', b'{"a":"\xff"}', b'{"a":1'])
def test_what_is_no_object_from_another_program_is_refused(payload: bytes) -> None:
    with pytest.raises(PeerFault):
        payloads.read_ordinary(payload)


def test_what_is_too_large_from_another_program_is_refused() -> None:
    with pytest.raises(PeerFault) as caught:
        payloads.read_ordinary(b'{"a":"' + b"x" * payloads.MAX_ORDINARY + b'"}')
    assert caught.value.code == ErrorCode.TOO_LARGE
