"""TLS on one connection, sans-I/O: bytes of the network in and out, and what they mean.

Knows OpenSSL's object between two memory BIOs. What one call takes and gives is bounded by its arguments: a record has
16 KiB at most, and nothing is compressed. Raises `ssl.SSLError` where the peer breaks the protocol; what has to be said
to it then (an alert) can be had from `outgoing`.
"""

import hashlib
import ssl
from contextlib import suppress
from typing import Any, Final

from service.core.proof import Proof

RECORD: Final = 16 * 1024
"""The most that one TLS record holds (RFC 8446 section 5.1)."""


class TlsSession:
    """The server's side. `established`: the handshake is over; `closed`: the peer has said that it sends no more."""

    __slots__ = ("_incoming", "_outgoing", "_tls", "closed", "established")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.established = False
        self.closed = False

    def feed(self, data: bytes) -> None:
        """What came from the network."""
        self._incoming.write(data)

    def shake_hands(self) -> bool:
        """Go on with the handshake. Whether it is over."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.established = True
        return True

    def open(self) -> bytes:
        """All that was fed and can be read by now."""
        parts = []
        try:
            while not self.closed and (self._incoming.pending or self._tls.pending()):
                data = self._tls.read(RECORD)
                if not data:
                    self.closed = True
                    break
                parts.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def seal(self, data: bytes | memoryview) -> None:
        """Have this go out, all of it."""
        self._tls.write(data)

    def end(self) -> None:
        """Have the peer told that nothing more comes; once its own handshake is over."""
        if self.established:
            with suppress(ssl.SSLError):  # it wants to hear the peer's, which is not waited for
                self._tls.unwrap()

    @property
    def outgoing(self) -> int:
        """Bytes for the network that wait."""
        return self._outgoing.pending

    def take_outgoing(self) -> bytes:
        """Those bytes."""
        return self._outgoing.read()

    @property
    def protocol(self) -> str | None:
        """What was agreed on by ALPN."""
        return self._tls.selected_alpn_protocol()

    @property
    def certificate(self) -> Proof | None:
        """What the client's certificate says of it; None if it showed none."""
        told: dict[str, Any] | None = self._tls.getpeercert()
        if not told:
            return None
        return proof_of(told, hashlib.sha256(self._tls.getpeercert(binary_form=True) or b"").hexdigest())


def proof_of(certificate: dict[str, Any], fingerprint: str) -> Proof:
    """A client's certificate, as `getpeercert` tells of it, as a proof: a worker's.

    It may be called what the certificate names (its first DNS name, else its common name), or that, a slash and
    anything. Its proof ends when the certificate does, and can be revoked by its fingerprint.
    """
    name = _name(certificate)
    return Proof(
        role="worker",
        fields={} if name is None else {"client_id": (name.replace("*", ""), name.replace("*", "") + "/*")},
        token_id=f"sha256:{fingerprint}",
        issued_at=_time(certificate.get("notBefore")),
        expires_at=_time(certificate.get("notAfter")),
    )


def _name(certificate: dict[str, Any]) -> str | None:
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "DNS":
            return str(value)
    for part in certificate.get("subject", ()):
        for kind, value in part:
            if kind == "commonName":
                return str(value)
    return None


def _time(told: str | None) -> float | None:
    return None if told is None else float(ssl.cert_time_to_seconds(told))
