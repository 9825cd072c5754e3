"""The certificate that the gateway shows, read again when its files change, and the contexts for TLS made from it.

What is in force stays so until something better is there: files that can't be used change nothing but a count and a
line in the log, once for each change of the files. Connections keep what they began with. Knows OpenSSL and the files'
names; the sentences that say what is wrong with the files come from the caller (`problems`).
"""

import os
import ssl
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import trio

from service.core.counters import Metric

from .door import Log

CHECK: Final = 1.0
"""Seconds between two looks at the files."""
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others."""
_PROTOCOLS: Final = {"http": ("h2", "http/1.1")}
"""What is offered by ALPN, by the kind of port; for the others HTTP/1.1."""


class TlsFiles(NamedTuple):
    """Paths of PEM files: the certificate with those that lead to its authority, its key, and the certificates of the
    authority whose clients are known by theirs."""

    certificate: str
    key: str
    client_authority: str | None = None


class Certificates:
    """The contexts in force. `problems`: what keeps the files from being used now, a sentence each.

    Made without reading anything; `load` before any `context`.
    """

    def __init__(self, files: TlsFiles, problems: Callable[[], Iterable[str]], log: Log) -> None:
        self._files = files
        self._problems = problems
        self._log = log
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._seen: list[tuple[int, int, int] | None] = []
        self.loads = 0
        self.failures = 0

    def context(self, kind: str) -> ssl.SSLContext | None:
        """The TLS of new connections to a port of this kind; None for one that speaks none."""
        if kind == "redirect":
            return None
        return self._contexts["http" if kind == "http" else "other"]

    def metrics(self) -> list[Metric]:
        """How reading went, for the counters' `others`."""
        return [
            Metric("certificate_reads", "Times the certificate was read.", self.loads, counts=True),
            Metric("certificate_failures", "Times it could not be read again.", self.failures, counts=True),
        ]

    def load(self) -> None:
        """Read the files. Raises OSError (`ssl.SSLError` is one), and leaves what is in force."""
        self._seen = self._stamps()
        self._contexts = {kind: self._make(_PROTOCOLS.get(kind, ("http/1.1",))) for kind in ("http", "other")}
        self.loads += 1

    def reload(self, why: str) -> None:
        """Read the files again; what can't be used changes nothing. `why`: for the log."""
        self._seen = self._stamps()
        problems = list(self._problems())
        if not problems:
            try:
                self.load()
            except OSError as error:
                problems = [f"The certificate can't be used ({error})."]
        if problems:
            self.failures += 1
            self._log("certificate_kept", reason=" ".join(problems), after=why)
        else:
            self._log("certificate_read", certificate=self._files.certificate, after=why)

    async def run(self) -> None:
        """Look at the files until cancelled. Cancelling is safe."""
        while True:
            await trio.sleep(CHECK)
            stamps = self._stamps()
            # A file that is being replaced, and so is not there, is waited for: what is in force is in memory.
            if stamps != self._seen and None not in stamps:
                self.reload("its files changed")

    def _make(self, protocols: Iterable[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols(list(protocols))
        context.load_cert_chain(self._files.certificate, self._files.key, password=_no_password)
        if self._files.client_authority is not None:
            context.load_verify_locations(cafile=self._files.client_authority)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._files if path is not None]


def _stamp(path: str) -> tuple[int, int, int] | None:
    # Of what a symbolic link leads to: that is how certificates are swapped in containers.
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _no_password() -> str:
    raise ssl.SSLError("the key is encrypted")
