"""permessage-deflate: what is agreed on, and inflating within a bound."""

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.transports.deflate import Inflater, Unfit, negotiate

LIMIT = 100_000


def deflated(data: bytes) -> bytes:
    """A message as it is on the wire: a deflate stream without its last four bytes (RFC 7692 section 7.2.1)."""
    deflate = zlib.compressobj(wbits=-15)
    return (deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def inflate(data: bytes, step: int, out: bytearray) -> None:
    inflater = Inflater()
    for start in range(0, len(data), step):
        inflater.take(data[start : start + step], out, LIMIT)
    inflater.end(out, LIMIT)


@given(st.binary(max_size=3000), st.integers(1, 4000))
def test_what_was_compressed_comes_back_however_it_is_cut(data: bytes, step: int) -> None:
    out = bytearray()
    inflate(deflated(data), step, out)
    assert out == data


@pytest.mark.parametrize("step", [1, 1000, 10_000_000])
def test_a_bomb_is_stopped_at_the_limit(step: int) -> None:
    out = bytearray()
    bomb = deflated(bytes(50_000_000))
    with pytest.raises(Unfit) as caught:
        inflate(bomb, step, out)
    assert caught.value.code == 1009
    assert len(out) <= LIMIT + 65536


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_are_inflated_or_unfit(data: bytes) -> None:
    out = bytearray()
    with suppress(Unfit):
        inflate(data, 7, out)
    assert len(out) <= LIMIT + 65536


@pytest.mark.parametrize(
    ("offers", "window"),
    [
        ("permessage-deflate", 15),
        ("x-unknown, permessage-deflate; client_max_window_bits", 15),
        ("permessage-deflate; server_max_window_bits=10", 10),
        ("permessage-deflate; server_max_window_bits=99, permessage-deflate", 15),
    ],
)
def test_the_first_offer_that_can_be_met(offers: str, window: int) -> None:
    agreement = negotiate(offers)
    assert agreement is not None
    assert agreement.window_bits == window
    assert "server_no_context_takeover" in agreement.header
    assert "client_no_context_takeover" in agreement.header


@pytest.mark.parametrize(
    "offers", ["", "x-unknown", "permessage-deflate; nonsense", ";;;", "permessage-deflate; a=\xe9"]
)
def test_what_cannot_be_met_is_not_agreed_to(offers: str) -> None:
    assert negotiate(offers) is None
