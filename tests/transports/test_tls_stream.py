"""A TLS session that goes on as a stream: what was read before comes first, and both ways work at once."""

import ssl
from typing import Any

import pytest
import trio

from service.transports.tls_stream import TlsStream
from tests.certificates import Certificate, make_certificate

from .test_tls_session import Both


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


class Scene:
    """A stream over a session whose handshake is over, with `received` read before; `far` is the client's socket."""

    def __init__(self, made: Certificate, received: bytes = b"") -> None:
        self.both = Both(made)
        self.both.shake_hands()
        near, self.far = trio.testing.memory_stream_pair()
        stream: Any = near  # what Hypercorn needs of a PatientStream
        self.stream = TlsStream(stream, self.both.server, received)

    async def say(self, data: bytes) -> None:
        self.both.client.write(data)
        await self.far.send_all(self.both.outgoing.read())

    async def hear(self, size: int) -> bytes:
        heard = b""
        while len(heard) < size:
            self.both.incoming.write(await self.far.receive_some(1 << 16))
            try:
                while part := self.both.client.read(1 << 14):
                    heard += part
            except ssl.SSLWantReadError:
                pass
        return heard


async def test_what_was_read_before_comes_first_in_pieces(made: Certificate) -> None:
    at = Scene(made, b"before")
    await at.stream.do_handshake()
    assert at.stream.selected_alpn_protocol() == "http/1.1"
    assert await at.stream.receive_some(4) == b"befo"
    assert await at.stream.receive_some() == b"re"
    await at.say(b"after")
    assert await at.stream.receive_some(100) == b"after"


async def test_large_data_goes_out_whole(made: Certificate) -> None:
    at = Scene(made)
    large = bytes(range(256)) * 3000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(at.stream.send_all, large)
        with trio.fail_after(30):
            assert await at.hear(len(large)) == large


async def test_the_end_of_the_network_and_of_tls(made: Certificate) -> None:
    cut = Scene(made)
    await cut.far.aclose()
    assert await cut.stream.receive_some() == b""
    said = Scene(made)
    with pytest.raises(ssl.SSLWantReadError):
        said.both.client.unwrap()
    await said.far.send_all(said.both.outgoing.read())
    assert await said.stream.receive_some() == b""
    await said.stream.aclose()
    assert await said.far.receive_some() != b"", "a goodbye by TLS"
    assert await said.far.receive_some() == b""


async def test_what_is_tampered_with_breaks_the_stream(made: Certificate) -> None:
    at = Scene(made)
    await at.far.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(trio.BrokenResourceError):
        await at.stream.receive_some()
