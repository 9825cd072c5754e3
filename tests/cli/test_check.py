"""`portico check`: what it prints, and that its exit code is what `serve` would do."""

import socket
from pathlib import Path

import pytest

from tests.cli.running import ROOT, portico
from tests.gateways import free_ports


async def test_check_prints_what_is_in_force_and_masks_secrets(tmp_path: Path) -> None:
    code, out, err = await portico("check", cwd=tmp_path, WEBSOCKET_HANDSHAKE_KEY="sesame-open-right-now", PORT="3000")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "3000" in rows["PORT"]
    assert "environment" in rows["PORT"]
    assert "sesame" not in out


async def test_check_writes_no_line_of_the_gateway_s_log(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"shop publish sha256:{'0' * 64}\n")
    code, out, err = await portico(
        "check", cwd=tmp_path, PORTICO_API_KEYS_FILE="keys", PORTICO_QUOTAS="messages/user=5"
    )
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split()[1] for line in out.splitlines()}
    assert rows["PORTICO_QUOTAS"] == "messages/user=5"


@pytest.mark.parametrize("command", ["check", "serve"])
async def test_bad_settings_are_a_sentence_each_and_exit_code_2(command: str, tmp_path: Path) -> None:
    code, out, err = await portico(command, cwd=tmp_path, PORT="many", PORTICO_QUEUE_LIMTI="5")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 2
    assert all(line.startswith("portico: ") for line in err.splitlines())
    assert "PORTICO_QUEUE_LIMIT" in err


REFUSED = [
    ({"PORTICO_EXTENSIONS": "no_such_module"}, "no_such_module"),
    ({"PORTICO_EXTENSIONS": "broken_extension"}, "ZeroDivisionError"),
    ({"HOST": "192.0.2.1"}, "which is no address of this machine: set HOST"),  # for documentation, RFC 5737
    ({"HOST": "nosuch.invalid"}, "which is no address of this machine: set HOST"),
    ({"PORTICO_WORKERS": "2", "PATH": "/nowhere"}, "several processes are one gateway only through Redis"),
    ({"REDIS_URL": "redis://localhost/abc"}, "ends in the number of a database"),
]


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(("settings", "sentence"), REFUSED, ids=lambda given: "".join(given))
async def test_what_serve_refuses_check_refuses_in_the_same_words(
    command: str, settings: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "broken_extension.py").write_text("x = 1 / 0\n")
    path = f"{tmp_path}:{ROOT}"
    code, _, err = await portico(command, cwd=tmp_path, **{"PORT": "0", "PYTHONPATH": path, **settings})
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


async def test_a_port_that_is_in_use_is_a_warning_since_the_gateway_itself_may_have_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = {"HOST": "127.0.0.1", "PORT": str(port), "WEBSOCKET_PORT": "same", "ENVIRONMENT": "development"}
        code, out, err = await portico("check", cwd=tmp_path, WORKER_PORT="off", **settings)
    assert (code, err) == (0, "")
    assert f"warning: PORT={port} is in use just now" in out


async def test_check_takes_no_port_and_says_nothing_in_vain(tmp_path: Path) -> None:
    # Ports of this test's own: where somebody works on it, the usual ones may be a gateway's.
    websocket, worker = free_ports(2)
    settings = {"PORT": "0", "ENVIRONMENT": "development", "HOST": "127.0.0.1"}
    settings |= {"WEBSOCKET_PORT": str(websocket), "WORKER_PORT": str(worker)}
    code, out, err = await portico("check", cwd=tmp_path, **settings)
    assert (code, err) == (0, "")
    assert "warning" not in out


async def test_a_setting_of_chat_without_the_key_is_said_so(tmp_path: Path) -> None:
    given = {"OPEN_API_KEY": "", "OPEN_API_BASE_URL": "http://127.0.0.1:1", "PORT": "0", "ENVIRONMENT": "development"}
    code, out, _ = await portico("check", cwd=tmp_path, **given)
    assert code == 0
    assert "warning: OPEN_API_BASE_URL is set without OPEN_API_KEY, so nobody answers chat" in out
