"""Which gateway a command talks to: one address, the default where none is given, and what is said of wrong files."""

from pathlib import Path

import click
import pytest

from portico.client.errors import DiscoveryFailed
from service.cli import main
from service.cli.addressing import DEFAULT_BASE_URL, address, find, key_of, trusted
from service.cli.outcomes import WRONG


def test_one_address_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_URL", raising=False)
    assert address("ws://a", None) == {"url": "ws://a"}
    assert address(None, "http://a") == {"base_url": "http://a"}
    assert address(None, None) == {"base_url": DEFAULT_BASE_URL}
    with pytest.raises(click.UsageError, match="not both"):
        address("ws://a", "http://a")


def test_the_default_is_the_environments_as_for_the_programs_of_the_how_tos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_URL", "http://b:9000")
    assert address(None, None) == {"base_url": "http://b:9000"}
    assert address(None, "http://a") == {"base_url": "http://a"}
    assert address("ws://a", None) == {"url": "ws://a"}, "it is a default, not a second address"
    monkeypatch.setenv("GATEWAY_URL", "")
    assert address(None, None) == {"base_url": DEFAULT_BASE_URL}


@pytest.mark.parametrize("command", [["status"], ["console", "-c", "list"]])
def test_commands_of_the_http_api_take_the_same_default(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_URL", "nowhere")
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == WRONG
    assert "'nowhere' is not an address" in capsys.readouterr().err


def test_a_file_without_certificates_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trusted(None) is None
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(SystemExit) as ended:
        trusted(str(file))
    assert ended.value.code == WRONG
    assert "ca.pem" in capsys.readouterr().err


def test_a_key_that_no_header_can_hold_is_refused_without_being_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert (key_of(None), key_of(""), key_of("a-key")) == (None, None, "a-key")
    with pytest.raises(SystemExit) as ended:
        key_of("s3cret\nX-Other: 1")
    assert ended.value.code == WRONG
    said = capsys.readouterr().err
    assert "--api-key" in said
    assert "s3cret" not in said


async def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(DiscoveryFailed, match=r"http://127\.0\.0\.1:1"):
        await find({"base_url": "http://127.0.0.1:1"}, None)
