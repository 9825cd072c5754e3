"""Certificates that are read again: what cannot be used changes nothing."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from service.settings.certificates import certificate_problems
from service.transports.server_certificates import Certificates, TlsFiles
from tests.certificates import Certificate, make_certificate, swap


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


SPOILT: list[Callable[[Path], object]] = [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    lambda path: path.write_bytes(b"-----BEGIN CERTIFICATE-----\n" + bytes(5 << 20)),
    lambda path: None,
    # What would hold whoever opens or reads it.
    os.mkfifo,
    lambda path: path.symlink_to("/dev/zero"),
    Path.mkdir,
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_cannot_be_used_changes_nothing_and_is_said(
    made: Certificate, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    used = replace(made, file=tmp_path / "used.pem", key=tmp_path / "used.key")
    swap(used, made)
    log: list[tuple[str, dict[str, object]]] = []
    files = TlsFiles(str(used.file), str(used.key))
    certificates = Certificates(
        files, lambda: certificate_problems(*files), lambda event, /, **fields: log.append((event, fields))
    )
    certificates.load()
    before = certificates.context("http")
    used.file.unlink()
    spoil(used.file)
    certificates.reload("SIGHUP")
    assert certificates.context("http") is before
    assert certificates.failures == 1
    ((event, fields),) = log
    assert event == "certificate_kept"
    assert "PORTICO_TLS_CERT" in str(fields["reason"])
    if used.file.is_dir():
        used.file.rmdir()
    swap(used, made)
    certificates.reload("SIGHUP")
    assert certificates.context("http") is not before
    assert log[-1][0] == "certificate_read"
