"""What `portico serve` greets its operator with."""

import sys
from pathlib import Path

import pytest

from service.banner import banner, how_it_was_called


def test_every_address_can_be_opened_as_it_stands() -> None:
    text = banner(
        environment="development",
        api_type="combined",
        host="0.0.0.0",
        http_port=8000,
        tls=False,
        ports={"websocket": 8766, "worker": 8765},
        command="portico",
    )
    assert "http://localhost:8000 " in text
    assert "ws://localhost:8766\n" in text
    assert "ws://localhost:8765\n" in text
    assert "  portico worker --base-url http://localhost:8000\n" in text


def test_an_ipv6_host_is_in_brackets_and_tls_is_https() -> None:
    text = banner(
        environment="production", api_type="http", host="::1", http_port=1, tls=True, ports={}, command="portico"
    )
    assert "  curl https://[::1]:1/api/b-client/websocket-info\n" in text


def test_over_tls_every_port_is_named_as_it_is_spoken_to() -> None:
    text = banner(
        environment="development",
        api_type="combined",
        host="0.0.0.0",
        http_port=443,
        tls=True,
        ports={"websocket": 8766, "worker": 8765, "redirect": 80},
        command="portico",
    )
    assert "wss://localhost:8766\n" in text
    assert "wss://localhost:8765\n" in text
    assert "Redirect             http://localhost:80\n" in text


def test_the_command_is_named_as_a_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "portico"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(command)])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert how_it_was_called() == "portico"
    monkeypatch.setenv("PATH", "/nowhere")
    assert how_it_was_called() == str(command)
    monkeypatch.setattr(sys, "argv", ["service/__main__.py"])
    assert how_it_was_called() == f"{sys.executable} -m service"
