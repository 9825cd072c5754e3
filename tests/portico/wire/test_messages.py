"""Identities, targets and their streams, and the flat form of an event."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from portico.wire.codes import ErrorCode
from portico.wire.dialects.c_client import Register
from portico.wire.faults import PeerFault
from portico.wire.messages import (
    ADDRESS_FIELDS,
    EVERYBODY,
    IDENTITY_FIELDS,
    Event,
    Identity,
    Target,
    check_name,
    flat,
    identity_of,
    stream_of,
    targets_of,
)

TARGETS = [EVERYBODY, *(Target(kind, value) for kind in ADDRESS_FIELDS for value in ("x", "a:b", ":", "all", "é"))]


def test_no_two_targets_share_a_stream() -> None:
    assert len({stream_of(target) for target in TARGETS}) == len(TARGETS)


@pytest.mark.parametrize(
    ("target", "stream"),
    [(EVERYBODY, "all"), (Target("user_id", "u1"), "user:u1"), (Target("channel_id", "a:b"), "channel:a:b")],
)
def test_the_name_of_a_stream(target: Target, stream: str) -> None:
    assert stream_of(target) == stream


def test_whoever_belongs_to_a_target_is_found_by_it() -> None:
    assert targets_of(Identity()) == [EVERYBODY]
    everything = Identity(**{field: f"my-{field}" for field in IDENTITY_FIELDS})
    assert targets_of(everything) == [EVERYBODY, *(Target(kind, f"my-{kind}") for kind in ADDRESS_FIELDS)]
    # A user's name is shown, and is no address.
    assert "username" not in ADDRESS_FIELDS


def test_of_a_longer_message_the_identity_stays() -> None:
    message = Register(client_id="c", user_id="u", token="t")
    assert identity_of(message) == Identity(client_id="c", user_id="u")


@pytest.mark.parametrize("name", [None, "", "ann", "Grüße, 日本 👩‍👩‍👧", "\u200d"])
def test_a_name_that_can_be_shown(name: str | None) -> None:
    check_name(name, "user_id")
    Identity(username=name).check()


@pytest.mark.parametrize("mark", ["\n", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\ufeff"])
def test_a_name_that_could_forge_a_line_is_refused(mark: str) -> None:
    with pytest.raises(PeerFault) as caught:
        Identity(username=f"a{mark}b").check()
    assert (caught.value.code, caught.value.field) == (ErrorCode.BAD_FIELD, "username")
    assert mark not in caught.value.message


KEYS = st.text(max_size=5) | st.sampled_from(["type", "stream", "offset"])


@given(st.dictionaries(KEYS, st.integers() | st.text(max_size=5)), st.booleans())
def test_in_the_flat_form_the_gateway_s_names_win(data: dict[str, object], durable: bool) -> None:
    raw = Raw(json.dumps(data).encode())
    event = Event("news", raw, "user:u1", 7) if durable else Event("news", raw)
    ours = {"type": "news", **({"stream": "user:u1", "offset": 7} if durable else {})}
    theirs = {key: value for key, value in data.items() if key not in ("type", "stream", "offset")}
    assert json.loads(flat(event)) == {**theirs, **ours}


def test_what_is_in_the_data_stays_as_it_came() -> None:
    assert flat(Event("t", Raw(b'{"a": 1.50, "b":[1,  2]}'))) == b'{"type":"t","a":1.50,"b":[1,  2]}'


@pytest.mark.parametrize("stream", [None, "user:u1"])
@pytest.mark.parametrize(
    ("first", "last"), [(b"", b""), (b'"type":5,', b""), (b"", b',"offset":5'), (b'"t\\u0079pe":5,', b"")]
)
@pytest.mark.parametrize("count", [1, 300, 5000])
def test_the_flat_form_of_many_keys_is_that_of_few(count: int, first: bytes, last: bytes, stream: str | None) -> None:
    many = b", ".join(b'"k%d" : %d' % (number, number) for number in range(count))
    event = Event("t", Raw(b" {%b%b%b} " % (first, many, last)), stream, None if stream is None else 7)
    expected: dict[str, object] = {"type": "t", **{f"k{number}": number for number in range(count)}}
    if stream is not None:
        expected |= {"stream": stream, "offset": 7}
    found = json.loads(flat(event))
    assert found == expected
    assert list(found) == list(expected)
    assert flat(event).count(b'"type"') == 1


def test_nothing_is_made_of_very_many_keys() -> None:
    """A dict of all of them took eight times as long as a text of the same size."""
    event = Event("t", Raw(b"{%b}" % b",".join(b'"k%d":0' % number for number in range(20_000))))
    flat(event)
    tracemalloc.start()
    try:
        flat(event)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(bytes(event.data))
    finally:
        tracemalloc.stop()
