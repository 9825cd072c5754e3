"""TLS between two memory BIOs, and what a client's certificate proves."""

import ssl
from contextlib import suppress

import pytest

from service.transports.tls_session import TlsSession, proof_of
from tests.certificates import Certificate, make_certificate


def test_what_a_client_s_certificate_says() -> None:
    told = {
        "subject": ((("organizationName", "Shop"),), (("commonName", "box"),)),
        "notBefore": "Jan  1 00:00:00 2026 GMT",
        "notAfter": "Jan  1 00:00:00 2027 GMT",
        "subjectAltName": (("IP Address", "10.0.0.1"), ("DNS", "*.maths.example.com")),
    }
    proof = proof_of(told, "ab12")
    assert (proof.role, proof.user_id, proof.token_id) == ("worker", None, "sha256:ab12")
    assert (proof.issued_at, proof.expires_at) == (1767225600.0, 1798761600.0)
    # A star in a name is no pattern of ours.
    assert proof.fields == {"client_id": (".maths.example.com", ".maths.example.com/*")}
    assert proof_of({"subject": ((("commonName", "box"),),)}, "").fields == {"client_id": ("box", "box/*")}
    assert proof_of({}, "").fields == {}


class Both:
    """A session, and OpenSSL's own client, over two memory BIOs."""

    def __init__(self, made: Certificate) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.file, made.key)
        context.set_alpn_protocols(["http/1.1"])
        trusting = made.trusted()
        trusting.set_alpn_protocols(["http/1.1"])
        self.server = TlsSession(context)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = trusting.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def pass_on(self) -> None:
        self.incoming.write(self.server.take_outgoing())
        self.server.feed(self.outgoing.read())

    def shake_hands(self) -> None:
        over = False
        while not over:
            with suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
            self.pass_on()
            over = self.server.shake_hands()
        self.pass_on()
        self.client.do_handshake()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_both_ways_until_the_peer_says_that_it_is_done(made: Certificate) -> None:
    both = Both(made)
    assert not both.server.shake_hands(), "nothing has come"
    both.server.end()
    assert both.server.outgoing == 0, "there is nobody to say goodbye to yet"
    both.shake_hands()
    assert (both.server.established, both.server.protocol, both.server.certificate) == (True, "http/1.1", None)
    large = bytes(range(256)) * 256  # four records
    both.client.write(large)
    both.pass_on()
    assert both.server.open() == large
    assert (both.server.open(), both.server.closed) == (b"", False)
    both.server.seal(memoryview(large))
    assert both.server.outgoing > len(large)
    both.pass_on()
    heard = b""
    while len(heard) < len(large):
        heard += both.client.read(1 << 14)
    assert heard == large
    with suppress(ssl.SSLWantReadError):
        both.client.unwrap()
    both.pass_on()
    assert (both.server.open(), both.server.closed) == (b"", True)
    both.server.end()
    assert both.server.outgoing > 0


def test_what_breaks_the_protocol_is_an_error_and_an_alert(made: Certificate) -> None:
    both = Both(made)
    both.server.feed(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        both.server.shake_hands()
    other = Both(made)
    other.shake_hands()
    other.server.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError):
        other.server.open()
    assert other.server.outgoing > 0
