"""Frames as another implementation reads them."""

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame as ReadFrame
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from portico.wire.frame import Frame


def read(wire: bytes) -> list[ReadFrame]:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(wire)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, ReadFrame)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537, 1 << 20])
def test_the_header_says_the_length(size: int) -> None:
    frame = Frame(b"x" * size)
    (found,) = read(frame.wire)
    assert (found.opcode, found.fin, found.data) == (Opcode.TEXT, True, frame.payload)
    header = len(frame.wire) - size
    assert header == (2 if size < 126 else 4 if size < 65536 else 10), "the shortest form, as the RFC demands"


def test_two_frames_in_a_row_stay_two() -> None:
    frames = [Frame(b"a" * 125), Frame("ü".encode() * 63)]
    assert [found.data for found in read(frames[0].wire + frames[1].wire)] == [frame.payload for frame in frames]


def test_repr_shows_no_content() -> None:
    assert repr(Frame(b"secret")) == "<Frame of 6 bytes>"
