"""Certificates for tests: made by OpenSSL's command for this machine's loopback, signed by themselves."""

import select
import ssl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest


class OneAtATime(ssl.SSLSocket):
    """A client's TLS that may be read by one thread while another writes, as clients do that read in a thread.

    CPython's older ssl doesn't keep the two apart: on a busy machine a client that reads the server's session tickets
    just as it writes its request may never get it out, and waits in that read until the server gives it up.
    """

    _turn: threading.RLock

    def __new__(cls, *given: Any, **more: Any) -> Self:
        made = super().__new__(cls, *given, **more)
        made._turn = threading.RLock()
        return made

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As the socket's own. It waits outside of its turn."""
        while True:
            with self._turn:
                patience = self.gettimeout()
                self.settimeout(0)
                try:
                    return super().recv(buflen, flags)
                except ssl.SSLWantReadError:
                    if patience == 0:
                        raise
                finally:
                    self.settimeout(patience)
            if not select.select([self], [], [], patience)[0]:
                raise TimeoutError("the read operation timed out")

    def send(self, data: Any, flags: int = 0) -> int:
        """As the socket's own."""
        with self._turn:
            return super().send(data, flags)


def one_at_a_time(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, whose sockets are OneAtATime."""
    context.sslsocket_class = OneAtATime
    return context


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate for `localhost` and 127.0.0.1, and its key. `file` is its CA file too."""

    file: Path
    key: Path

    @property
    def settings(self) -> dict[str, object]:
        """What makes a gateway speak TLS with it."""
        return {"PORTICO_TLS_CERT": self.file, "PORTICO_TLS_KEY": self.key}

    def trusted(self, *protocols: str) -> ssl.SSLContext:
        """What a client verifies it with; `protocols` are what it offers by ALPN."""
        context = one_at_a_time(ssl.create_default_context(cafile=self.file))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


def make_certificate(folder: Path, name: str = "server", *, called: str = "localhost") -> Certificate:
    """A fresh one, for the host `called`. Skips the test where there is no `openssl`."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    extensions = (f"subjectAltName=DNS:{called},IP:127.0.0.1", "keyUsage=critical,digitalSignature,keyCertSign")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", f"/CN={called}", "-days", "2", "-keyout", str(made.key), "-out", str(made.file)]
    for extension in extensions:
        command += ["-addext", extension]
    try:
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate")
    return made


def swap(used: Certificate, new: Certificate) -> None:
    """As certificate clients do it: each file is replaced by a rename."""
    for place, source in ((used.key, new.key), (used.file, new.file)):
        beside = place.with_suffix(".new")
        beside.write_bytes(source.read_bytes())
        beside.rename(place)
