"""Close frames: written within their bound, and found behind anything."""

from hypothesis import given
from hypothesis import strategies as st

from service.transports.close_frames import close_frame, skip_to_close

from .raw import TEXT as TEXT_OPCODE
from .raw import close_frame as client_close
from .raw import frame


def test_a_reason_is_cut_between_characters() -> None:
    sent = close_frame(1000, "é" * 100)
    assert sent[1] == 2 + 122
    assert sent[4:].decode() == "é" * 61


@given(st.lists(st.binary(max_size=400), max_size=5), st.lists(st.integers(1, 50), max_size=60), st.booleans())
def test_a_close_is_found_behind_anything(payloads: list[bytes], chunks: list[int], closed: bool) -> None:
    data = b"".join(frame(TEXT_OPCODE, payload, fin=False) for payload in payloads)
    if closed:
        data += client_close(1000)
    rest, missing, found = b"", 0, False
    sizes = iter(chunks)
    position = 0
    while position < len(data) and not found:
        size = next(sizes, len(data))
        rest, missing, found = skip_to_close(rest + data[position : position + size], missing)
        position += size
        assert len(rest) < 14
    assert found == closed
