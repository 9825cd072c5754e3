"""Whether a certificate and its key, in files, are what TLS can be served with.

Knows PEM files and what OpenSSL says of them; nothing of who serves. What is wrong becomes a sentence, never an
exception, and no sentence quotes what is in a file.
"""

import ssl
from collections.abc import Iterator
from typing import Final

from service.regular_file import read_regular_file

from .forms import quoted

CERT: Final = "PORTICO_TLS_CERT"
KEY: Final = "PORTICO_TLS_KEY"
CLIENT_CA: Final = "PORTICO_TLS_CLIENT_CA"

MAX_FILE: Final = 4 << 20
"""Bytes of one file: all the authorities that a machine trusts are a twentieth of it."""
_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_BEGINS: Final = {CERT: _CERTIFICATE, KEY: b"PRIVATE KEY-----", CLIENT_CA: _CERTIFICATE}
_HOLDS: Final = {CERT: "certificate", KEY: "private key", CLIENT_CA: "certificate"}


class _Encrypted(Exception):
    """The key wants a password."""


def certificate_problems(
    certificate: str | None, key: str | None, client_authority: str | None = None
) -> Iterator[str]:
    """A sentence for everything that keeps the files from being used; nothing if none is given."""
    if certificate is None or key is None:
        if client_authority is not None and certificate is None and key is None:
            yield f"{CLIENT_CA} is set without {CERT}: clients show certificates over TLS only; set {CERT} and {KEY}."
        if certificate is not None:
            yield f"{CERT} is set without {KEY}: set both, or neither."
        elif key is not None:
            yield f"{KEY} is set without {CERT}: set both, or neither."
        return
    unusable = [sentence for name, path in ((CERT, certificate), (KEY, key)) for sentence in _unusable(name, path)]
    yield from unusable or _mismatch(certificate, key)
    if client_authority is not None:
        yield from list(_unusable(CLIENT_CA, client_authority)) or _no_authority(client_authority)


def _unusable(name: str, path: str) -> Iterator[str]:
    try:
        content = read_regular_file(path, MAX_FILE)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a usable path"
        yield (
            f"{name} is {quoted(path)}, which cannot be read ({reason}): set it to the path of a file that the "
            "gateway may read."
        )
        return
    if _BEGINS[name] not in content:
        what = _HOLDS[name]
        yield f"{name} is {quoted(path)}, which holds no {what} in PEM form: set it to the file with the {what}."


def _no_authority(path: str) -> Iterator[str]:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        reason = (getattr(error, "reason", None) or "damaged").replace("_", " ").lower()
        yield f"{CLIENT_CA} ({quoted(path)}) cannot be used ({reason}): set it to the authority's certificates, in PEM."


def _mismatch(certificate: str, key: str) -> Iterator[str]:
    def ask() -> str:
        raise _Encrypted

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=ask)
    except _Encrypted:
        yield (
            f"{KEY} is {quoted(key)}, which is encrypted, and nobody is there to type its password at every start: "
            "set it to a file that holds the key without one."
        )
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            yield (
                f"{KEY} is {quoted(key)}, which is not the key of the certificate in {CERT} ({quoted(certificate)}): "
                "set the two that were made together; the server's own certificate comes first in its file."
            )
        else:
            reason = (error.reason or "damaged").replace("_", " ").lower()
            yield (
                f"{CERT} ({quoted(certificate)}) and {KEY} ({quoted(key)}) cannot be used ({reason}): "
                "set them to a certificate and its key in PEM form, as your certificate authority gave them."
            )
    except OSError as error:  # gone since it was read
        yield f"{CERT} and {KEY} cannot be read ({error.strerror}): set them to files that the gateway may read."
