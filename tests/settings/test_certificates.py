"""TLS in the settings: which files can be used, what is said of others, and which ports there are beside it."""

import subprocess
from pathlib import Path

import pytest

from service.settings import Settings, SettingsError
from tests.certificates import Certificate, make_certificate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def problems(certificate: Path | str, key: Path | str, **more: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        Settings.load({"PORTICO_TLS_CERT": str(certificate), "PORTICO_TLS_KEY": str(key), **more})
    return refused.value.problems


@pytest.mark.parametrize("environ", [{}, {"PORT": "8443", "ENVIRONMENT": "production"}])
def test_with_tls_there_is_one_port(made: Certificate, environ: dict[str, str]) -> None:
    settings = Settings.load({**environ, **{name: str(value) for name, value in made.settings.items()}})
    assert (settings.tls_cert, settings.tls_key) == (str(made.file), str(made.key))
    assert (settings.websocket_port, settings.worker_port) == (None, None)


def test_ports_beside_it_speak_tls_too_where_they_are_asked_for(made: Certificate) -> None:
    asked = {"WEBSOCKET_PORT": "9001", "WORKER_PORT": "9002", "PORTICO_REDIRECT_PORT": "9003"}
    settings = Settings.load({**asked, **{name: str(value) for name, value in made.settings.items()}})
    assert (settings.websocket_port, settings.worker_port, settings.redirect_port) == (9001, 9002, 9003)


def test_an_authority_of_clients(made: Certificate, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (told,) = problems(made.file, made.key, PORTICO_TLS_CLIENT_CA=str(broken))
    assert told.startswith("PORTICO_TLS_CLIENT_CA (")
    assert "cannot be used" in told
    (told,) = problems(made.file, made.key, PORTICO_TLS_CLIENT_CA=str(made.key))
    assert "which holds no certificate in PEM form" in told


def test_files_that_are_not_there(made: Certificate, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    (told,) = problems(missing, made.key)
    assert told.startswith("PORTICO_TLS_CERT is ")
    assert "cannot be read (No such file or directory)" in told
    (told,) = problems(made.file, tmp_path)
    assert told.startswith("PORTICO_TLS_KEY is ")
    assert "cannot be read (Is a directory)" in told
    assert len(problems(missing, missing)) == 2
    assert "not a usable path" in problems("nul\0", made.key)[0]


def test_files_that_are_something_else(made: Certificate, tmp_path: Path) -> None:
    (told,) = problems(made.key, made.key)
    assert "holds no certificate in PEM form" in told
    (told,) = problems(made.file, made.file)
    assert "holds no private key in PEM form" in told
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (told,) = problems(damaged, made.key)
    assert "cannot be used (" in told


def test_the_key_of_another(made: Certificate, tmp_path: Path) -> None:
    (told,) = problems(made.file, make_certificate(tmp_path, "other").key)
    assert "is not the key of the certificate in PORTICO_TLS_CERT" in told


def test_a_key_with_a_password(made: Certificate, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    command = ["openssl", "pkey", "-in", str(made.key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    (told,) = problems(made.file, locked)
    assert "is encrypted" in told
    assert "secret" not in told


def test_a_platform_that_ends_tls_by_itself(made: Certificate) -> None:
    environ = {"PORT": "5000", "DYNO": "web.1", **{name: str(value) for name, value in made.settings.items()}}
    assert any("end TLS by themselves" in line for line in Settings.load(environ).warnings())
